from __future__ import annotations

import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.errors import StoreError
from lorastyle.places.local import LocalPlace
from lorastyle.records import digest
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.commits import CommitLog
from lorastyle.store.shards import RowShards


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_a_committed_row_reads_back_in_rows_and_columns(store, vector, spec):
    record = store.commit(2, vector, spec, {"wall_s": 1.5})
    assert (record.status, record.receipt, record.spec["artist"]) == (
        "ok",
        {"wall_s": 1.5},
        "monet",
    )
    np.testing.assert_array_equal(store.read_rows([2])[0], vector)
    np.testing.assert_array_equal(store.read_columns([2, 2], slice(5, 40))[1], vector[5:40])
    np.testing.assert_array_equal(
        store.read_columns(np.array([2]), slice(30, None))[0], vector[30:]
    )


def test_any_zarr_reader_reads_the_weights_without_a_warning(store, vector, spec):
    store.commit(2, vector, spec, {})
    weights = zarr.open_group(store.path, mode="r")["weights"]
    assert weights.shape == (5, store.size)
    np.testing.assert_array_equal(weights[2], vector)


def test_an_open_store_knows_whose_adapters_it_holds(make_store, layout):
    start = np.arange(layout.size, dtype=np.float32)
    make_store(initial=start)
    store = AdapterStore.open(make_store(initial=start).path)
    assert store.layout == layout
    assert (store.rank, store.alpha, store.scaling, store.n_rows) == (3, 6.0, 2.0, 5)
    assert store.sub_networks == ("self_attention", "cross_attention", "feed_forward")
    np.testing.assert_array_equal(store.initial, start)


def test_without_a_shared_start_there_is_no_initial_vector(store):
    assert store.initial is None


def test_a_row_without_record_does_not_exist(store, vector, spec, monkeypatch):
    _kill_before_the_record(monkeypatch)
    with pytest.raises(Killed):
        store.commit(2, vector, spec, {})
    monkeypatch.undo()
    assert store.committed() == {}
    assert not store.is_current(2, digest(spec.to_dict()))
    assert store.missing({2: digest(spec.to_dict())}) == [2]
    assert store.commit(2, vector, spec, {}).status == "ok"


def test_a_kill_while_a_row_is_replaced_leaves_it_absent(store, vector, spec, monkeypatch):
    store.commit(2, vector, {"old": 1}, {})
    _kill_before_the_record(monkeypatch)
    with pytest.raises(Killed):
        store.commit(2, 2 * vector, spec, {})
    monkeypatch.undo()
    assert store.committed() == {}


def test_committing_the_same_again_changes_nothing(store, vector, spec):
    first = store.commit(2, vector, spec, {"wall_s": 1.0})
    shard = store.path / "weights" / "c" / "2" / "0"
    stamp = shard.stat()
    assert store.commit(2, vector, spec, {"wall_s": 2.0}) == first
    assert shard.stat().st_ino == stamp.st_ino


def test_committing_again_mends_a_damaged_row(store, vector, spec):
    store.commit(2, vector, spec, {})
    (store.path / "weights" / "c" / "2" / "0").write_bytes(b"")
    assert not store.verify(2)
    store.commit(2, vector, spec, {})
    assert store.verify(2)


def test_a_writer_in_between_cannot_part_row_and_record(store, vector, spec, monkeypatch):
    """The other writer commits other bytes just before our record is written."""
    write, others = CommitLog.write, [3 * vector]

    def write_after_the_other(log, record, expected):
        if record.exists and others:
            AdapterStore.open(store.path).commit(2, others.pop(), {"other": 1}, {})
        return write(log, record, expected)

    monkeypatch.setattr(CommitLog, "write", write_after_the_other)
    store.commit(2, vector, spec, {})
    assert others == []
    assert store.verify(2)
    np.testing.assert_array_equal(store.read_rows([2])[0], vector)


