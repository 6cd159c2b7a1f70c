"""A base model, a planned and a trained run of seconds; conftest.py makes these fixtures known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorastyle.config import Experiment, parse_experiment
from lorastyle.runs import Run

TINY: dict[str, Any] = {
    "corpus": {"n_artists": 3, "works_per_artist": 20, "min_works": 10},
    "protocol": {
        "train": 3,
        "calibration": 1,
        "val": 1,
        "test": 1,
        "query_calibration": 1,
        "query_val": 1,
        "query_test": 1,
        "images_per_adapter": 4,
        "images_per_query": 2,
        "reserved_val": 5,
        "reserved_test": 5,
        "max_overlap": 0.75,
    },
    "training": {"rank": 2, "alpha": 1, "n_steps": 4, "batch_size": 2, "stack": 4},
    "embedding": {"max_components": 4},
    "evaluation": {"n_kmeans_seeds": 2, "features": ["pixel_mean"]},
}
"""24 adapters in stacks of 4."""


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained base model of 32-pixel images, in a Stable Diffusion folder."""
    import torch

    from lorastyle.base import pretraining

    directory = tmp_path_factory.mktemp("base")
    architecture = pretraining.Architecture(
        image_size=32,
        latent_channels=4,
        vae_channels=(8, 16, 16),
        unet_channels=(16, 32),
        n_heads=2,
        text_width=16,
        text_layers=1,
        n_tokens=12,
        norm_groups=4,
    )
    tokenizer = pretraining.write_tokenizer(directory / "tokenizer", ["a", "painting"], 12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = pretraining.build_vae(architecture)
    base = pretraining.assemble(architecture, vae, tokenizer)
    pretraining.write_folder(base, directory / "tiny", dtype=torch.float32)
    return directory / "tiny"


@pytest.fixture(scope="session")
def tiny_experiment(tiny_base: Path) -> Callable[..., Experiment]:
    """An experiment of seconds; keywords replace settings of the training."""

    def make(**training: Any) -> Experiment:
        values = {
            **TINY,
            "base": str(tiny_base),
            "training": {**TINY["training"], **training},
            # Stacks are cut by the number of actors, and with them the order of sums.
            "compute": {"n_actors": 2},
        }
        return parse_experiment(values)

    return make


@pytest.fixture
def planned_run(tmp_path: Path, tiny_experiment: Callable[..., Experiment]) -> Callable[..., Run]:
    """A run of the tiny experiment whose plan is made, in a directory of that name."""
    from lorastyle.corpus.stage import plan

    def make(name: str = "run", **training: Any) -> Run:
        run = Run.create(tmp_path / name, tiny_experiment(**training))
        plan(run, image_size=32)
        return run

    return make


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_experiment: Callable[..., Experiment]
) -> Path:
    """A planned and trained run, made in this process; tests take copies."""
    from lorastyle.base.lookup import base_identity
    from lorastyle.corpus.stage import corpus_root, plan, read_catalogue, read_plan
    from lorastyle.corpus.training_images import index_catalogue
    from lorastyle.distributed.batches import balanced_batches
    from lorastyle.distributed.fleet import train
    from lorastyle.distributed.work import make_tasks, open_workbench, train_batch

    run = Run.create(tmp_path_factory.mktemp("trained") / "run", tiny_experiment())
    plan(run, image_size=32)
    root, specs, settings = corpus_root(run), read_plan(run), run.experiment.training
    images = index_catalogue(read_catalogue(run), root)
    tasks = make_tasks(specs, images, settings, base_identity(run.experiment.base).to_dict())
    bench = open_workbench(run.directory, root, len(specs))
    for stack in balanced_batches(tasks, settings.stack, 2):
        train_batch(bench, stack)
    train(run)
    return run.directory


@pytest.fixture
def trained_run(trained: Path, tmp_path: Path) -> Run:
    """A copy of the trained run, to do anything with."""
    return Run.open(Path(shutil.copytree(trained, tmp_path / "run")))
