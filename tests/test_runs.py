"""Stages are finished, stale or missing, and never half of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lorastyle.config import Experiment, parse_experiment
from lorastyle.errors import ConfigError, StageError
from lorastyle.runs import STAGES, Run, carry_out, write_atomically, write_json

INPUTS = {"a": 1, "b": {"c": [1, 2]}}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", Experiment())


def refuse():
    raise AssertionError("the stage is current: nothing to do")


def test_a_run_is_opened_with_the_experiment_it_was_made_with(tmp_path):
    experiment = parse_experiment({"training": {"rank": 4}, "corpus": {"artists": ["a", "b"]}})
    Run.create(tmp_path, experiment)
    assert Run.open(tmp_path).experiment == experiment


def test_a_directory_without_a_config_is_no_run(tmp_path):
    with pytest.raises(StageError, match=r"is not a run \(no config\.yaml\)"):
        Run.open(tmp_path)


def test_contradicting_settings_are_refused_by_name_and_the_run_is_left_alone(run):
    before = run.config_path.read_text()
    other = parse_experiment({"training": {"rank": 4, "alpha": 2}})
    with pytest.raises(StageError) as refused:
        Run.create(run.directory, other)
    assert "training.rank: 16 there, 4 here" in str(refused.value)
    assert "training.alpha: 8.0 there, 2.0 here" in str(refused.value)
    assert run.config_path.read_text() == before


def test_force_accepts_other_settings(run):
    other = parse_experiment({"training": {"rank": 4}})
    Run.create(run.directory, other, force=True)
    assert Run.open(run.directory).experiment == other


def test_another_name_or_machine_is_no_contradiction(run):
    Run.create(run.directory, parse_experiment({"name": "x", "compute": {"n_actors": 4}}))
    assert Run.open(run.directory).experiment.compute.n_actors == 4


def test_a_stage_is_missing_then_current_then_stale(run):
    assert run.status("plan", INPUTS).state == "missing"
    run.finish("plan", INPUTS, {"n": 3}, 1.5)
    assert run.status("plan", INPUTS).state == "current"
    stale = run.status("plan", {"a": 2, "b": {"c": [1, 2]}, "d": 0})
    assert (stale.state, stale.changed) == ("stale", ("a", "d"))
    assert run.status("plan", {"a": 1}).changed == ("b",)


def test_tuples_and_lists_are_the_same_input(run):
    run.finish("plan", {"a": (1, 2)}, {}, 0.0)
    assert run.status("plan", {"a": [1, 2]}).state == "current"


def test_a_finished_stage_is_not_carried_out_again(run):
    first = carry_out(run, "plan", INPUTS, lambda: {"n": 3})
    second = carry_out(run, "plan", INPUTS, refuse)
    assert (first.skipped, second.skipped) == (False, True)
    assert second.outputs == first.outputs == {"n": 3}


def test_a_stale_stage_is_refused_and_names_what_changed(run):
    carry_out(run, "plan", INPUTS, lambda: {"n": 3})
    with pytest.raises(StageError, match=r"inputs of 'plan' .* changed \(a\); use --force"):
        carry_out(run, "plan", {**INPUTS, "a": 2}, refuse)
    assert run.status("plan", INPUTS).state == "current"


def test_force_carries_a_stage_out_again(run):
    carry_out(run, "plan", INPUTS, lambda: {"n": 3})
    forced = carry_out(run, "plan", {"a": 2}, lambda: {"n": 4}, force=True)
    assert (forced.skipped, forced.outputs) == (False, {"n": 4})
    assert run.status("plan", {"a": 2}).state == "current"


def test_a_stage_that_fails_is_unfinished_even_where_it_was_finished_before(run):
    carry_out(run, "plan", INPUTS, lambda: {"n": 3})
    with pytest.raises(ZeroDivisionError):
        carry_out(run, "plan", INPUTS, lambda: {"n": 1 // 0}, force=True)
    assert run.status("plan", INPUTS).state == "missing"


def test_a_kill_between_output_and_manifest_leaves_the_stage_unfinished(run):
    script = """
