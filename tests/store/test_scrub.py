"""Scrub finds every damage, has exactly the damaged rows made again, and leaves the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lorastyle.errors import StoreError
from lorastyle.places.bucket import BucketPlace
from lorastyle.places.place import Place, place_of
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.commits import CommitLog
from lorastyle.store.scrub import examine, set_aside

BLOCK = 40
"""Columns of a chunk: three chunks and their checksums, 3 x 164 bytes; then mark and index."""
CHUNKS, MARK = 3 * (4 * BLOCK + 4), 16


def flip(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 4
    return bytes(changed)


WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "a byte short": lambda content: content[:-1],
    "its first half is gone": lambda content: content[len(content) // 2 :],
    "a byte long": lambda content: content + b"\0",
    "its first page never reached the disk": lambda content: bytes(64) + content[64:],
    "zeroed": lambda content: bytes(len(content)),
    "a bit of the first chunk": lambda content: flip(content, 17),
    "a bit of the last chunk": lambda content: flip(content, CHUNKS - 60),
    "a bit of a chunk's checksum": lambda content: flip(content, 4 * BLOCK + 1),
    "a bit of an offset": lambda content: flip(content, CHUNKS + MARK),
    "a bit of a length": lambda content: flip(content, CHUNKS + MARK + 8),
    "a bit of the index's checksum": lambda content: flip(content, len(content) - 1),
}
RECORDS: dict[str, Callable[[bytes], bytes]] = {
    "empty record": lambda content: b"",
    "record cut": lambda content: content[:-9],
    "record is no JSON": lambda content: b"\0" * len(content),
    "record is a list": lambda content: b"[]",
    "record of another row": lambda content: content.replace(b'"row": ', b'"row": 9'),
    "a letter of a name": lambda content: content.replace(b"artist-", b"brtist-"),
    "a digit of the checksum": lambda content: _with(content, "checksum", "0" * 64),
}
DAMAGES = [*WEIGHTS, *RECORDS, "other weights", "no weights", "weights of before"]
N_GOOD = 4
N_ROWS = N_GOOD + len(DAMAGES) + 3
"""Good rows; damaged ones; a failed one, an orphan, and one that was never made."""
FAILED, ORPHAN, ABSENT = N_ROWS - 3, N_ROWS - 2, N_ROWS - 1


def _with(content: bytes, key: str, value: Any) -> bytes:
    return json.dumps({**json.loads(content), key: value}).encode()


@pytest.fixture
def make(tmp_path, layout, monkeypatch) -> Callable[..., AdapterStore]:
    def make(path: Any = tmp_path / "adapters.zarr") -> AdapterStore:
        monkeypatch.setattr("lorastyle.store.group.MAX_BLOCK", BLOCK)
        store = AdapterStore.create(path, layout, base={}, alpha=1.0, n_rows=N_ROWS, init={})
        for row in range(N_ROWS - 3):
            commit(store, row)
        store.quarantine(FAILED, {"adapter_id": "artist-none"}, "no images")
        return store

    return make


def vector_of(store: AdapterStore, row: int) -> np.ndarray:
    return np.random.default_rng(row).standard_normal(store.size).astype(np.float32)


def commit(store: AdapterStore, row: int) -> None:
    spec = {"adapter_id": f"artist-{row}", "role": "train"}
    store.commit(row, vector_of(store, row), spec, {}, spec_digest=f"spec {row}")


def damage(store: AdapterStore, row: int, what: str) -> None:
    place = place_of(store.path)
    shard, record = f"weights/c/{row}/0", f"commits/{row:08d}.json"
    if what in WEIGHTS:
        change(place, shard, WEIGHTS[what])
    elif what in RECORDS:
        change(place, record, RECORDS[what])
    elif what == "other weights":
        place.write(shard, [place.read("weights/c/0/0") or b""])
    elif what == "no weights":
        place.delete(shard)
    else:
        # As after a power cut on a disk that kept the record and lost the last write of weights.
        before = place.read(shard) or b""
        store.commit(row, 2 * vector_of(store, row), {"adapter_id": "x"}, {}, spec_digest="later")
        place.write(shard, [before])


def change(place: Place, key: str, function: Callable[[bytes], bytes]) -> None:
    before = place.read(key) or b""
    after = function(before)
    assert after != before
    place.write(key, [after])


def damage_all(store: AdapterStore) -> dict[int, str]:
    damaged = dict(enumerate(DAMAGES, N_GOOD))
    for row, what in damaged.items():
        damage(store, row, what)
    store.writer.shards.write(ORPHAN, vector_of(store, ORPHAN))
    return damaged


def contents(store: AdapterStore) -> dict[str, bytes | None]:
    place = place_of(store.path)
    names = [f"weights/c/{row}/0" for row in range(N_ROWS)]
    names += [f"commits/{row:08d}.json" for row in range(N_ROWS)]
    return {name: place.read(name) for name in names}


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_every_damage_is_found_and_exactly_the_damaged_rows_are_made_again(make, kind, request):
    store = make(request.getfixturevalue("url")) if kind == "bucket" else make()
    wanted = digest_of_contents(store)
    damaged = damage_all(store)
    before = contents(store)

    found = examine(store)
    assert {bad.row: damaged[bad.row] for bad in found.bad} == damaged
    assert (found.n_good, found.n_failed, found.orphans) == (N_GOOD, 1, [ORPHAN])
    assert contents(store) == before

    assert set_aside(store, found.bad) == list(damaged)
    kept = {key: value for key, value in before.items() if key in _files_of(range(N_GOOD))}
    assert kept.items() <= contents(store).items()
    todo = store.missing({row: f"spec {row}" for row in range(FAILED)})
    assert todo == list(damaged)
    for row in todo:
        commit(store, row)
    assert digest_of_contents(store) == wanted
    rows = range(FAILED)
    np.testing.assert_array_equal(
        store.read_rows(rows), [vector_of(store, row) for row in rows], strict=True
    )
    again = examine(store)
    assert (again.n_good, again.bad, again.unfinished) == (FAILED, [], [])


def _files_of(rows: range) -> set[str]:
    return {f"weights/c/{row}/0" for row in rows} | {f"commits/{row:08d}.json" for row in rows}


def test_a_good_store_is_good_and_stays_as_it_is(make):
    store = make()
    before = contents(store)
    found = examine(store)
    assert (found.n_good, found.bad, found.orphans, found.unfinished) == (FAILED, [], [], [])
    assert set_aside(store, found.bad) == []
    assert contents(store) == before


def test_a_row_that_was_written_meanwhile_is_left_alone(make):
    store = make()
    damage(store, 1, "zeroed")
    damage(store, 2, "zeroed")
    found = examine(store)
    commit(store, 1)
    assert set_aside(store, found.bad) == [2]
    assert store.verify(1)


def test_a_row_that_is_replaced_while_it_is_looked_at_is_not_bad(make, monkeypatch):
    """Between its record and its weights another writer comes."""
    store = make()
    find, others = CommitLog.find, ["listing", "the other"]

    def find_before_the_other(log, row):
        found = find(log, row)
        if row == 1 and others and others.pop(0) == "the other":
            store.commit(1, vector_of(store, 99), {"adapter_id": "x"}, {}, spec_digest="later")
        return found

    monkeypatch.setattr(CommitLog, "find", find_before_the_other)
    assert examine(store).bad == []
    assert others == []


def test_a_network_that_fails_is_no_damage(make, url, monkeypatch):
    store = make(url)

    def unreachable(place: BucketPlace, key: str, *options: Any) -> Any:
        raise StoreError("the network went away")

    monkeypatch.setattr(BucketPlace, "get", unreachable)
    with pytest.raises(StoreError, match="the network went away"):
        examine(store)
    monkeypatch.undo()
    assert examine(store).bad == []


def test_an_interrupted_row_is_absent_and_said(make, monkeypatch):
    store = make()
    write = CommitLog.write
    monkeypatch.setattr(
        CommitLog,
        "write",
        lambda log, record, tag: None if record.exists else write(log, record, tag),
    )
    monkeypatch.setattr("lorastyle.store.writing.LONGEST_PAUSE_S", 0.0)
    with pytest.raises(StoreError, match=r"row 1 .* does not read back"):
        store.commit(1, vector_of(store, 1), {"adapter_id": "x"}, {})
    monkeypatch.undo()
    found = examine(store)
    assert (found.unfinished, found.bad) == ([1], [])
    commit(store, 1)
    assert examine(store).unfinished == []


def test_a_sample_looks_at_some_committed_rows(make):
    store = make()
    found = examine(store, sample=3)
    assert found.n_good + found.n_failed == 3
    assert examine(store, sample=10_000).n_good == FAILED
