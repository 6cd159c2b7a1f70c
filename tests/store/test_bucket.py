"""The store in a bucket, against a server that speaks S3 on loopback."""

from __future__ import annotations

import concurrent.futures
import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import obstore
import pytest
import zarr
from zarr.storage import ObjectStore

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.errors import StoreError
from lorastyle.places import bucket
from lorastyle.places.bucket import BucketPlace
from lorastyle.places.place import place_of
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.commits import checksum_of
from lorastyle.store.epochs import EpochLog
from lorastyle.store.shards import RowShards
from lorastyle.store.vectors import AdapterVectors


@pytest.fixture
def make(url: str, layout: AdapterLayout) -> Callable[..., AdapterStore]:
    def make(**changes: Any) -> AdapterStore:
        values: dict[str, Any] = {
            "base": {"name": "miniature"},
            "alpha": 6.0,
            "n_rows": 5,
            "init": {"initialisation": "shared", "init_seed": 0},
        }
        return AdapterStore.create(url, layout, **(values | changes))

    return make


@pytest.fixture
def store(make: Callable[..., AdapterStore]) -> AdapterStore:
    return make()


def test_rows_in_a_bucket_read_back_and_say_so(store, url, vector, spec):
    record = store.commit(2, vector, spec, {"wall_s": 1.5})
    again = AdapterStore.open(url)
    assert again.committed() == {2: record}
    assert again.verify(2)
    np.testing.assert_array_equal(again.read_rows([2])[0], vector)
    np.testing.assert_array_equal(again.read_columns([2, 2], slice(5, 40))[1], vector[5:40])


def test_zarr_reads_the_bucket(store, url, vector, spec):
    store.commit(2, vector, spec, {})
    client = obstore.store.from_url(url, client_options={"allow_http": True})
    group = zarr.open_group(ObjectStore(client), mode="r")
    assert group.attrs["alpha"] == 6.0
    np.testing.assert_array_equal(group["weights"][2], vector)


def test_many_ranges_of_many_rows_are_fetched_at_once(url, layout):
    place = place_of(url)
    rows = np.random.default_rng(4).standard_normal((40, 1000)).astype(np.float32)
    shards = RowShards(place, 1000, 7)
    place.each(lambda row: shards.write(row, rows[row]), range(40))
    wanted, origin = [39, 3, 3, *range(20)], np.ones(500, np.float32)
    out = np.empty((len(wanted), 500), np.float32)
    shards.read(wanted, slice(300, 800), out=out, origin=origin)
    np.testing.assert_array_equal(out, rows[wanted, 300:800] - 1)


def test_waiting_for_rows_takes_the_time_of_a_few(url, monkeypatch):
    shards = RowShards(place_of(url), 8, 8)
    shards.write(0, np.arange(8, dtype=np.float32))
    get = BucketPlace.get

    def slow_get(*arguments: Any) -> Any:
        time.sleep(0.05)
        return get(*arguments)

    monkeypatch.setattr(BucketPlace, "get", slow_get)
    began = time.perf_counter()
    shards.read([0] * 32, slice(0, 8))
    # One after the other they would wait 3.2 s.
    assert time.perf_counter() - began < 1.6


def test_a_row_replaced_while_it_is_read_is_never_mixed(url, monkeypatch):
    """The other writer comes between two of the row's requests."""
    monkeypatch.setattr("lorastyle.store.shards.BLOCKS_AT_ONCE", 2)
    shards = RowShards(place_of(url), 100, 10)
    ones = np.ones(100, np.float32)
    shards.write(0, ones)
    get, seen = BucketPlace.get, []

    def get_and_let_another_write(place: BucketPlace, *arguments: Any) -> Any:
        answer = get(place, *arguments)
        seen.append(answer)
        if len(seen) == 2:
            shards.write(0, 5 * ones)
        return answer

    monkeypatch.setattr(BucketPlace, "get", get_and_let_another_write)
    np.testing.assert_array_equal(shards.read([0], slice(5, 50))[0], 5 * ones[5:50])
    assert len(seen) > 4


def test_the_shared_start_is_kept_in_the_bucket(make, url, layout):
    start = np.arange(layout.size, dtype=np.float32)
    make(initial=start)
    np.testing.assert_array_equal(AdapterStore.open(url).initial, start)


def test_a_store_in_a_bucket_passes_a_process_boundary_without_its_credentials(store, vector, spec):
    store.commit(2, vector, spec, {})
    assert b"dummy" not in pickle.dumps(store)
    assert pickle.loads(pickle.dumps(store)).verify(2)
    part = AdapterVectors.of(store, [2], "cross_attention")
    columns = store.layout.columns("cross_attention")[0]
    there = pickle.loads(pickle.dumps(part)).read(slice(0, part.shape[1]))
    np.testing.assert_array_equal(there[0], vector[columns])


def test_of_several_makers_one_wins_and_the_others_join(make):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda n: make(n_rows=5 + n % 2), range(6)))
    assert all(store.attributes == stores[0].attributes for store in stores)
    assert stores[0].n_rows == 6


def test_a_bucket_with_other_adapters_is_refused(make):
    make(initial=np.zeros(111, np.float32))
    with pytest.raises(StoreError, match="another initialisation"):
        make(initial=np.ones(111, np.float32))
    with pytest.raises(StoreError, match="another base model"):
        make(initial=np.zeros(111, np.float32), base={"name": "other"})


