"""Eight writers, each row offered to two of them, killed at random; and a reader all the while."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.commits import CommitRecord, checksum_of
from tests.store import writers

KILLS_AT_LEAST = 30


def make_store(path: Path, n_rows: int) -> AdapterStore:
    """Rows of 4,000 parameters in 16 chunks."""
    layout = AdapterLayout.of_modules(2, [TargetModule("a", "feed_forward", 1000, 1000)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorastyle.store.group.MAX_BLOCK", 250)
        return AdapterStore.create(path, layout, base={}, alpha=1.0, n_rows=n_rows, init={})


def start(store: AdapterStore, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, writers.__file__, str(store.path), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


class Reader:
    """Reads what is committed, again and again, and counts rows that are not as they should be."""

    def __init__(self, store: AdapterStore, expected: np.ndarray) -> None:
        self.store, self.expected = store, expected
        self.n_read, self.torn = 0, []

    def look(self) -> None:
        records = self.store.committed()
        vectors = self.store.read_rows(list(records))
        for vector, record in zip(vectors, records.values(), strict=True):
            self.n_read += 1
            if not self._whole(vector, record):
                self.torn.append(record.row)

    def _whole(self, vector: np.ndarray, record: CommitRecord) -> bool:
        as_recorded = checksum_of(vector) == record.checksum
        return as_recorded and np.array_equal(vector, self.expected[record.row])


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[AdapterStore, int, Reader]:
    """The store after the race, the number of kills, and who read it meanwhile."""
    store = make_store(tmp_path_factory.mktemp("chaos") / "adapters.zarr", writers.N_ROWS)
    expected = np.stack([writers.vector_of(row, store.size) for row in range(writers.N_ROWS)])
    reader = Reader(store, expected)
    with start(store, "race", "7") as driver:
        while driver.poll() is None:
            reader.look()
            time.sleep(0.03)
        assert driver.returncode == 0
        assert driver.stdout is not None
        return store, int(driver.stdout.read()), reader


def test_no_row_is_lost_doubled_or_torn(raced):
    store, n_kills, reader = raced
    assert n_kills >= KILLS_AT_LEAST
    assert store.rows() == list(range(writers.N_ROWS))
    assert all(store.verify(row) for row in range(writers.N_ROWS))
    np.testing.assert_array_equal(store.read_rows(range(writers.N_ROWS)), reader.expected)


def test_only_temporary_files_are_left_behind_and_they_can_be_swept(raced):
    store, _, _ = raced
    files = {str(path.relative_to(store.path)) for path in store.path.rglob("*") if path.is_file()}
    temporary = {name for name in files if re.fullmatch(r"\..*\.tmp", Path(name).name)}
    rows = range(writers.N_ROWS)
    shards, records = (
        {f"weights/c/{row}/0" for row in rows},
        {f"commits/{row:08d}.json" for row in rows},
    )
    locks = {".lock", "commits/.lock", "weights/c/.lock"}
    assert files - temporary == {"zarr.json", "weights/zarr.json"} | shards | records | locks
    assert store.sweep(older_than_s=0) == len(temporary)
    assert not list(store.path.rglob(".*.tmp"))


def test_a_reader_never_sees_a_torn_row(raced):
    _, _, reader = raced
    assert reader.n_read > writers.N_ROWS
    assert reader.torn == []


def test_rows_are_read_whole_while_they_are_rewritten_and_the_store_grows(tmp_path):
    """Every weight of a row is the same number, whatever it is: two versions never mix."""
    store = make_store(tmp_path / "adapters.zarr", writers.REWRITTEN)
    for row in range(writers.REWRITTEN):
        store.commit(row, np.full(store.size, -1, np.float32), {"value": -1}, {})
    seen = set()
    with start(store, "rewrite", "1.0") as driver:
        for n_rows in itertools.count(writers.REWRITTEN + 1):
            store.grow(n_rows)
            other = AdapterStore.open(store.path)
            assert other.n_rows == n_rows
            rows = other.read_rows(range(writers.REWRITTEN))
            assert (rows == rows[:, :1]).all()
            seen.update(rows[:, 0])
            if driver.poll() is not None:
                break
    assert driver.returncode == 0
    assert len(seen) > 2 * writers.REWRITTEN
    assert all(store.verify(row) for row in range(writers.REWRITTEN))
    store.commit(n_rows - 1, np.ones(store.size, np.float32), {"value": 1}, {})
    assert store.verify(n_rows - 1)
