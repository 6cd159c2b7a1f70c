"""What committing costs and leaves, and that stores of earlier releases still open."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from lorastyle.errors import StoreError
from lorastyle.places.place import place_of
from lorastyle.records import digest
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.commits import WRITING, mark
from lorastyle.store.epochs import EpochLog
from lorastyle.store.scrub import examine

OLD_RECORD = {
    "row": 2,
    "status": "ok",
    "spec_digest": "a",
    "checksum": None,
    "spec": {"adapter_id": "monet-train-00"},
    "receipt": {"wall_s": 1.5},
    "reason": None,
    "version": 1,
}


@pytest.fixture
def old_store(store, vector):
    """Row 2 as the first release wrote it: a shard without a mark, a record without a seal."""
    store.commit(2, vector, {}, {})
    checksum = store.record(2).checksum
    store.writer.shards.write(2, vector)
    text = json.dumps({**OLD_RECORD, "checksum": checksum}, indent=2) + "\n"
    place_of(store.path).write("commits/00000002.json", [text.encode()])
    for lock in store.path.rglob(".lock"):
        lock.unlink()
    return store


def test_a_store_of_an_earlier_release_reads_verifies_and_is_written_on(old_store, vector):
    store = old_store
    record = store.record(2)
    assert (record.version, record.epoch, record.token) == (1, None, None)
    assert store.is_current(2, "a") and store.verify(2)
    assert examine(store).n_good == 1
    assert store.commit(2, 2 * vector, {}, {}, spec_digest="a") == record
    fenced = store.fenced(EpochLog(place_of(store.path.parent).child("epochs")).claim())
    assert fenced.commit(2, 2 * vector, {}, {}, spec_digest="a").epoch == 1
    assert store.record(2).receipt == {"wall_s": 1.5}
    fenced.commit(2, 2 * vector, {}, {}, spec_digest="b")
    fenced.commit(3, vector, {}, {})
    np.testing.assert_array_equal(store.read_rows([2, 3]), [2 * vector, vector])


def test_a_mark_is_no_row_to_anybody(store, vector, spec):
    store.commit(1, vector, spec, {}, spec_digest="a")
    commits = store.writer.commits
    commits.write(mark(1, WRITING, spec_digest="a"), commits.find(1).tag)
    assert store.committed() == {}
    assert store.record(1) is None
    assert not store.is_current(1, "a") and not store.verify(1)
    assert store.missing({1: "a"}) == [1]
    assert store.rows() == store.rows("writing") == []
    assert store.table().empty
    with pytest.raises(StoreError, match="no committed row 1"):
        store.describe(1, {"adapter_id": "x"})


def test_no_two_versions_of_a_row_look_alike(store, vector, spec):
    """A bucket names versions by their bytes: the same again must not look like the first."""
    seen = []
    for _ in range(3):
        store.commit(1, vector, spec, {})
        seen.append((place_of(store.path).read("weights/c/1/0"), store.record(1).token))
        store.quarantine(1, {}, "away with it")
    assert len({shard for shard, _ in seen}) == len({token for _, token in seen}) == 3
    assert store.commit(1, vector, spec, {}).spec_digest == digest(spec.to_dict())


def test_a_row_in_a_bucket_costs_these_requests(server, url, layout, vector, spec):
    store = AdapterStore.create(url, layout, base={}, alpha=1.0, n_rows=5, init={})
    fenced = store.fenced(EpochLog(place_of(url).child("epochs")).claim())
    for one in (store, fenced):
        one.quarantine(0, spec, "what is read once is read now")

    def asked(work) -> dict[str, int]:
        server.requests.clear()
        work()
        return dict(Counter(method for method, _ in server.requests))

    assert asked(lambda: store.commit(1, vector, spec, {})) == {"HEAD": 1, "GET": 3, "PUT": 3}
    assert asked(lambda: fenced.commit(2, vector, spec, {})) == {"HEAD": 3, "GET": 3, "PUT": 3}
    # One that stands is read, to see that it is whole; stamped where an earlier attempt made it.
    assert asked(lambda: fenced.commit(2, vector, spec, {})) == {"HEAD": 2, "GET": 3}
    assert asked(lambda: fenced.commit(1, vector, spec, {})) == {"HEAD": 2, "GET": 3, "PUT": 1}
    assert asked(lambda: fenced.quarantine(3, spec, "no images")) == {"HEAD": 1, "GET": 1, "PUT": 1}
