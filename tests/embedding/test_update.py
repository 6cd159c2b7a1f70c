from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.embedding import ledger as ledger_module
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_files import GramWriter
from lorastyle.embedding.groups import groups_for
from lorastyle.embedding.kept import Wanted
from lorastyle.embedding.spectrum import centred
from lorastyle.embedding.update import Update, update_grams
from lorastyle.errors import StoreError
from lorastyle.store import group
from lorastyle.store.adapter_store import AdapterStore

N = 30


@pytest.fixture
def store(tmp_path, layout, monkeypatch) -> AdapterStore:
    """Eight inner chunks a row."""
    monkeypatch.setattr(group, "MAX_BLOCK", 64)
    return AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=1.0, n_rows=N, init={}
    )


@pytest.fixture
def everyone(store, layout) -> np.ndarray:
    """30 adapters, all in the store: (30, d)."""
    rng = np.random.default_rng(1)
    vectors = (5 + rng.standard_normal((N, layout.size))).astype(np.float32)
    for row, vector in enumerate(vectors):
        store.commit(row, vector, {"adapter_id": f"a{row}", "artist": "x"}, {})
    return vectors


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "embedding"


def wanted(
    store: AdapterStore, rows, representations=("factors", "delta"), expressions=()
) -> Wanted:
    table = store.table().set_index("row", drop=False).loc[list(rows)].reset_index(drop=True)
    records = store.committed()
    checksums = [records[row].checksum for row in table["row"]]
    groups = groups_for(store.layout, expressions)
    return Wanted(store, table, checksums, representations, groups)


def update(store: AdapterStore, rows, directory: Path) -> Update:
    return update_grams(wanted(store, rows), directory)


def assert_same_space(found: GramSet, expected: GramSet) -> None:
    """The same centred products, whatever origin they were taken about."""
    np.testing.assert_array_equal(found.rows, expected.rows)
    for representation in expected.representations:
        for sub_network in expected.sub_networks:
            here, there = (g.matrix(representation, sub_network) for g in (found, expected))
            np.testing.assert_allclose(here, here.T, rtol=1e-15)
            there = centred(there)
            np.testing.assert_allclose(centred(here), there, atol=2e-6 * np.abs(there).max())


@pytest.mark.parametrize(
    "rows",
    [
        range(N),
        [*range(20), 29, 25, 23],
        [29, *range(19, -1, -1)],
        [*range(1, 20), *range(20, 25)],
    ],
    ids=["ten more", "three more", "reordered", "one less, five more"],
)
def test_a_grown_store_costs_its_new_rows_only(store, everyone, directory, tmp_path, rows):
    update(store, [0, 19, *range(1, 19)], directory)
    grown = update(store, rows, directory)
    afresh = update(store, rows, tmp_path / "afresh")
    assert afresh.record["n_new"] == len(rows)
    if 0 in rows:
        assert grown.record["n_new"] == len(set(rows) - set(range(20)))
    else:  # an origin is gone, so products about it cannot be added to
        assert grown.record["n_new"] == len(rows)
    assert_same_space(grown.grams, afresh.grams)
    assert_same_space(GramSet.load(directory), grown.grams)


def test_fewer_rows_are_a_slice_and_read_nothing(store, everyone, directory):
    whole = update(store, range(N), directory).grams
    record = update(store, range(0, N, 3), directory).record
    assert (record["n_adapters"], record["n_new"]) == (10, 10), "an origin is not among them"
    update(store, range(N), directory)
    kept = [row for row in range(N) if row % 4 != 3 or row in whole.provenance.origin]
    slice_ = update(store, kept, directory)
    assert "bytes_read" not in slice_.record
    positions = np.array(kept)
    np.testing.assert_array_equal(
        slice_.grams.sums["factors"]["feed_forward"],
        whole.sums["factors"]["feed_forward"][np.ix_(positions, positions)],
    )


def test_a_retrained_row_is_multiplied_again(store, everyone, directory, tmp_path):
    update(store, range(N), directory)
    changed = everyone[3] + np.float32(2)
    store.commit(3, changed, {"adapter_id": "a3", "artist": "x", "seed": 2}, {})
    again = update(store, range(N), directory)
    assert again.record["n_new"] == 1
    assert_same_space(again.grams, update(store, range(N), tmp_path / "afresh").grams)


