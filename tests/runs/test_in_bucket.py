"""Stages of a run in a bucket: published whole or not at all, pulled as they were published."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorastyle.config import Experiment, parse_experiment
from lorastyle.errors import StageError, StoreError
from lorastyle.places.place import place_of
from lorastyle.runs import Run, carry_out, write_atomically
from lorastyle.runs.published import LARGE, key_of

Machines = Callable[[str], Path]
INPUTS = {"a": 1}


@pytest.fixture
def url(machines: Machines, tmp_path: Path) -> str:
    """A prefix of this test's own; the process is on machine `first`."""
    machines(f"{tmp_path.name}-first")
    return f"s3://team/{tmp_path.name}"


@pytest.fixture
def run(url: str) -> Run:
    return Run.create(url, Experiment())


@pytest.fixture
def elsewhere(url: str, machines: Machines, tmp_path: Path) -> Callable[..., Run]:
    """The run opened on another machine."""

    def move(name: str = "second") -> Run:
        machines(f"{tmp_path.name}-{name}")
        return Run.open(url)

    return move


def refuse() -> Mapping[str, Any]:
    raise AssertionError("the stage is current: nothing to do")


def evaluated(run: Run, text: str = "0.5", **inputs: Any) -> None:
    """Carry out a stage that writes two files."""

    def body() -> Mapping[str, Any]:
        write_atomically(run.metrics_path, text)
        write_atomically(run.evaluation_path / "tables" / "scores.parquet", text * 3)
        write_atomically(run.evaluation_path / ".half.tmp", "unfinished work of another")
        return {"metrics": text}

    carry_out(run, "evaluate", {**INPUTS, **inputs}, body, force=True)


def stored(run: Run, stage: str = "evaluate") -> dict[str, Any]:
    manifest = run.manifest(stage)
    assert manifest is not None
    return dict(manifest["files"])


def object_of(run: Run, path: Path) -> str:
    name = path.relative_to(run.directory).as_posix()
    return key_of(name, stored(run)[name]["sha256"])


def test_a_run_is_opened_by_its_url_alone(run: Run, elsewhere: Callable[..., Run]) -> None:
    there = elsewhere()
    assert there.experiment == run.experiment
    assert (there.location, there.url) == (run.location, run.url)
    assert there.directory != run.directory


def test_a_prefix_without_a_config_is_no_run(url: str) -> None:
    with pytest.raises(StageError, match=rf"{url} is not a run \(no config\.yaml\)"):
        Run.open(url)


