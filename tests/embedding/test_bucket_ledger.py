"""A pass whose tasks run on machines that share only a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.embedding import ledger as ledger_module
from lorastyle.embedding.bucket_ledger import BucketLedger
from lorastyle.embedding.groups import sub_network_groups
from lorastyle.embedding.kept import Wanted
from lorastyle.embedding.update import update_grams
from lorastyle.errors import StoreError
from lorastyle.places.place import place_of
from lorastyle.store import group
from lorastyle.store.adapter_store import AdapterStore

N = 12


@pytest.fixture
def ledger(machines: Callable[[str], Path], tmp_path: Path) -> BucketLedger:
    machines("any")
    return BucketLedger(place_of(f"s3://team/{tmp_path.name}/pass"))


@pytest.fixture
def wanted(tmp_path: Path, layout: AdapterLayout, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """Twelve adapters, eight inner chunks a row."""
    monkeypatch.setattr(group, "MAX_BLOCK", 64)
    store = AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=1.0, n_rows=N, init={}
    )
    rng = np.random.default_rng(1)
    for row in range(N):
        vector = (5 + rng.standard_normal(layout.size)).astype(np.float32)
        store.commit(row, vector, {"adapter_id": f"a{row}", "artist": "x"}, {})
    checksums = [str(record.checksum) for record in store.committed().values()]
    groups = sub_network_groups(store.layout)
    return Wanted(store, store.table(), checksums, ("factors", "delta"), groups)


def test_an_interrupted_pass_continues_on_another_machine_in_the_same_bits(
    ledger: BucketLedger, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", 0.0)
    undisturbed = update_grams(wanted, tmp_path / "undisturbed").grams
    assert isinstance(wanted.store, AdapterStore)
    shard = Path(wanted.store.path) / "weights" / "c" / "5" / "0"
    healthy = shard.read_bytes()
    broken = bytearray(healthy)
    broken[-200] ^= 1
    shard.write_bytes(broken)
    with pytest.raises(StoreError, match="row 5"):
        update_grams(wanted, tmp_path / "one", ledger=ledger)
    shard.write_bytes(healthy)
    resumed = update_grams(wanted, tmp_path / "two", ledger=ledger)
    assert 0 < resumed.record["n_resumed"] < resumed.record["n_segments"]
    assert resumed.grams.digest() == undisturbed.digest()
    assert resumed.record["bytes_read"] >= 2 * N * 4 * wanted.store.size
    assert ledger.place.names() == ledger.receipts() == []


def test_what_another_pass_saved_is_forgotten(ledger: BucketLedger) -> None:
    ledger.begin("one")
    ledger.save("g", np.ones((3, 3)), 1, last=True)
    ledger.begin("one")
    assert ledger.load("g") is not None
    ledger.begin("other")
    assert ledger.load("g") is None


def test_the_furthest_whole_sum_counts(
    ledger: BucketLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.save("g.full", np.ones((3, 3)), 9, last=False)
    ledger.save("g.full", np.zeros((3, 3)), 10, last=False)
    found = ledger.load("g.full")
    assert found is not None and found[0] == 9, "too early to save again"
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", 0.0)
    ledger.save("g.full", np.zeros((3, 3)), 11, last=True)
    ledger.place.child("sums").write("g.full.000012.1700000000.npy", [b"\x93NUMPY torn"])
    found = ledger.load("g.full")
    assert found is not None and found[0] == 11 and not found[1].any()
    assert ledger.n_saved("g.full") == 11


def test_a_late_task_takes_nothing_back(
    ledger: BucketLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SAVE_EVERY_S", -1.0)
    earlier = ledger.begin("earlier")
    now = earlier.begin("now")
    now.save("g", np.ones((3, 3)), 5, last=True)
    now.save("g", np.zeros((3, 3)), 3, last=False)
    earlier.save("g", np.zeros((3, 3)), 9, last=True)
    earlier.receive("g", {"bytes": 1, "read_s": 0.0, "product_s": 0.0})
    found = now.load("g")
    assert found is not None and (found[0], found[1].sum(), now.receipts()) == (5, 9, [])


@pytest.mark.parametrize("side", [3, 40])
def test_a_sum_is_known_to_be_whole_without_reading_it(ledger: BucketLedger, side: int) -> None:
    assert ledger.n_saved("delta@4.g/1") == 0
    ledger.save("delta@4.g/1", np.ones((side, side)), 5, last=True)
    assert ledger.n_saved("delta@4.g/1") == 5
    sums = ledger.place.child("sums")
    content = sums.read(sums.names()[0])
    assert content is not None
    sums.write("delta@4.g+1.000006.1700000000.npy", [content[:-1]])
    assert ledger.n_saved("delta@4.g/1") == 5


def test_a_segment_that_was_begun_again_counts_once(ledger: BucketLedger) -> None:
    for read_s in (0.25, 1e-05):
        ledger.receive("delta@4.g/1", {"bytes": np.int64(7), "read_s": read_s, "product_s": 0.0})
    ledger.receive("g/2", {"bytes": 3, "read_s": 0.5, "product_s": 0.125})
    receipts = ledger.receipts()
    assert [receipt["bytes"] for receipt in receipts] == [7, 3]
    assert receipts[1] == {"bytes": 3, "read_s": 0.5, "product_s": 0.125}
