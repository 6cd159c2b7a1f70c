"""Kept arrays: here, or behind in a bucket; what is damaged is not there."""

import numpy as np
import pytest

from lorastyle.places.place import place_of
from lorastyle.runs.kept import KeptArrays

ARRAY = np.arange(6, dtype=np.uint8).reshape(2, 3)


def test_what_is_kept_is_found(tmp_path):
    kept = KeptArrays(tmp_path / "here")
    assert not kept.has("a") and kept.find("a") is None
    kept.keep("a", ARRAY)
    assert kept.has("a")
    np.testing.assert_array_equal(kept.find("a"), ARRAY)


@pytest.mark.parametrize("n_bytes", [0, 20, -1])
def test_what_is_cut_short_is_not_there(tmp_path, n_bytes):
    kept = KeptArrays(tmp_path)
    kept.keep("a", ARRAY)
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:n_bytes])
    assert not kept.has("a") and kept.find("a") is None


def test_another_machine_has_it_from_behind_and_keeps_it(tmp_path):
    behind = place_of(tmp_path / "behind")
    KeptArrays(tmp_path / "one", behind).keep("a", ARRAY)
    other = KeptArrays(tmp_path / "other", behind)
    assert other.has("a") and not (tmp_path / "other").exists()
    np.testing.assert_array_equal(other.find("a"), ARRAY)
    np.testing.assert_array_equal(KeptArrays(tmp_path / "other").find("a"), ARRAY)
