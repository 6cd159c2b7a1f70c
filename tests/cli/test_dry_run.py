"""What a dry run says, against the paper's numbers, hand counts and files really written."""

from __future__ import annotations

import io
import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from jobs._arguments import main as job
from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.cli.plan_document import (
    MINIATURE_SAMPLES_PER_S,
    Adapters,
    Unit,
    expected_adapters,
    plan_document,
    planned_adapters,
)
from lorastyle.cli.plan_text import plan_text
from lorastyle.config import load_experiment, parse_experiment
from lorastyle.corpus.planning import make_catalogue, make_specs
from lorastyle.places.place import place_of
from lorastyle.training.checkpoint import CheckpointFile, TrainingState, write_checkpoint
from lorastyle.training.cost import SampleCost
from tests.corpus.test_planning import works_of

PAPER = Path(__file__).parents[2] / "configs" / "paper.yaml"
GIB = 2**30


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No connection can be made, no cache of the hub is there, and the directory is empty."""

    def refuse(*_: object) -> None:
        raise AssertionError("a dry run wanted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_the_papers_experiment_without_images_weights_or_network(
    lorastyle: Any, offline: None, tmp_path: Path
) -> None:
    """63 artists: 24 + 3 + 3 adapters of each on 10 images are the paper's 1,890 (section 4)."""
    result = lorastyle("train", PAPER, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)["plan"]
    assert plan["adapters_by_role"] == {
        "train": 63 * 24,
        "val": 63 * 3,
        "test": 63 * 3,
        "query_calibration": 63 * 3,
        "query_val": 63 * 5,
        "query_test": 63 * 5,
    }
    assert plan["n_adapters"] == 2709
    assert plan["images_not_read"] == "there is no folder artbench"
    assert not {"n_images", "overlap", "latents_bytes"} & plan.keys()
    assert plan["d_by_sub_network"] == {
        "feed_forward": 2_795_520,
        "self_attention": 1_597_440,
        "cross_attention": 1_591_296,
    }
    assert plan["d"] == 5_984_256
    assert plan["store_bytes"] == 2709 * 5_984_256 * 4
    # Two representations of the three sub-networks, of which the full one is the sum.
    assert plan["gram_bytes"] == 2 * 3 * 2709**2 * 8
    assert not any(tmp_path.iterdir())
    # The work, in both meanings of a step.
    n_samples = 2709 * 1760
    assert plan["prior_batch"] == "interleaved"
    assert plan["n_samples"] == plan["prior_batches"]["interleaved"]["n_samples"] == n_samples
    assert plan["prior_batches"]["paired"]["n_samples"] == 2 * n_samples
    assert plan["prior_batches"]["paired"]["samples_a_step"] == 2
    assert plan["flops"] == pytest.approx(n_samples * 1.740e12, rel=1e-3)
    assert plan["cost"]["precision"] == "bfloat16"
    assert plan["cost"]["saved_bytes"] == pytest.approx(0.86 * GIB, rel=0.01)
    assert plan["paper_gpu_hours"] == [2709 * 5 / 60, 2709 * 10 / 60]
    assert "training_s" not in plan


def test_the_job_needs_no_run_to_say_it_and_fits_a_terminal(
    offline: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert job(["train"], ["--config", str(PAPER), "--dry-run"]) == 0
    resolved, _, plan = capsys.readouterr().out.partition("\nRun:")
    (tmp_path / "resolved.yaml").write_text(resolved)
    assert load_experiment(tmp_path / "resolved.yaml") == load_experiment(PAPER)
    for said in (
        "63, as the experiment says",
        "not read: there is no folder artbench",
        "1,890 on 10 images, 819 on 3 images",
        "2,795,520   46.7%",
        "1.740 TFLOP   0.803 forward",
        "0.86 GiB of it kept",
        "226 to 452 GPU-hours at the paper's",
    ):
        assert said in plan
    marked = [line for line in plan.splitlines() if line.startswith("  *")]
    assert marked[0].split()[1:4] == ["interleaved", "1", "4,767,840"]
    assert max(len(line) for line in plan.splitlines()) <= 80
    with pytest.raises(SystemExit) as ended:
        job(["train"], ["--config", str(PAPER)])
    assert ended.value.code == 2 and "--run is needed" in capsys.readouterr().err
    for rate in ("0", "-1", "inf", "nan", "fast"):
        with pytest.raises(SystemExit):
            job(["train"], ["--config", str(PAPER), "--dry-run", "--samples-per-s", rate])
        assert f"'{rate}' is no rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["corpus.n_artists=null"], "does not say how many artists .* set corpus.n_artists"),
        (["corpus.source=adapters", "corpus.path=null"], "nothing to train"),
    ],
)
def test_what_cannot_be_counted_is_said(
    lorastyle: Any, offline: None, changes: list[str], reason: str
) -> None:
    result = lorastyle("train", PAPER, "--dry-run", *changes)
    assert result.exit_code == 2
    assert re.search(reason, result.stderr)