def test_products_of_another_alpha_are_not_used(store, everyone, directory, tmp_path, layout):
    update(store, range(N), directory)
    other = AdapterStore.create(
        tmp_path / "other.zarr", layout, base={}, alpha=3.0, n_rows=N, init={}
    )
    for row, vector in enumerate(everyone):
        other.commit(row, vector, {"adapter_id": f"a{row}", "artist": "x"}, {})
    assert update(other, range(N), directory).record["n_new"] == N


def test_another_representation_costs_its_own_pass_only(store, everyone, directory, tmp_path):
    update(store, range(N), directory)
    more = wanted(store, range(N), ("factors", "delta", "delta@1"))
    found = update_grams(more, directory)
    assert (found.record["n_new"], found.record["bytes_read"]) == (0, everyone.nbytes)
    # About the same origin, so all of it is as if made at once.
    assert found.grams.digest() == update_grams(more, tmp_path / "afresh").grams.digest()


@pytest.mark.parametrize("has_links", [True, False])
def test_matrices_that_stay_are_not_written_again(
    store, everyone, directory, monkeypatch, has_links
):
    def refuse(*_):
        raise OSError("no hard links here")

    if not has_links:
        monkeypatch.setattr("os.link", refuse)
    before = update(store, range(N), directory).grams
    path = directory / "grams" / "delta.feed_forward.npy"
    inode = path.stat().st_ino
    after = update(store, range(N), directory).grams
    assert (path.stat().st_ino == inode) == has_links
    assert after.digest() == before.digest()
    reordered = update(store, range(N - 1, -1, -1), directory).grams
    np.testing.assert_array_equal(
        reordered.sums["delta"]["feed_forward"], before.sums["delta"]["feed_forward"][::-1, ::-1]
    )


def test_groups_that_stay_whole_are_not_multiplied_again(store, everyone, directory, tmp_path):
    update(store, range(N), directory)
    finer = wanted(store, range(N), expressions=["block1.attn1.to_q"])
    found = update_grams(finer, directory)
    n_columns = store.layout.sub_network_size("self_attention")
    assert found.record["bytes_read"] == 2 * N * 4 * n_columns
    assert found.grams.digest() == update_grams(finer, tmp_path / "afresh").grams.digest()


def test_groups_that_are_finer_than_wanted_stay_so_when_the_store_grows(
    store, everyone, directory, tmp_path
):
    update_grams(wanted(store, range(20), expressions=store.layout.modules), directory)
    grown = update(store, range(N), directory)
    assert grown.record["n_new"] == 10
    assert len(grown.grams.groups) == len(store.layout.modules)
    assert_same_space(grown.grams, update(store, range(N), tmp_path / "afresh").grams)


def test_matrices_of_an_earlier_version_are_kept(store, everyone, directory, tmp_path):
    """Version 2 did not say which modules a group holds."""
    fresh = update(store, range(N), directory).grams
    path = directory / "grams" / "index.json"
    index = json.loads(path.read_text())
    del index["groups"], index["targets"]
    path.write_text(json.dumps({**index, "version": 2}))
    kept = update(store, range(N), directory)
    assert "bytes_read" not in kept.record
    assert kept.grams.digest() == fresh.digest()
    assert kept.grams.targets == store.layout.targets


@pytest.mark.parametrize("expressions", [(), ["block1.*", "attention-block2.*"]])
def test_an_interrupted_pass_continues_and_ends_in_the_same_bits(
    store, everyone, directory, tmp_path, monkeypatch, expressions
):
    """Row 5 is damaged near its end: the pass stops there, with the segments before it saved."""
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", 0.0)
    whole = wanted(store, range(N), expressions=expressions)
    undisturbed = update_grams(whole, tmp_path / "undisturbed").grams
    shard = store.path / "weights" / "c" / "5" / "0"
    healthy = shard.read_bytes()
    broken = bytearray(healthy)
    broken[-200] ^= 1
    shard.write_bytes(broken)
    with pytest.raises(StoreError, match="row 5"):
        update_grams(whole, directory)
    shard.write_bytes(healthy)
    resumed = update_grams(whole, directory)
    assert resumed.record["n_resumed"] > 0
    assert resumed.grams.digest() == undisturbed.digest()
    assert not (directory / "pass").exists()


CHILD = """
import sys
from pathlib import Path
import dask
from lorastyle.embedding import ledger
from lorastyle.embedding.groups import sub_network_groups
from lorastyle.embedding.kept import Wanted
from lorastyle.embedding.update import update_grams
from lorastyle.store.adapter_store import AdapterStore
ledger.SAVE_EVERY_S = 0.0
store = AdapterStore.open(sys.argv[1])
checksums = [record.checksum for record in store.committed().values()]
wanted = Wanted(
    store, store.table(), checksums, ("factors", "delta"), sub_network_groups(store.layout)
)
update_grams(wanted, Path(sys.argv[2]), scheduler=dask.get)
"""


