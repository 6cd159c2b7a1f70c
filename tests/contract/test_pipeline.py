"""The whole pipeline as a user runs it: once, again, and killed on the way."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorastyle.runs import STAGES, Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents

CONFIG = """
name: tiny
base: miniature
corpus: {source: procedural, n_artists: 3, works_per_artist: 26, min_works: 24, seed: 7}
protocol:
  {train: 4, calibration: 1, val: 2, test: 2, query_calibration: 1, query_val: 1, query_test: 1,
   images_per_adapter: 4, images_per_query: 2, reserved_val: 8, reserved_test: 8}
training: {rank: 2, alpha: 1, n_steps: 4, batch_size: 2, learning_rate: 3.0e-3, stack: 6}
embedding: {max_components: 8}
evaluation: {n_kmeans_seeds: 3}
"""

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def command(config: Path, run: Path) -> list[str]:
    program = [sys.executable, "-m", "lorastyle.cli.main"]
    return [*program, "run", str(config), "--run", str(run), "--json"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """A run carried out in one go, and what the command answered."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(command(config, run), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return run, json.loads(done.stdout)


def stores_equal(one: Path, other: Path) -> bool:
    digests = {
        digest_of_contents(AdapterStore.open(Run.open(run).store_path)) for run in (one, other)
    }
    return len(digests) == 1


def numbers(value):
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, float):
        yield value


def test_every_stage_leaves_its_manifest_and_its_files(undisturbed):
    directory, _ = undisturbed
    run = Run.open(directory)
    assert all(run.manifest(stage) for stage in STAGES)
    for path in (run.catalogue_path, run.plan_path, run.store_path, run.metrics_path):
        assert path.exists(), path
    page = (run.report_path / "index.html").read_text(encoding="utf-8")
    assert 'href="explorer.html"' in page
    assert 'href="index.html"' in (run.report_path / "explorer.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http-equiv" in page


def test_metrics_have_the_promised_shape_and_no_number_is_missing_quietly(undisturbed):
    metrics = json.loads(Run.open(undisturbed[0]).metrics_path.read_text())
    assert {"clustering", "retrieval", "features", "protocol"} <= metrics.keys()
    for representation in ("factors", "delta"):
        for part in ("full", "feed_forward", "self_attention", "cross_attention"):
            clustering = metrics["clustering"][f"{representation}/{part}"]
            assert {"mean", "std"} <= clustering["train"]["ari"].keys()
            assert {"val", "test"} <= clustering["uncalibrated"].keys()
            retrieval = metrics["retrieval"][f"{representation}/{part}"]
            assert {"map", "recall_at_k", "n_queries"} <= retrieval["test"].keys()
    assert all(math.isfinite(number) for number in numbers(metrics))


def test_run_again_it_does_nothing_and_starts_no_ray(config, undisturbed):
    run, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    done = subprocess.run(
        command(config, run),
        capture_output=True,
        text=True,
        check=False,
        # An address at which nothing answers: whoever needs Ray fails.
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
    )
    assert done.returncode == 0, done.stderr
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert after == before


def test_killed_while_training_and_run_again_it_ends_in_the_same_metrics(
    config, undisturbed, tmp_path
):
    directory = tmp_path / "run"
    process = subprocess.Popen(
        command(config, directory),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    commits = directory / "adapters.zarr" / "commits"
    while time.monotonic() < deadline and process.poll() is None:
        if commits.is_dir() and any(commits.glob("*.json")):
            break
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert Run.open(directory).manifest("train") is None
    done = subprocess.run(command(config, directory), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert stores_equal(directory, undisturbed[0])
    metrics = [Run.open(each).metrics_path.read_text() for each in (directory, undisturbed[0])]
    assert json.loads(metrics[0]) == json.loads(metrics[1])
