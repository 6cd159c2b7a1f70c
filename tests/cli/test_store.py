"""`lorastyle store`: what it says of a run, and what it leaves to be made again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.config import parse_experiment
from lorastyle.places import bucket
from lorastyle.places.place import place_of
from lorastyle.records import AdapterSpec, Role
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.epochs import EPOCHS, EpochLog
from tests.s3 import S3Server

N_PLANNED = 8


def spec_of(row: int, role: Role = Role.TRAIN) -> AdapterSpec:
    return AdapterSpec(row, f"anna-{row}", "anna", "g", role, row, ("x",), "t", row, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        server.make_bucket("team")
        yield server


@pytest.fixture(params=["directory", "bucket"])
def where(request, tmp_path, monkeypatch) -> Path | str:
    """Where the run is to be made."""
    if request.param == "directory":
        return tmp_path / "run"
    server = request.getfixturevalue("server")
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))
    bucket._client.cache_clear()
    return f"s3://team/{tmp_path.name}"


@pytest.fixture
def run(where) -> Run:
    """Rows 0 to 3 made, 4 zero, 5 not finite, 6 failed, 7 missing; 9 is nobody's."""
    run = Run.create(where, parse_experiment({}))
    specs = [spec_of(row, Role.TEST if row % 2 else Role.TRAIN) for row in range(N_PLANNED)]
    pd.DataFrame([spec.to_dict() for spec in specs]).to_parquet(run.plan_path)
    run.finish("plan", {}, {"n_adapters": N_PLANNED}, 0.0)
    layout = AdapterLayout.of_modules(2, [TargetModule("a", "feed_forward", 5, 6)])
    store = AdapterStore.create(
        run.store_path, layout, base={}, alpha=1.0, n_rows=N_PLANNED + 2, init={}
    ).fenced(EpochLog(run.place.child(EPOCHS)).claim({"job": "anna-a1"}))
    vector = np.arange(store.size, dtype=np.float32) + 1
    for spec in specs[:4]:
        store.commit(spec.row, vector, spec, {})
    store.commit(4, 0 * vector, specs[4], {})
    store.commit(5, vector * np.inf, specs[5], {})
    store.quarantine(6, specs[6], "no images")
    store.commit(9, vector, spec_of(9), {})
    run.finish("train", {}, {"store": digest_of_contents(store)}, 0.0)
    return run


@pytest.fixture
def answer(lorastyle):
    def ask(*arguments, status=0):
        result = lorastyle("store", *arguments, "--json")
        assert result.exit_code == status, result.stderr
        return json.loads(result.stdout)

    return ask


def damage(run: Run, *rows: int) -> None:
    weights = place_of(run.store_path).child("weights/c")
    for row in rows:
        weights.write(f"{row}/0", [b"\0" * len(weights.read(f"{row}/0") or b"")])


def test_status_says_what_became_of_every_row(run, lorastyle, answer):
    document = answer("status", run.location)
    census = document["stores"]["adapters.zarr"]
    assert census["by_status"] == {"failed": 1, "non_finite": 1, "ok": 5, "zero": 1}
    assert census["by_role"] == {
        "train": {"ok": 2, "zero": 1, "failed": 1},
        "test": {"ok": 2, "non_finite": 1, "missing": 1},
    }
    assert census["failed"] == [{"row": 6, "adapter_id": "anna-6", "reason": "no images"}]
    assert (census["missing"], census["unexpected"]) == ([7], [9])
    weights = place_of(run.store_path).child("weights/c")
    shards = [weights.read(f"{row}/0") or b"" for row in range(N_PLANNED + 2)]
    assert census["bytes"] == sum(len(shard) for shard in shards)
    assert document["epoch"]["number"] == 1
    assert document["epoch"]["owner"]["job"] == "anna-a1"
    text = lorastyle("store", "status", run.location).stdout
    assert "7 made, 1 missing, 1 failed, 1 zero, 1 non-finite, 1 unexpected" in text
    assert "failed: anna-6: no images" in text and "job anna-a1" in text