def test_named_artists_are_counted_up_to_their_number(lorastyle: Any, offline: None) -> None:
    for n, n_artists in ((None, 3), (2, 2), (9, 3)):
        changes = [
            "base=miniature",
            "corpus.artists=[a, b, c]",
            f"corpus.n_artists={json.dumps(n)}",
        ]
        plan = json.loads(lorastyle("plan", PAPER, "--dry-run", "--json", *changes).stdout)["plan"]
        assert (plan["n_artists"], plan["n_adapters"]) == (n_artists, n_artists * 43)


def test_a_base_model_is_known_by_its_description(
    lorastyle: Any, offline: None, tmp_path: Path
) -> None:
    """What differs from diffusers' defaults is enough; without a description there is no plan."""
    description = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 16,
        "cross_attention_dim": 24,
        "block_out_channels": [32, 64, 64, 64],
    }
    (tmp_path / "base" / "unet").mkdir(parents=True)
    told = ("plan", PAPER, "--dry-run", "--json", "base=base", "rank=2")
    result = lorastyle(*told)
    assert result.exit_code == 1 and "no readable unet/config.json" in result.stderr
    (tmp_path / "base" / "unet" / "config.json").write_text(json.dumps(description))
    plan = json.loads(lorastyle(*told).stdout)["plan"]
    assert plan["latent_bytes_an_image"] == 2 * 4 * 16 * 16 * 4 + 128
    # Five blocks 32 wide and eleven 64 wide: r (w + 8 w) and r (4 w + w) in each.
    assert plan["d_by_sub_network"]["feed_forward"] == 2 * 14 * (5 * 32 + 11 * 64)


SMALL = {
    "train": 2, "calibration": 1, "val": 1, "test": 1, "query_calibration": 1, "query_val": 2,
    "query_test": 0, "images_per_adapter": 3, "images_per_query": 2,
    "reserved_val": 3, "reserved_test": 3, "max_overlap": 0.75,
}  # fmt: skip


