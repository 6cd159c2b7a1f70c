"""The verbs: which run, which stages, what they answer."""

import json

import numpy as np
import pytest

from lorastyle.errors import StageError
from lorastyle.records import AdapterSpec, Role
from lorastyle.runs import STAGES, Run, StageOutcome


def test_run_carries_out_every_stage_and_answers_with_the_table(lorastyle, pretended, config):
    result = lorastyle("run", config)
    assert result.exit_code == 0, result.stderr
    assert [stage for stage, _ in pretended] == list(STAGES)
    assert "59.0 ± 2.0" in result.stdout
    assert "runs/small/report/index.html" in result.stdout
    assert "12 artists, 720 images, 216 adapters" in result.stderr
    assert "1 non-finite" in result.stderr
    assert "a library talks" not in result.stdout


def test_a_second_run_says_that_everything_is_done(lorastyle, pretended, config):
    lorastyle("run", config)
    result = lorastyle("run", config)
    assert "Everything was done already" in result.stdout
    assert result.stderr.count("done already") == len(STAGES)


def test_run_answers_in_json(lorastyle, pretended, config):
    document = json.loads(lorastyle("run", config, "--json").stdout)
    assert [stage["stage"] for stage in document["stages"]] == list(STAGES)
    assert not any(stage["skipped"] for stage in document["stages"])
    assert document["metrics"]["clustering"]["factors/full"]["n_components"] == 12
    assert document["report"] == "runs/small/report/index.html"


def test_settings_can_be_changed_and_the_run_put_elsewhere(lorastyle, pretended, config, tmp_path):
    result = lorastyle("run", config, "rank=8", "--run", tmp_path / "here", "n_steps=5")
    assert result.exit_code == 0, result.stderr
    training = Run.open(tmp_path / "here").experiment.training
    assert (training.rank, training.n_steps) == (8, 5)


def test_a_run_refuses_other_settings_unless_forced(lorastyle, pretended, config):
    lorastyle("run", config)
    refused = lorastyle("run", config, "rank=8")
    assert refused.exit_code == 1
    assert "training.rank: 4 there, 8 here" in refused.stderr
    assert lorastyle("run", config, "rank=8", "--force").exit_code == 0
    assert pretended[-1] == ("report", True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_verb_carries_out_its_stage_alone(lorastyle, pretended, config, stage):
    lorastyle("plan", config)
    result = lorastyle(stage, "runs/small", "--force", "--json")
    assert result.exit_code == 0, result.stderr
    assert pretended[1:] == [(stage, True)]
    assert json.loads(result.stdout)["stage"] == stage


@pytest.mark.parametrize("verb", ["sweep", "run"])
def test_missing_ranks_are_trained_when_told(lorastyle, monkeypatch, config, verb):
    told = []

    def run_stages(run, stages, **options):
        told.append(options["train_missing"])
        raise StageError("enough")

    monkeypatch.setattr("lorastyle.distributed.pipeline.run_stages", run_stages)
    assert lorastyle(verb, config, "--train-missing", "sweep.ranks=[4, 8]").exit_code == 1
    assert lorastyle(verb, config, "sweep.ranks=[4, 8]").exit_code == 1
    assert told == [True, False]
    wrong = lorastyle(verb, config, "sweep.sub_networks=[ful]")
    assert wrong.exit_code == 2
    assert "did you mean 'full'" in wrong.stderr


def test_the_sweep_prints_its_table_and_what_it_left_out(lorastyle, monkeypatch, config, tmp_path):
    def run_stages(run, stages, **_):
        run.sweep_path.mkdir(parents=True)
        (run.sweep_path / "ablation.md").write_text("| the table |\n")
        left_out = {f"delta/up.{number}": "no modules" for number in range(7)}
        return [StageOutcome("sweep", False, 1.0, {"n_settings": 3, "left_out": left_out})]

    monkeypatch.setattr("lorastyle.distributed.pipeline.run_stages", run_stages)
    result = lorastyle("sweep", config)
    assert result.exit_code == 0, result.stderr
    assert "3 settings" in result.stdout and "| the table |" in result.stdout
    assert "left out delta/up.4: no modules\n  and 2 more" in result.stdout


def test_demo_runs_the_shipped_experiment(lorastyle, pretended, tmp_path):
    result = lorastyle("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    run = Run.open(tmp_path / "demo")
    assert run.experiment.name == "demo" and run.experiment.base == "miniature"
    assert str(tmp_path / "demo" / "report" / "index.html") in result.stdout
    again = lorastyle("demo", "--out", tmp_path / "demo")
    assert f"`lorastyle demo --out {tmp_path / 'demo'} --force` makes it again" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run", "gone.yaml"], 2, "gone.yaml"),
        (["run", "small.yaml", "rankk=8"], 2, "there is no setting 'rankk'"),
        (["run", "small.yaml", "rank=zero"], 2, "training.rank"),
        (["run"], 2, "CONFIG|RUN"),
        (["train", "."], 1, "is not a run (no config.yaml)"),
        (["inspect", "."], 1, "is not a run"),
    ],
)
def test_wrong_use_is_named(lorastyle, pretended, config, arguments, status, words):
    result = lorastyle(*arguments)
    assert result.exit_code == status
    assert words in result.stderr
    assert not pretended