def test_of_two_that_make_the_same_row_the_first_stands(store, vector, spec):
    """Another stack size gives other last bits: no reason to write again."""
    first = store.commit(2, vector, spec, {"actor": 1})
    assert store.commit(2, np.nextafter(vector, 9), spec, {"actor": 2}) == first
    np.testing.assert_array_equal(store.read_rows([2])[0], vector)


def test_a_disk_that_keeps_losing_bytes_is_an_error(store, vector, spec, monkeypatch):
    monkeypatch.setattr(RowShards, "replace", lambda *arguments: True)
    monkeypatch.setattr("lorastyle.store.writing.LONGEST_PAUSE_S", 0.0)
    with pytest.raises(StoreError, match=r"row 2 .* does not read back"):
        store.commit(2, vector, spec, {})


def test_racing_processes_end_in_one_correct_row(store, layout):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_commit_often, args=(store.path, seed)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert list(store.committed()) == [1, 2, 3]
    assert all(store.verify(row) for row in (1, 2, 3))


def _commit_often(path: Path, seed: int) -> None:
    store = AdapterStore.open(path)
    vector = np.full(store.size, seed, np.float32)
    for row in (1, 2, 3) * 5:
        store.commit(row, vector, {"row": row}, {"seed": seed})


def test_unusable_adapters_are_recorded_as_such(store, vector, spec):
    infinite = vector.copy()
    infinite[3] = np.inf
    unchanged = vector.copy()
    for entry in store.layout.entries:
        if entry.factor == "B":
            unchanged[entry.offset : entry.stop] = 0
    assert store.commit(0, infinite, spec, {"loss_last": float("nan")}).status == "non_finite"
    assert store.commit(1, unchanged, spec, {}).status == "zero"
    assert store.commit(3, np.zeros_like(vector), spec, {}).status == "zero"
    store.commit(2, vector, spec, {})
    store.quarantine(4, spec, "no images")
    assert store.rows() == [2]
    assert (store.rows("zero"), store.rows("non_finite"), store.rows("failed")) == (
        [1, 3],
        [0],
        [4],
    )
    assert store.record(0).receipt == {"not_finite": ["loss_last"]}
    assert all(store.verify(row) for row in range(5))


def test_failed_rows_are_tried_again_and_others_are_not(store, vector, spec):
    store.commit(0, vector, spec, {}, spec_digest="a")
    store.commit(1, np.zeros_like(vector), spec, {}, spec_digest="a")
    store.quarantine(2, spec, "no images", spec_digest="a")
    assert [store.is_current(row, "a") for row in range(4)] == [True, True, False, False]
    assert store.missing({3: "a", 2: "a", 1: "a", 0: "a"}) == [2, 3]
    assert store.missing({0: "b"}) == [0]


def test_a_late_failure_does_not_undo_a_good_row(store, vector, spec):
    store.commit(2, vector, spec, {}, spec_digest="a")
    assert store.quarantine(2, spec, "actor died", spec_digest="a").status == "ok"
    assert store.quarantine(2, spec, "actor died", spec_digest="b").status == "failed"
    assert store.record(2).reason == "actor died"


def test_the_contents_digest_follows_weights_and_specs_not_order_or_time(make_store, vector, spec):
    store = make_store()
    assert digest_of_contents(store) == digest([])
    store.commit(1, vector, spec, {"wall_s": 1.0})
    store.commit(0, 2 * vector, spec, {})
    before = digest_of_contents(store)
    for row in (0, 1):
        LocalPlace(store.path / "commits").delete(f"{row:08d}.json")
    store.commit(0, 2 * vector, spec, {"wall_s": 9.0})
    store.commit(1, vector, spec, {})
    assert digest_of_contents(store) == before
    store.commit(1, 3 * vector, spec, {}, spec_digest="another")
    assert digest_of_contents(store) != before


def test_the_table_says_who_the_rows_are(store, vector, spec):
    store.commit(2, vector, spec, {})
    store.quarantine(0, spec, "no images")
    expected = [2, "monet-train-00", "monet", "landscape", "train", 0]
    assert store.table().to_numpy().tolist() == [expected]
    assert list(store.table("zero").columns) == list(store.table().columns)