def test_what_a_maker_of_another_store_left_behind_is_replaced(make, url, layout):
    """It was killed before the group's metadata; until that there is no store."""
    place = place_of(url)
    zeros = np.zeros(layout.size, np.float32)
    make(initial=zeros)
    place.delete("zarr.json")
    with pytest.raises(StoreError, match="is not an adapter store"):
        AdapterStore.open(url)
    np.testing.assert_array_equal(make(initial=zeros + 3).initial, zeros + 3)


def test_a_server_without_conditional_puts_still_makes_a_store(make, monkeypatch, vector, spec):
    put = obstore.put

    def put_always(*arguments: Any, mode: str = "overwrite", **options: Any) -> Any:
        if mode == "create":
            raise obstore.exceptions.NotSupportedError("not implemented")
        return put(*arguments, **options)

    monkeypatch.setattr(obstore, "put", put_always)
    make().commit(1, vector, spec, {})
    assert make().verify(1)


def test_a_row_is_absent_while_it_is_replaced_in_a_bucket_too(store, vector, spec, monkeypatch):
    store.commit(2, vector, {"old": 1}, {})
    replace = BucketPlace.replace

    def lose_the_record(place: BucketPlace, key: str, parts: Any, expected: Any) -> Any:
        if key.endswith(".json") and b'"status": "ok"' in parts[0]:
            raise StoreError("the network went away")
        return replace(place, key, parts, expected)

    monkeypatch.setattr(BucketPlace, "replace", lose_the_record)
    with pytest.raises(StoreError, match="row 2 was not stored: the network went away"):
        store.commit(2, 2 * vector, spec, {})
    assert store.committed() == {}


def test_writers_that_race_for_a_row_leave_one_that_is_whole(store, layout):
    """Four at once, each of another spec and weights, and a reader who trusts records only."""
    torn, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            if (record := store.record(1)) is not None:
                vector = store.read_rows([1])[0]
                # Between the two reads it may have been replaced; then its record says so.
                if store.record(1) == record and checksum_of(vector) != record.checksum:
                    torn.append(record)

    def write(writer: int) -> list[str | None]:
        vector = np.full(layout.size, writer + 1, np.float32)
        return [store.commit(1, vector, {"writer": writer, "n": n}, {}).checksum for n in range(4)]

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        reader = pool.submit(look)
        written = [checksum for one in pool.map(write, range(4)) for checksum in one]
        done.set()
        reader.result()
    assert torn == [] and len(set(written)) == 4
    assert store.verify(1)


def test_a_write_whose_answer_was_lost_is_recognised_when_it_is_sent_again(
    store, url, server, vector, spec, monkeypatch
):
    """The client repeats it; the server then refuses it because of itself."""
    lost = {"epochs/00000001.json", "commits/00000001.json", "weights/c/1/0"}

    def lose_once(method: str, path: str) -> bool:
        ours = {key for key in lost if method == "PUT" and path.endswith(key)}
        lost.difference_update(ours)
        return bool(ours)

    monkeypatch.setattr(server, "loses", lose_once)
    epochs = EpochLog(place_of(url).child("epochs"))
    fenced = store.fenced(epochs.claim())
    assert fenced.fence.number == 1
    assert fenced.commit(1, vector, spec, {}).epoch == 1
    assert lost == set()
    lost.add("commits/00000002.json")
    marks = iter([False, True])
    monkeypatch.setattr(
        server, "loses", lambda *asked: lose_once(*asked) if _is_record(asked, marks) else False
    )
    assert fenced.commit(2, vector, spec, {"first": 1}).receipt == {"first": 1}
    assert lost == set()
    assert store.verify(1) and store.verify(2)


def _is_record(asked: tuple[str, str], marks: Iterator[bool]) -> bool:
    """True for the second write to the record: the first was its mark."""
    return asked[0] == "PUT" and asked[1].endswith("commits/00000002.json") and next(marks, False)


def test_a_truncated_object_is_noticed(store, vector, spec):
    store.commit(2, vector, spec, {})
    store.commit(3, vector, spec, {})
    place = place_of(store.path).child("weights/c")
    place.write("2/0", [(place.read("2/0") or b"")[:100]])
    assert not store.verify(2)
    with pytest.raises(StoreError, match=r"row 2 .*damaged"):
        store.read_rows([2, 3])
    assert store.verify(3)


def test_a_missing_bucket_and_a_missing_store_are_said(url, layout):
    with pytest.raises(StoreError, match="is not an adapter store; make one"):
        AdapterStore.open(url)
    with pytest.raises(StoreError, match="there is no such bucket; make it first"):
        AdapterStore.create("s3://elsewhere/a", layout, base={}, alpha=1.0, n_rows=1, init={})


def test_a_server_that_cannot_be_reached_is_an_error_within_seconds(url, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    bucket._client.cache_clear()
    began = time.perf_counter()
    with pytest.raises(StoreError, match=r"cannot be read: .*; check the address") as caught:
        AdapterStore.open(url)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < 10


def test_a_store_grows_in_a_bucket(store, url, vector, spec):
    store.grow(9)
    metadata = json.loads(place_of(url).read("weights/zarr.json") or b"")
    assert metadata["shape"] == [9, store.size]
    store.commit(8, vector, spec, {})
    assert AdapterStore.open(url).verify(8)