def test_images_that_are_there_are_read_and_no_captioner_is(lorastyle: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for artist in "ab":
        (tmp_path / "art" / artist).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "art" / artist / f"{number}.png")
    corpus = {"source": "folder", "path": "art", "min_works": 10, "captioner": "no/such-captioner"}
    values = {"name": "small", "corpus": corpus, "protocol": SMALL, "training": {"n_steps": 5}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    result = lorastyle("run", "small.yaml", "--dry-run", "--json", "rank=2")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    plan = document["plan"]
    assert document["experiment"]["training"]["rank"] == 2
    assert document["experiment"]["corpus"]["captioner"] == "no/such-captioner"
    assert plan["adapters_by_role"] == {
        "train": 4, "val": 2, "test": 2, "query_calibration": 2, "query_val": 4
    }  # fmt: skip
    assert (plan["n_images"], plan["n_artists"], plan["n_samples"]) == (20, 2, 14 * 5)
    assert plan["images_by_split"] == {"train": 8, "val": 6, "test": 6}
    assert 8 <= plan["n_images_used"] <= 20
    assert not (tmp_path / "runs").exists()
    assert "Images:         20 by 2 artists" in lorastyle("plan", "small.yaml", "--dry-run").stdout


def test_adapters_expected_are_those_that_are_planned() -> None:
    experiment = parse_experiment({})
    catalogue = make_catalogue(works_of(dict.fromkeys("abc", 100)), experiment)
    planned = planned_adapters(catalogue, make_specs(catalogue, experiment))
    expected = expected_adapters(experiment, 3, "not there")
    assert list(expected.by_role.items()) == list(planned.by_role.items())
    assert expected.n == planned.n == 3 * 43


MODULES = [
    TargetModule("a.attn1.to_q", "self_attention", 8, 6),
    TargetModule("a.ff.net.2", "feed_forward", 4, 10),
]
COST = SampleCost(10, 30, saved_bytes=700, peak_bytes=900, n_parameters=84, state_bytes=1344)
UNIT = Unit(AdapterLayout.of_modules(3, MODULES), COST, "float32", latent_numbers=4 * 8 * 8)
SEVEN = Adapters(2, {"train": 7}, {"n_images_used": 5})
UNREAD = Adapters(2, {"train": 7}, {}, "not there")


def test_bytes_are_those_of_files(tmp_path: Path) -> None:
    experiment = parse_experiment({"training": {"n_steps": 11, "stack": 4, "batch_size": 2}})
    plan = plan_document(experiment, SEVEN, UNIT)
    d = 3 * (8 + 6) + 3 * (4 + 10)
    assert plan["d"] == d
    assert plan["d_by_sub_network"] == {"self_attention": 42, "feed_forward": 42}
    numbers = torch.zeros(4, d)
    state = TrainingState(
        numbers, numbers.clone(), numbers.clone(), torch.zeros(()), torch.zeros(11, 4)
    )
    write_checkpoint(CheckpointFile(place_of(tmp_path), "stack"), state, "x" * 64)
    assert 0 < (tmp_path / "stack").stat().st_size - plan["checkpoint_bytes"] < 1024
    latent = io.BytesIO()
    np.save(latent, np.zeros((2, 4, 8, 8), np.float32))
    assert plan["latents_bytes"] == 5 * len(latent.getvalue())
    # Two representations, two sub-networks that the layout has.
    assert plan["gram_bytes"] == 2 * 2 * 7 * 7 * 8
    assert plan["stack_memory_bytes"] == 4 * (1344 + 2 * 900)


def test_a_rate_is_of_one_gpu_and_the_miniatures_of_one_core() -> None:
    values = {"base": "some/model", "training": {"n_steps": 1000}}
    experiment = parse_experiment({**values, "compute": {"n_actors": 8, "gpus_per_actor": 0.5}})
    plan = plan_document(experiment, UNREAD, UNIT, samples_per_s=10)
    assert plan["device_hours"] == pytest.approx(7 * 1000 / 10 / 3600, abs=0.01)
    assert plan["training_s"] == 7 * 1000 / 10 / 4
    text = plan_text(plan, experiment, "runs/x")
    assert "0.19 GPU-hours at 10 samples/s a GPU" in text and "2 min 55 s on 4 GPUs" in text
    experiment = parse_experiment({**values, "base": "miniature", "compute": {"n_actors": 3}})
    plan = plan_document(experiment, UNREAD, UNIT)
    assert plan["training_s"] == pytest.approx(7000 / MINIATURE_SAMPLES_PER_S / 3, abs=0.1)
    assert "on 3 cores" in plan_text(plan, experiment, "runs/x")


@pytest.mark.parametrize(
    ("training", "n_samples", "meanings"),
    [
        ({}, 7 * 10 * 2, None),
        ({"prior_batch": "paired"}, 7 * 10 * 2, None),
        ({"prior_weight": 0.5}, 7 * 10 * 2, (140, 280)),
        ({"prior_weight": 0.5, "prior_batch": "paired"}, 7 * 10 * 4, (140, 280)),
    ],
)
def test_regularisation_doubles_the_work_of_paired_batches_only(
    training: dict[str, Any], n_samples: int, meanings: tuple[int, int] | None
) -> None:
    experiment = parse_experiment({"training": {"n_steps": 10, "batch_size": 2, **training}})
    plan = plan_document(experiment, SEVEN, UNIT, samples_per_s=4.0)
    assert plan["n_samples"] == n_samples
    assert plan["flops"] == n_samples * 30
    assert plan["training_s"] == n_samples / 4
    said = plan.get("prior_batches")
    assert (said and tuple(work["n_samples"] for work in said.values())) == meanings


def test_ranks_that_a_sweep_would_train_besides_are_named() -> None:
    experiment = parse_experiment({"training": {"rank": 3}, "sweep": {"ranks": [3, 8, 16, 8]}})
    assert plan_document(experiment, SEVEN, UNIT)["other_ranks"] == {"8": 7, "16": 7}
    assert "other_ranks" not in plan_document(parse_experiment({}), SEVEN, UNIT)
