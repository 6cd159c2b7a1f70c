from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from lorastyle.errors import StoreError
from lorastyle.places.local import LocalPlace
from lorastyle.store.shards import RowShards

N_COLUMNS, BLOCK = 1000, 7


def make_array(path: Path, n_columns: int = N_COLUMNS, block: int = BLOCK) -> zarr.Array:
    return zarr.create_array(
        path,
        shape=(3, n_columns),
        shards=(1, -(-n_columns // block) * block),
        chunks=(1, block),
        dtype="<f4",
        compressors=[Crc32cCodec()],
    )


def shards_at(path: Path, n_columns: int = N_COLUMNS, block: int = BLOCK) -> RowShards:
    return RowShards(LocalPlace(path), n_columns, block)


@pytest.fixture
def vector() -> np.ndarray:
    vector = np.random.default_rng(1).standard_normal(N_COLUMNS).astype(np.float32)
    vector[100:500] = 0  # zarr-python leaves chunks of zeros out
    return vector


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[RowShards, np.ndarray]:
    path = tmp_path_factory.mktemp("shards") / "a"
    rows = np.random.default_rng(2).standard_normal((3, N_COLUMNS)).astype(np.float32)
    make_array(path)[:] = rows
    return shards_at(path / "c"), rows


@given(start=st.integers(0, N_COLUMNS), width=st.integers(0, N_COLUMNS))
@settings(max_examples=60, deadline=None)
def test_every_column_range_of_what_zarr_wrote_is_read(written, start, width):
    shards, rows = written
    columns = slice(start, min(start + width, N_COLUMNS))
    np.testing.assert_array_equal(shards.read([2, 0], columns), rows[[2, 0], columns])


def test_rows_are_read_into_a_given_place_less_an_origin(written):
    shards, rows = written
    columns, origin = slice(5, 617), np.linspace(-1, 1, 612, dtype=np.float32)
    room = np.full((2, 800), 9, np.float32)
    assert shards.read([2, 0], columns, out=room[:, 10:622], origin=origin).base is room
    np.testing.assert_array_equal(room[:, 10:622], rows[[2, 0], columns] - origin)
    assert (room[:, :10] == 9).all() and (room[:, 622:] == 9).all()


@pytest.mark.parametrize(
    "out",
    [np.empty((2, 9), np.float32), np.empty((2, 10)), np.empty((10, 2), np.float32).T],
)
def test_a_place_of_another_shape_is_refused(written, out):
    with pytest.raises(ValueError, match=r"not float32 \(2, 10\) with contiguous rows"):
        written[0].read([0, 1], slice(0, 10), out=out)


def test_chunks_that_zarr_left_out_read_as_zeros(tmp_path, vector):
    array = make_array(tmp_path / "a")
    array[1] = vector
    shards = shards_at(tmp_path / "a" / "c")
    whole = shards.n_blocks * (4 * BLOCK + 4 + 16) + 4
    assert (tmp_path / "a/c/1/0").stat().st_size < whole - 4 * 350
    for columns in (slice(0, N_COLUMNS), slice(150, 400), slice(90, 110)):
        np.testing.assert_array_equal(shards.read([1], columns)[0], vector[columns])


@pytest.mark.parametrize(("n_columns", "block"), [(1000, 7), (1000, 1000), (1, 1), (64, 32)])
def test_zarr_reads_what_we_wrote(tmp_path, n_columns, block):
    array = make_array(tmp_path / "a", n_columns, block)
    vector = np.random.default_rng(3).standard_normal(n_columns).astype(np.float32)
    shards_at(tmp_path / "a" / "c", n_columns, block).write(2, vector)
    np.testing.assert_array_equal(array[2], vector)


def test_a_row_of_zeros_is_written_like_any_other(tmp_path):
    shards = shards_at(tmp_path)
    shards.write(0, np.zeros(N_COLUMNS, np.float32))
    assert not shards.read([0], slice(0, N_COLUMNS)).any()


def test_writing_leaves_no_temporary_file(tmp_path, vector):
    shards = shards_at(tmp_path)
    shards.write(0, vector)
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["0"]


def test_a_missing_row_is_named_not_read_as_zeros(tmp_path):
    with pytest.raises(StoreError, match="row 4 has no weights"):
        shards_at(tmp_path).read([4], slice(0, 3))


@pytest.mark.parametrize("position", [0, 2000, -20, -1])
def test_a_flipped_bit_is_noticed(tmp_path, vector, position):
    shards = shards_at(tmp_path)
    shards.write(0, vector)
    content = bytearray((tmp_path / "0/0").read_bytes())
    content[position] ^= 1
    (tmp_path / "0/0").write_bytes(content)
    with pytest.raises(StoreError, match=r"row 0 .*damaged"):
        shards.read([0], slice(0, N_COLUMNS))


@pytest.mark.parametrize("length", [0, 10, 1500, 4000])
def test_a_truncated_row_is_noticed(tmp_path, vector, length):
    shards = shards_at(tmp_path)
    shards.write(0, vector)
    (tmp_path / "0/0").write_bytes((tmp_path / "0/0").read_bytes()[:length])
    with pytest.raises(StoreError, match="damaged"):
        shards.read([0], slice(0, N_COLUMNS))
