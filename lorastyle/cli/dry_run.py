"""`--dry-run`: what an experiment would train and what that would take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lorastyle.cli.answer import Answer, say
from lorastyle.report.words import KIND_NAMES, duration, size

if TYPE_CHECKING:
    import pandas as pd

    from lorastyle.config import Experiment
    from lorastyle.records import AdapterSpec


MINIATURE_SAMPLES_PER_S = 160.0
"""Training throughput of the shipped miniature at rank 4 on one core (LOG.md, 2026-11-23)."""
PAPER_MINUTES = (5, 10)
"""What an adapter of Stable Diffusion 1.5 took the paper on one GPU (section 5)."""


def preview(experiment: Experiment, place: Path | str, samples_per_s: float | None) -> Answer:
    """The resolved experiment and a description of its plan; nothing is left behind."""
    from lorastyle.corpus.planning import describe_plan

    catalogue, specs = _plan(experiment, place)
    if samples_per_s is None and experiment.base == "miniature":
        samples_per_s = MINIATURE_SAMPLES_PER_S * (os.cpu_count() or 1)
    plan = describe_plan(
        experiment, catalogue, specs, adapter_size(experiment), samples_per_s=samples_per_s
    )
    document = {
        "run": str(place),
        "experiment": experiment.model_dump(mode="json"),
        "config_hash": experiment.hash(),
        "plan": plan,
    }
    return Answer(document, f"{experiment.to_yaml()}\n{plan_text(plan, place)}")


def plan_text(plan: Mapping[str, Any], place: Path | str) -> str:
    """The plan for people, a fact a line."""
    roles = ", ".join(f"{n} {KIND_NAMES[role]}" for role, n in plan["adapters_by_role"].items())
    lines = {
        "Run": str(place),
        "Images": f"{plan['n_images']:,} by {plan['n_artists']} artists, {plan['n_genres']} genres",
        "Adapters": f"{plan['n_adapters']:,}: {roles}",
        "Adapter": f"d = {plan['d']:,} numbers",
        "Store": size(plan["store_bytes"]),
        "Gram matrices": size(plan["gram_bytes"]),
        "Training": f"{plan['n_samples']:,} samples",
    }
    others = plan.get("other_ranks")
    if others:
        lines["Other ranks"] = (
            f"{', '.join(others)}: {sum(others.values()):,} adapters more, trained as the sweep is "
            "told --train-missing"
        )
    overlap = plan.get("overlap")
    if overlap:
        lines["Shared images"] = f"{overlap['mean']:.0%} on average, {overlap['max']:.0%} at most"
    if "training_s" in plan:
        lines["Training"] += (
            f", about {duration(plan['training_s'])} at {plan['samples_per_s']:g}/s"
        )
    else:
        low, high = (minutes * plan["n_adapters"] / 60 for minutes in PAPER_MINUTES)
        lines["Training"] += (
            f"; {low:,.0f} to {high:,.0f} GPU-hours at the paper's 5 to 10 minutes an adapter, "
            "or give --samples-per-s"
        )
    return "\n".join(f"{name + ':':<15} {value}" for name, value in lines.items())


def adapter_size(experiment: Experiment) -> int:
    """d, from the U-Net's description alone: no weights are read.

    Raises BaseModelError where there is no such base model.
    """
    from lorastyle.adapters.layout import AdapterLayout
    from lorastyle.ingest.family import modules_of_folder

    training = experiment.training
    modules = [
        module
        for module in modules_of_folder(experiment.base)
        if training.sub_network in ("full", module.sub_network)
    ]
    return AdapterLayout.of_modules(training.rank, modules).size


def _plan(experiment: Experiment, place: Path | str) -> tuple[pd.DataFrame, list[AdapterSpec]]:
    """Catalogue and specs: the run's own where they are these, or made aside."""
    from lorastyle.base.lookup import base_identity
    from lorastyle.corpus.stage import plan, read_catalogue, read_plan
    from lorastyle.places.place import place_of
    from lorastyle.runs import Run

    if place_of(place).exists("config.yaml"):
        run = Run.open(place)
        if run.experiment.hash() == experiment.hash() and run.manifest("plan") is not None:
            return read_catalogue(run), read_plan(run)
    say("planning aside; nothing is written to the run")
    with TemporaryDirectory(prefix="lorastyle-") as aside:
        run = Run.create(Path(aside) / "run", experiment)
        plan(run, image_size=base_identity(experiment.base).image_size)
        return read_catalogue(run), read_plan(run)