def test_a_killed_pass_continues_and_ends_in_the_same_bits(
    store, everyone, directory, tmp_path, monkeypatch
):
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", 0.0)
    undisturbed = update(store, range(N), tmp_path / "undisturbed").grams
    for attempt in range(5):  # on a busy machine a child may finish before it is killed
        place = directory / str(attempt)
        child = subprocess.Popen([sys.executable, "-c", CHILD, store.path, place])
        while child.poll() is None and len(list(place.glob("pass/receipts/*.json"))) < 4:
            time.sleep(0.001)
        child.kill()
        if child.wait() != 0:
            break
    resumed = update(store, range(N), place)
    assert 3 <= resumed.record["n_resumed"] < resumed.record["n_segments"]
    assert resumed.grams.digest() == undisturbed.digest()


def test_a_pass_that_was_killed_when_all_was_added_up_reads_nothing_again(
    store, everyone, directory, tmp_path, monkeypatch
):
    undisturbed = update(store, range(N), tmp_path / "undisturbed").grams
    with monkeypatch.context() as patch:
        patch.setattr(GramWriter, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            update(store, range(N), directory)
    assert [path.name for path in directory.iterdir()] == ["pass"]
    resumed = update(store, range(N), directory)
    assert resumed.record["n_resumed"] == resumed.record["n_segments"]
    assert resumed.grams.digest() == undisturbed.digest()


def test_memory_does_not_grow_with_the_number_of_groups(tmp_path):
    """60 sums of 0.2 MiB; the pass has 3 MiB."""
    modules = [TargetModule(f"b{i}.ff", "feed_forward", 20, 20) for i in range(60)]
    layout = AdapterLayout.of_modules(2, modules)
    n = 150
    store = AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=1.0, n_rows=n, init={}
    )
    rng = np.random.default_rng(0)
    for row in range(n):
        store.commit(row, rng.standard_normal(layout.size, np.float32), {"row": row}, {})
    table = pd.DataFrame({"row": range(n)})
    many = Wanted(store, table, ["x"] * n, ("delta",), groups_for(layout, layout.modules))
    tracemalloc.start()
    update_grams(many, tmp_path / "e", memory_gib=3 / 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20 < 60 * 8 * n * n


def test_what_an_interrupted_pass_saved_is_not_used_for_other_rows(
    store, everyone, directory, monkeypatch, tmp_path
):
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", 0.0)
    ledger = ledger_module.DirectoryLedger(directory / "pass")
    ledger.begin("another pass")
    ledger.save("factors.feed_forward", np.ones((N, N)), 1, last=True)
    found = update(store, range(N), directory)
    assert found.record["n_resumed"] == 0
    assert_same_space(found.grams, update(store, range(N), tmp_path / "afresh").grams)


def test_a_late_task_takes_nothing_back(tmp_path, monkeypatch):
    """On a cluster tasks of a failed pass may run on, of the same pass or of another."""
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", -1.0)
    earlier = ledger_module.DirectoryLedger(tmp_path / "pass").begin("earlier")
    ledger = earlier.begin("now")
    ledger.save("g", np.ones((3, 3)), 5, last=True)
    ledger.save("g", np.zeros((3, 3)), 3, last=False)
    earlier.save("g", np.zeros((3, 3)), 9, last=True)
    earlier.receive("g", {"bytes": 1})
    n_segments, total = ledger.load("g")
    assert (n_segments, total.sum(), ledger.receipts()) == (5, 9, [])


def test_a_torn_sum_is_passed_over(tmp_path):
    ledger = ledger_module.DirectoryLedger(tmp_path / "pass")
    ledger.begin("x")
    ledger.save("g", np.ones((3, 3)), 1, last=True)
    (tmp_path / "pass" / "sums" / "g.000002.npy").write_bytes(b"\x93NUMPY torn")
    n_segments, total = ledger.load("g")
    assert n_segments == 1
    np.testing.assert_array_equal(total, np.ones((3, 3)))


def test_the_record_says_what_was_read(store, everyone, directory):
    record = update(store, range(N), directory).record
    assert record["bytes_read"] >= 2 * everyone.nbytes
    assert record["n_segments"] >= 10
    assert record["wall_s"] > 0