import os, signal, sys
from pathlib import Path
from lorastyle.runs import Run, carry_out, write_atomically

run = Run.open(Path(sys.argv[1]))

def body():
    write_atomically(run.plan_path, "rows")
    os.kill(os.getpid(), signal.SIGKILL)

carry_out(run, "plan", {"a": 1}, body)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(run.directory)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert run.plan_path.read_text() == "rows"
    assert run.status("plan", {"a": 1}).state == "missing"
    assert not carry_out(run, "plan", {"a": 1}, lambda: {"n": 1}).skipped


def test_the_next_stage_follows_what_this_one_wrote(run):
    run.finish("plan", INPUTS, {"n": 3}, 1.0)
    before = run.upstream_hash("plan")
    run.finish("plan", {"a": 9}, {"n": 3}, 7.0)
    assert run.upstream_hash("plan") == before, "same output, whatever it took"
    run.finish("plan", INPUTS, {"n": 4}, 1.0)
    assert run.upstream_hash("plan") != before


def test_a_stage_that_is_needed_and_missing_is_named_with_its_command(run):
    with pytest.raises(StageError, match=r"no finished 'train' stage; run `lorastyle train "):
        run.upstream_hash("train")


@pytest.mark.parametrize("text", ["", "{", '{"inputs": '])
def test_a_damaged_manifest_is_named_and_never_taken_for_a_finished_stage(run, text):
    run.manifest_path("plan").parent.mkdir()
    run.manifest_path("plan").write_text(text)
    with pytest.raises(StageError, match=r"plan\.json is damaged; delete it"):
        carry_out(run, "plan", INPUTS, refuse)


def test_a_manifest_says_what_when_and_how_long(run):
    run.finish("plan", INPUTS, {"n": 3}, 1.23456)
    manifest = json.loads(run.manifest_path("plan").read_text())
    assert (manifest["stage"], manifest["inputs"], manifest["outputs"]) == (
        "plan",
        INPUTS,
        {"n": 3},
    )
    assert manifest["wall_s"] == 1.235
    assert manifest["finished_at"].endswith("Z")


def test_nan_is_never_written(run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.finish("plan", INPUTS, {"score": float("nan")}, 1.0)
    assert run.status("plan", INPUTS).state == "missing"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(run.directory / "x.json", float("inf"))
    assert not (run.directory / "x.json").exists()


def test_a_failed_write_leaves_the_old_file(run, monkeypatch):
    path = run.directory / "x.txt"
    write_atomically(path, "old")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_every_path_of_a_run_is_inside_it(run):
    paths = [
        run.config_path,
        run.corpus_path,
        run.catalogue_path,
        run.plan_path,
        run.store_path,
        run.embedding_path,
        run.sweep_path,
        run.metrics_path,
        run.report_path,
        *(run.manifest_path(stage) for stage in STAGES),
    ]
    assert all(path.is_relative_to(run.directory) for path in paths)
    assert len(set(paths)) == len(paths)


def test_looking_at_a_run_loads_no_heavy_library():
    script = """
import sys
from pathlib import Path
import lorastyle, lorastyle.config, lorastyle.records, lorastyle.runs
print(sorted({"torch", "diffusers", "ray", "dask", "zarr", "pandas"} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert shown.stdout.decode().strip() == "[]"


@pytest.mark.parametrize("content", ["[]", "{}", "null", "3", '{"inputs": {}}', "{"])
def test_a_manifest_that_is_no_manifest_is_called_damaged(tmp_path: Path, content: str) -> None:
    run = Run.create(tmp_path / "run", Experiment())
    run.manifest_path("plan").parent.mkdir()
    run.manifest_path("plan").write_text(content)
    with pytest.raises(StageError, match=r"plan\.json is damaged; delete it"):
        run.status("plan", {})


@pytest.mark.parametrize("content", ["[]", "name: [", "3"])
def test_a_damaged_config_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        Run.open(tmp_path)