def test_a_good_run_is_good_and_its_stages_stay_done(run, lorastyle, answer):
    assert answer("scrub", run.location)["n_bad"] == 0
    assert lorastyle("store", "scrub", run.location).stdout.startswith("adapters.zarr: 7 rows good")
    assert run.manifest("train") is not None


def test_bad_rows_are_named_and_set_aside_and_training_is_unfinished(run, lorastyle, answer):
    damage(run, 1, 3)
    store = AdapterStore.open(run.store_path)
    digests = {row: record.spec_digest for row, record in store.committed().items()}
    for arguments in (("--dry-run",), ("--dry-run", "--sample", "100")):
        document = answer("scrub", run.location, *arguments, status=1)
        assert (document["n_bad"], document["n_requeued"]) == (2, 0)
        assert run.manifest("train") is not None and len(store.committed()) == len(digests)
    result = lorastyle("store", "scrub", run.location)
    assert result.exit_code == 1
    assert "anna-1: the weights of row 1 at " in result.stdout
    assert f"2 set aside; `lorastyle train {run.location}` makes exactly these" in result.stdout
    assert run.manifest("train") is None
    assert store.missing(digests) == [1, 3, 6]
    census = answer("status", run.location)["stores"]["adapters.zarr"]
    assert [one["row"] for one in census["requeued"]] == [1, 3]
    assert census["missing"] == [1, 3, 7]
    assert answer("scrub", run.location)["stores"]["adapters.zarr"]["unfinished"] == [1, 3]


def test_a_damaged_record_is_said_by_status_and_mended_by_scrub(run, lorastyle, answer):
    place_of(run.store_path).write("commits/00000002.json", [b"{"])
    assert answer("status", run.location)["stores"]["adapters.zarr"]["damaged_records"] == [2]
    assert "cannot be read, rows 2: `lorastyle" in lorastyle("store", "status", run.location).stdout
    document = answer("scrub", run.location, status=1)
    assert document["stores"]["adapters.zarr"]["requeued"] == [2]
    assert 2 not in AdapterStore.open(run.store_path).committed()


def test_a_store_that_changed_since_training_ended_is_not_finished(run, answer):
    """As a scrub leaves it that was killed on its way."""
    AdapterStore.open(run.store_path).quarantine(7, spec_of(7), "no images")
    answer("scrub", run.location, "--dry-run")
    assert run.manifest("train") is not None
    answer("scrub", run.location)
    assert run.manifest("train") is None


def test_ingested_adapters_are_looked_after_too(lorastyle, answer, wild, tmp_path):
    run = tmp_path / "wild-run"
    assert lorastyle("ingest", run, wild, "--base", "miniature").exit_code == 0
    before = answer("status", run)["stores"]
    (name, rows) = next((name, one["by_status"]["ok"]) for name, one in before.items())
    store = AdapterStore.open(run / name)
    (store.path / "weights/c/0/0").write_bytes(b"")
    result = lorastyle("store", "scrub", run)
    assert result.exit_code == 1
    assert f"1 set aside; `lorastyle ingest {run} FILES` makes exactly these" in result.stdout
    assert Run.open(run).manifest("ingest") is None
    assert answer("status", run)["stores"][name]["by_status"]["ok"] == rows - 1
    assert lorastyle("ingest", run, wild).exit_code == 0
    assert answer("status", run)["stores"][name]["by_status"]["ok"] == rows
    assert answer("scrub", run)["n_bad"] == 0
    assert len(store.rows()) == rows


def test_a_run_without_adapters_is_said(tmp_path, lorastyle):
    run = Run.create(tmp_path / "empty", parse_experiment({}))
    for verb in ("status", "scrub"):
        result = lorastyle("store", verb, run.location)
        assert result.exit_code == 1
        assert "has no adapters yet; train or ingest some" in result.stderr