def test_a_store_grows_and_keeps_its_rows(make_store, vector, spec):
    store = make_store()
    store.commit(4, vector, spec, {})
    with pytest.raises(StoreError, match="has 5 rows, not row 8; grow it first"):
        store.commit(8, vector, spec, {})
    make_store(n_rows=9)
    assert store.n_rows == 9
    store.commit(8, vector, spec, {})
    store.grow(3)
    assert store.n_rows == 9
    np.testing.assert_array_equal(store.read_rows([4, 8]), [vector, vector])


def test_of_processes_that_grow_a_store_at_once_the_largest_stands(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: AdapterStore.open(store.path).grow(n), [40, *range(6, 38)]))
    assert store.n_rows == 40


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"base": {"name": "other"}}, "base model"),
        ({"alpha": 3.0}, "alpha"),
        ({"init": {"initialisation": "independent"}}, "initialisation"),
        ({"initial": np.ones(111, np.float32)}, "initialisation"),
        (
            {"layout": AdapterLayout.of_modules(2, [TargetModule("a", "feed_forward", 3, 3)])},
            "layout",
        ),
    ],
)
def test_a_store_of_other_adapters_is_refused(make_store, changes, what):
    make_store()
    with pytest.raises(StoreError, match=f"another {what}"):
        make_store(**changes)


def test_a_base_model_is_told_by_its_weights_and_not_by_its_name(make_store):
    """Stores made before revisions were recorded are gone on with."""
    base = {"name": "owner/name", "sha256": "ab", "prediction_type": "epsilon"}
    store = make_store(base=base)
    there = make_store(base={**base, "name": "a/folder", "revision": "0123"})
    assert there.attributes == store.attributes
    for changed in ({"sha256": "cd"}, {"prediction_type": "v_prediction"}):
        with pytest.raises(StoreError, match="another base model"):
            make_store(base={**base, **changed})


def test_a_store_that_another_process_made_meanwhile_is_used(make_store, monkeypatch):
    store = make_store()
    exists = LocalPlace.exists
    answers = [False]
    monkeypatch.setattr(
        LocalPlace, "exists", lambda *place: answers.pop() if answers else exists(*place)
    )
    assert make_store().attributes == store.attributes
    assert [path.name for path in store.path.parent.iterdir()] == ["adapters.zarr"]


def test_what_is_no_store_is_refused_in_a_sentence(tmp_path, store):
    with pytest.raises(StoreError, match="is not an adapter store; make one"):
        AdapterStore.open(tmp_path / "nothing")
    metadata = json.loads((store.path / "zarr.json").read_text())
    metadata["attributes"]["schema_version"] = 99
    (store.path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="schema version 99, this release reads 1"):
        AdapterStore.open(store.path)


def test_a_damaged_commit_record_is_named(store, vector, spec):
    store.commit(2, vector, spec, {})
    (store.path / "commits" / "00000002.json").write_text("{")
    with pytest.raises(StoreError, match=r"00000002\.json is damaged; `lorastyle store scrub RUN`"):
        store.committed()


def test_vectors_of_another_length_are_refused(store, spec):
    with pytest.raises(StoreError, match=r"shape \(3,\), the store holds"):
        store.commit(0, np.zeros(3, np.float32), spec, {})


def test_an_initial_vector_of_another_length_is_refused(make_store):
    with pytest.raises(StoreError, match=r"shape \(7,\), the layout needs \(111,\)"):
        make_store(initial=np.zeros(7, np.float32))


def test_a_store_passes_a_process_boundary(store, vector, spec):
    store.commit(2, vector, spec, {})
    assert pickle.loads(pickle.dumps(store)).verify(2)


def _kill_before_the_record(monkeypatch) -> None:
    write = CommitLog.write

    def write_marks_only(log, record, expected):
        if record.exists:
            raise Killed
        return write(log, record, expected)

    monkeypatch.setattr(CommitLog, "write", write_marks_only)
