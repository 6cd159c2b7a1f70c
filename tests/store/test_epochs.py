"""Attempts at a run: the later one may write, an earlier one is told who took over."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lorastyle.errors import FencedError, StoreError
from lorastyle.places.place import Place, place_of
from lorastyle.store.epochs import EpochLog


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_of(tmp_path / "run").child("epochs")


def test_epochs_count_up_and_say_whose_they_are(place):
    log = EpochLog(place)
    assert log.latest() is None
    assert [log.claim({"job": job}).number for job in ("a-1", "a-2")] == [1, 2]
    latest = log.latest()
    assert latest.number == 2
    assert latest.owner.keys() == {"host", "pid", "job"}
    assert place.names() == ["00000001.json", "00000002.json"]


def test_of_many_that_claim_at_once_each_gets_its_own_number(place):
    with ThreadPoolExecutor(8) as pool:
        fences = list(pool.map(lambda n: EpochLog(place).claim({"n": n}), range(24)))
    assert sorted(fence.number for fence in fences) == list(range(1, 25))
    for fence in fences:
        if fence.number < 24:
            with pytest.raises(FencedError):
                fence.check()
        else:
            fence.check()


def test_who_was_taken_over_is_told_by_whom_and_when(place):
    first = EpochLog(place).claim({"job": "a-1"})
    first.check()
    EpochLog(place).claim({"job": "a-2"})
    with pytest.raises(FencedError, match=r"epoch 1 may .* epoch 2 \(host .*, job a-2\), at 2"):
        first.check()


def test_a_damaged_claim_still_counts(place):
    first = EpochLog(place).claim()
    place.write("00000002.json", [b"{"])
    with pytest.raises(FencedError, match="taken over by a later one"):
        first.check()
    with pytest.raises(StoreError, match=r"00000002\.json is damaged; keep the file"):
        EpochLog(place).latest()
    assert EpochLog(place).claim().number == 3


def test_a_store_is_written_by_the_latest_attempt_only(store, vector, spec, place):
    old = store.fenced(EpochLog(place).claim())
    assert old.commit(2, vector, spec, {}).epoch == 1
    new = pickle.loads(pickle.dumps(store.fenced(EpochLog(place).claim())))
    for write in (
        lambda: old.commit(3, vector, spec, {}),
        lambda: old.commit(2, vector, spec, {}),
        lambda: old.quarantine(3, spec, "actor died"),
    ):
        with pytest.raises(FencedError, match="epoch 1 may write no more"):
            write()
    assert store.rows() == [2]
    assert new.commit(3, vector, spec, {}).epoch == 2
    assert new.quarantine(4, spec, "no images").epoch == 2


def test_a_row_that_stands_is_stamped_by_the_attempt_that_finds_it(store, vector, spec, place):
    old = store.fenced(EpochLog(place).claim())
    receipt = old.commit(2, vector, spec, {"wall_s": 1.0}).receipt
    shard = store.path / "weights/c/2/0"
    inode = shard.stat().st_ino
    new = store.fenced(EpochLog(place).claim())
    assert new.commit(2, np.nextafter(vector, 9), spec, {}).epoch == 2
    assert (store.record(2).epoch, store.record(2).receipt) == (2, receipt)
    assert shard.stat().st_ino == inode


def test_a_record_of_a_later_epoch_is_enough_to_stop(store, vector, spec, place):
    """Where the claim's own file is not visible yet, as on NFS."""
    old = store.fenced(EpochLog(place).claim())
    store.fenced(EpochLog(place).claim()).commit(2, vector, spec, {})
    place.delete("00000002.json")
    old.fence.check()
    with pytest.raises(FencedError):
        old.commit(2, 2 * vector, {"other": 1}, {})
    np.testing.assert_array_equal(store.read_rows([2])[0], vector)