def test_contradicting_settings_are_refused_from_any_machine(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    other = parse_experiment({"training": {"rank": 4}})
    with pytest.raises(StageError, match=r"training\.rank: 16 there, 4 here"):
        Run.create(elsewhere().location, other)
    Run.create(run.location, other, force=True)
    assert elsewhere("third").experiment == other


def test_of_machines_that_make_a_run_at_once_one_decides(url: str) -> None:
    ranks, at_once = range(2, 8), threading.Barrier(6)

    def create(rank: int) -> int | None:
        at_once.wait()
        try:
            Run.create(url, parse_experiment({"training": {"rank": rank}}))
        except StageError:
            return None
        return rank

    with ThreadPoolExecutor(len(ranks)) as pool:
        made = [rank for rank in pool.map(create, ranks) if rank is not None]
    assert made == [Run.open(url).experiment.training.rank]


def test_a_stage_done_on_one_machine_is_done_on_another(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    evaluated(run)
    there = elsewhere()
    outcome = carry_out(there, "evaluate", INPUTS, refuse)
    assert outcome.skipped and outcome.outputs == {"metrics": "0.5"}
    assert there.metrics_path.read_text() == "0.5"
    assert {*stored(run)} == {"evaluation/metrics.json", "evaluation/tables/scores.parquet"}


def test_what_a_stage_reads_is_pulled_before_it(run: Run, elsewhere: Callable[..., Run]) -> None:
    evaluated(run)
    there = elsewhere()
    carry_out(there, "report", {}, lambda: {"read": there.metrics_path.read_text()})
    assert (there.manifest("report") or {})["outputs"] == {"read": "0.5"}


def test_a_stale_copy_is_refreshed_and_the_rest_left_alone(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    evaluated(run)
    there = elsewhere()
    there.pull("evaluate")
    other = there.evaluation_path / "tables" / "scores.parquet"
    before = other.stat().st_mtime_ns
    write_atomically(run.metrics_path, "0.9")
    run.publish_again("evaluate")
    there.pull("evaluate")
    assert there.metrics_path.read_text() == "0.9"
    assert other.stat().st_mtime_ns == before


def test_what_a_later_attempt_no_longer_made_is_gone_from_copies(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    evaluated(run)
    there = elsewhere()
    there.pull("evaluate")
    (run.evaluation_path / "tables" / "scores.parquet").unlink()
    run.publish_again("evaluate")
    half = there.evaluation_path / ".half.tmp"
    half.write_text("another process is writing")
    there.pull("evaluate")
    assert there.metrics_path.is_file() and half.is_file()
    assert not (there.evaluation_path / "tables" / "scores.parquet").exists()


def test_a_copy_that_somebody_changed_is_put_right(run: Run) -> None:
    evaluated(run)
    run.metrics_path.write_text("0.6")
    run.pull("evaluate")
    assert run.metrics_path.read_text() == "0.5"


@pytest.mark.parametrize("damage", ["0.6", "0.55555", ""])
def test_a_damaged_object_is_named_and_made_again_by_force(
    run: Run, elsewhere: Callable[..., Run], damage: str
) -> None:
    evaluated(run)
    key = object_of(run, run.metrics_path)
    run.place.write(key, [damage.encode()])
    there = elsewhere()
    with pytest.raises(StageError, match=rf"{key} is damaged .* again with --force"):
        carry_out(there, "evaluate", INPUTS, refuse)
    assert not there.metrics_path.exists()
    evaluated(there)
    run.pull("evaluate")
    assert run.place.read(key) == b"0.5"


def test_an_object_that_is_gone_is_named(run: Run, elsewhere: Callable[..., Run]) -> None:
    evaluated(run)
    run.place.delete(object_of(run, run.metrics_path))
    with pytest.raises(StageError, match=r"metrics\.\w+\.json is listed by a manifest and gone"):
        elsewhere().pull("evaluate")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "evaluation/../../outside"])
def test_a_manifest_cannot_name_a_file_outside_the_run(run: Run, name: str) -> None:
    evaluated(run)
    manifest = run.manifest("evaluate") or {}
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    run.place.write("manifests/evaluate.json", [json.dumps(manifest).encode()])
    with pytest.raises(StageError, match="no file inside the run"):
        run.pull("evaluate")


def test_large_files_are_published_and_pulled_too(run: Run, elsewhere: Callable[..., Run]) -> None:
    content = b"x" * (LARGE + 1)

    def body() -> Mapping[str, Any]:
        write_atomically(run.embedding_path / "grams" / "delta.full.npy", content)
        return {}

    carry_out(run, "embed", INPUTS, body)
    there = elsewhere()
    there.pull("embed")
    assert (there.embedding_path / "grams" / "delta.full.npy").read_bytes() == content


def test_a_kill_before_the_manifest_leaves_the_stage_unfinished(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    script = """
import os, signal, sys
from lorastyle.places.bucket import BucketPlace
from lorastyle.runs import Run, carry_out, write_atomically

def killed(self, key, content):
    os.kill(os.getpid(), signal.SIGKILL)

run = Run.open(sys.argv[1])

def body():
    write_atomically(run.metrics_path, "0.5")
    BucketPlace.create = killed
    return {}

carry_out(run, "evaluate", {"a": 1}, body)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(run.location)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(run.place.child("evaluation").names()) == 1, "its file is there"
    there = elsewhere()
    assert there.status("evaluate", INPUTS).state == "missing"
    there.pull("evaluate")
    assert not there.metrics_path.exists()


def test_nan_publishes_nothing(run: Run) -> None:
    write_atomically(run.metrics_path, "0.5")
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.finish("evaluate", INPUTS, {"score": float("nan")}, 1.0)
    assert run.place.child("evaluation").names() == []


def finish_at_once(
    run: Run, elsewhere: Callable[..., Run], inputs: list[dict[str, Any]]
) -> tuple[list[Run], list[BaseException | None]]:
    """Two machines, each with results of its own, which both finish the same stage."""
    machines, at_once = [run, elsewhere()], threading.Barrier(2)

    def work(number: int) -> BaseException | None:
        mine = machines[number]

        def body() -> Mapping[str, Any]:
            write_atomically(mine.metrics_path, f"result {number}")
            at_once.wait()
            return {"result": number}

        try:
            carry_out(mine, "evaluate", inputs[number], body)
        except StageError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        return machines, list(pool.map(work, range(2)))


def test_machines_that_finish_a_stage_at_once_agree_on_one_result(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    machines, errors = finish_at_once(run, elsewhere, [INPUTS, INPUTS])
    assert errors == [None, None]
    standing = (run.manifest("evaluate") or {})["outputs"]["result"]
    assert [mine.metrics_path.read_text() for mine in machines] == [f"result {standing}"] * 2


def test_machines_that_finish_a_stage_from_other_inputs_do_not_mix(
    run: Run, elsewhere: Callable[..., Run]
) -> None:
    _, errors = finish_at_once(run, elsewhere, [{"a": 1}, {"a": 2}])
    (late,) = [number for number, error in enumerate(errors) if error is not None]
    assert "meanwhile, from other inputs" in str(errors[late])
    fresh = elsewhere("third")
    fresh.pull("evaluate")
    assert fresh.metrics_path.read_text() == f"result {1 - late}"


def test_a_run_needs_a_bucket(machines: Machines) -> None:
    machines("lonely")
    with pytest.raises(StoreError, match="there is no such bucket; make it first"):
        Run.create("s3://nobody/run", Experiment())


def test_images_are_pulled_one_by_one(run: Run, elsewhere: Callable[..., Run]) -> None:
    names = ["artist/1.png", "Müller & Söhne/#2?\t%20.png", "artist/a\\b.png"]

    def body() -> Mapping[str, Any]:
        write_atomically(run.catalogue_path, "rows")
        for name in names:
            write_atomically(run.corpus_path / name, name)
        return {}

    carry_out(run, "plan", INPUTS, body)
    there = elsewhere()
    there.pull("plan")
    assert there.catalogue_path.is_file() and not there.corpus_path.exists()
    assert there.fetch(there.corpus_path / names[1]).read_text() == names[1]
    assert len(list(there.corpus_path.rglob("*.png"))) == 1
    absent = there.corpus_path / "artist" / "else.png"
    assert there.fetch(absent) == absent and not absent.exists()


def test_a_forgotten_stage_is_made_again(run: Run, elsewhere: Callable[..., Run]) -> None:
    evaluated(run)
    elsewhere().forget("evaluate")
    assert run.status("evaluate", INPUTS).state == "missing"


def test_stores_lie_in_the_bucket(run: Run) -> None:
    assert run.store_path == f"{run.url}/adapters.zarr"
    assert run.ingested_path == f"{run.url}/ingested"
    assert not run.has_store
    place_of(run.store_path).write("zarr.json", [b"{}"])
    assert run.has_store
    assert replace(run, url=None).store_path == run.directory / "adapters.zarr"