def test_a_run_directory_and_another_run_contradict(lorastyle, pretended, config):
    lorastyle("plan", config)
    result = lorastyle("train", "runs/small", "--run", "elsewhere")
    assert result.exit_code == 2
    assert "--run goes with a CONFIG" in result.stderr


def test_inspect_says_which_stages_are_done(lorastyle, pretended, config):
    lorastyle("plan", config)
    document = json.loads(lorastyle("inspect", "runs/small", "--json").stdout)
    done = [stage for stage, one in document["stages"].items() if one["done"]]
    assert done == ["plan"]
    assert document["store"] is None
    text = lorastyle("inspect", "runs/small").stdout
    assert "12 artists, 720 images, 216 adapters" in text and "No adapters yet." in text


def test_inspect_counts_adapters_by_role_and_status(lorastyle, pretended, config, tmp_path):
    from lorastyle.adapters.layout import AdapterLayout, TargetModule
    from lorastyle.store.adapter_store import AdapterStore

    lorastyle("plan", config)
    layout = AdapterLayout.of_modules(2, [TargetModule("a.attn1.to_q", "self_attention", 6, 4)])
    path = tmp_path / "runs" / "small" / "adapters.zarr"
    init = {"init_seed": 0, "initialisation": "shared"}
    base = {"name": "miniature", "sha256": "0" * 64}
    store = AdapterStore.create(path, layout, base=base, alpha=2.0, n_rows=4, init=init)
    vectors = [np.ones(layout.size), np.full(layout.size, np.nan), np.ones(layout.size)]
    for row, (role, vector) in enumerate(
        zip((Role.TRAIN, Role.TRAIN, Role.TEST), vectors, strict=True)
    ):
        store.commit(row, vector.astype(np.float32), spec(row, role), {})
    store.quarantine(3, spec(3, Role.TEST), "out of memory")
    document = json.loads(lorastyle("inspect", "runs/small", "--json").stdout)["store"]
    assert document["by_role"] == {
        "train": {"ok": 1, "non_finite": 1},
        "test": {"ok": 1, "failed": 1},
    }
    assert (document["d"], document["rank"], document["n_planned"]) == (layout.size, 2, 216)
    assert document["bytes"] > 3 * 4 * layout.size
    assert "4 adapters of 216 planned, d = 20, rank 2" in lorastyle("inspect", "runs/small").stdout


def spec(row: int, role: Role) -> AdapterSpec:
    name = f"a-{role.value}-{row:02d}"
    return AdapterSpec(row, name, "a", "g", role, row, ("a/0.png",), "xq7zk", 1, 0)
