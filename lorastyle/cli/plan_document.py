"""What `--dry-run` says of a plan, as plain values: adapters, bytes, operations, hours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lorastyle.records import SUB_NETWORKS, Role

if TYPE_CHECKING:
    import pandas as pd

    from lorastyle.adapters.layout import AdapterLayout
    from lorastyle.config import Experiment
    from lorastyle.records import AdapterSpec
    from lorastyle.training.cost import SampleCost

MINIATURE_SAMPLES_PER_S = 160.0
"""Training throughput of the shipped miniature at rank 4 on one core (LOG.md, 2026-11-23)."""
PAPER_MINUTES = (5, 10)
"""What an adapter of Stable Diffusion 1.5 took the paper on one GPU (section 5)."""
NPY_HEADER = 128
FLOAT32, FLOAT64 = 4, 8


@dataclass(frozen=True)
class Adapters:
    """The adapters of a plan: counted in its specs, or as the experiment says."""

    n_artists: int
    by_role: Mapping[str, int]
    images: Mapping[str, Any]
    """What is known of the images; empty where they were not read."""
    not_read: str | None = None
    """Why not."""

    @property
    def n(self) -> int:
        return sum(self.by_role.values())


@dataclass(frozen=True)
class Unit:
    """What is trained with what: the base model's layers, and what a sample costs there."""

    layout: AdapterLayout
    cost: SampleCost
    precision: str
    latent_numbers: int
    """Of one image: C * h * w."""


def planned_adapters(catalogue: pd.DataFrame, specs: Sequence[AdapterSpec]) -> Adapters:
    """Those of a plan that was made."""
    from lorastyle.corpus.planning import overlap_statistics

    images = {
        "n_genres": int(catalogue["genre"].nunique()),
        "n_images": len(catalogue),
        "images_by_split": _counts(str(split) for split in catalogue["split"]),
        "n_images_used": len({image_id for spec in specs for image_id in spec.image_ids}),
        "overlap": overlap_statistics(specs),
    }
    by_role = _counts(spec.role.value for spec in specs)
    return Adapters(int(catalogue["artist"].nunique()), by_role, images)


def expected_adapters(experiment: Experiment, n_artists: int, not_read: str) -> Adapters:
    """Those that the experiment's protocol asks for of so many artists."""
    counts = {role.value: n_artists * experiment.protocol.count(role) for role in Role}
    return Adapters(n_artists, {role: n for role, n in counts.items() if n}, {}, not_read)


def plan_document(
    experiment: Experiment, adapters: Adapters, unit: Unit, samples_per_s: float | None = None
) -> dict[str, Any]:
    """What a run will train and need.

    `samples_per_s` is the training throughput of one GPU, or of one core where the experiment
    trains on cores; without it, but for the miniature, no time is predicted.
    """
    layout, corpus = unit.layout, {**adapters.images}
    if adapters.not_read is not None:
        corpus["images_not_read"] = adapters.not_read
    shares = {name: layout.sub_network_size(name) for name in SUB_NETWORKS}
    return {
        "n_adapters": adapters.n,
        "adapters_by_role": dict(adapters.by_role),
        "n_artists": adapters.n_artists,
        **corpus,
        "d": layout.size,
        "d_by_sub_network": {name: n for name, n in shares.items() if n},
        **_bytes(experiment, adapters, unit),
        **_other_ranks(experiment, adapters.n),
        "cost": {**asdict(unit.cost), "precision": unit.precision},
        **_work(experiment, adapters.n, unit.cost),
        **_time(experiment, adapters.n, samples_per_s),
    }


def stack_size(experiment: Experiment, n_adapters: int) -> int:
    """Adapters of a full stack."""
    return min(experiment.training.stack, n_adapters)


def _bytes(experiment: Experiment, adapters: Adapters, unit: Unit) -> dict[str, Any]:
    """On disk, and of a stack in the memory that trains it."""
    from lorastyle.embedding.groups import groups_for
    from lorastyle.embedding.wanted import wanted_products
    from lorastyle.training.settings import samples_a_step

    n, d = adapters.n, unit.layout.size
    training, stack = experiment.training, stack_size(experiment, n)
    wanted = wanted_products(experiment, unit.layout.targets)
    n_grams = len(wanted.representations) * len(groups_for(unit.layout, wanted.expressions))
    # Mean and standard deviation of an image's latent, in a file of its own.
    an_image = 2 * unit.latent_numbers * FLOAT32 + NPY_HEADER
    # Weights and Adam's two moments; and each step's losses.
    a_stack = stack * (3 * d + training.n_steps) * FLOAT32
    a_sample, state = unit.cost.peak_bytes, unit.cost.state_bytes
    found = {
        "store_bytes": n * d * FLOAT32,
        "n_grams": n_grams,
        "gram_bytes": n_grams * n**2 * FLOAT64,
        "latent_bytes_an_image": an_image,
        "checkpoint_bytes": a_stack,
        "stack": stack,
        "stack_memory_bytes": stack * (state + samples_a_step(training) * a_sample),
    }
    if "n_images_used" in adapters.images:
        found["latents_bytes"] = adapters.images["n_images_used"] * an_image
    return found


def _other_ranks(experiment: Experiment, n_adapters: int) -> dict[str, Any]:
    own = experiment.training.rank
    others = dict.fromkeys(rank for rank in experiment.sweep.ranks or () if rank != own)
    return {"other_ranks": {str(rank): n_adapters for rank in others}} if others else {}


def _work(experiment: Experiment, n_adapters: int, cost: SampleCost) -> dict[str, Any]:
    """Samples and operations of the whole run: as set, and as either meaning of a step has it."""
    from lorastyle.training.settings import samples_a_step

    training = experiment.training

    def work(samples: int) -> dict[str, int]:
        n_samples = n_adapters * training.n_steps * samples
        return {
            "samples_a_step": samples,
            "n_samples": n_samples,
            "flops": n_samples * cost.training_flops,
        }

    found: dict[str, Any] = work(samples_a_step(training))
    if training.prior_weight > 0:
        found["prior_batch"] = training.prior_batch
        found["prior_batches"] = {
            meaning: work(training.batch_size * n_kinds)
            for meaning, n_kinds in (("interleaved", 1), ("paired", 2))
        }
    return found


def _time(experiment: Experiment, n_adapters: int, samples_per_s: float | None) -> dict[str, Any]:
    from lorastyle.training.settings import samples_a_step

    compute, training = experiment.compute, experiment.training
    n_devices = (compute.n_actors or 1) * (compute.gpus_per_actor or 1)
    if samples_per_s is None and experiment.base == "miniature":
        samples_per_s = MINIATURE_SAMPLES_PER_S
        n_devices = compute.n_actors or os.cpu_count() or 1
    if samples_per_s is None:
        return {"paper_gpu_hours": [n_adapters * minutes / 60 for minutes in PAPER_MINUTES]}
    seconds = n_adapters * training.n_steps * samples_a_step(training) / samples_per_s
    return {
        "samples_per_s": samples_per_s,
        "n_devices": n_devices,
        "device_hours": round(seconds / 3600, 2),
        "training_s": round(seconds / n_devices, 1),
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found
