"""What `--dry-run` says of a plan, for people: a fact a line, figures under each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorastyle.records import Role
from lorastyle.report.words import KIND_NAMES, SUB_NETWORK_NAMES, duration, size

if TYPE_CHECKING:
    from lorastyle.config import Experiment

MIB, GIB = 2**20, 2**30
PRIOR_BATCHES = {
    "interleaved": "an image is the adapter's own or of regularisation, half of each",
    "paired": "as many images of regularisation as of the adapter's own",
}


def plan_text(plan: Mapping[str, Any], experiment: Experiment, place: Path | str) -> str:
    """The plan in at most 80 columns, but for names that are longer."""
    return "\n".join(
        [
            _head("Run", str(place)),
            *_images(plan),
            *_adapters(plan, experiment),
            *_adapter(plan, experiment),
            *_disk(plan, experiment),
            *_memory(plan, experiment),
            *_training(plan, experiment),
            *_time(plan, experiment),
        ]
    )


def operations(*flops: float) -> str:
    """Operations for people, in powers of 1000; several of them in the unit of the first.

    >>> operations(1_740_052_451_328), operations(8.296e18)
    ('1.740 TFLOP', '8,296 PFLOP')
    >>> operations(1.74e12, 0.803e12)
    '1.740, 0.803 TFLOP'
    """
    units = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP")
    power = min(len(units) - 1, max(0, int(math.log10(max(1.0, flops[0])) / 3)))
    numbers = [number / 1000**power for number in flops]
    places = 3 if numbers[0] < 1000 else 0
    return f"{', '.join(f'{number:,.{places}f}' for number in numbers)} {units[power]}"


def _head(name: str, value: str) -> str:
    return f"{name + ':':<15} {value}".rstrip()


def _row(name: str, value: str, remark: str = "") -> str:
    return f"  {name:<21} {value:>13}   {remark}".rstrip()


def _images(plan: Mapping[str, Any]) -> Iterator[str]:
    if "images_not_read" in plan:
        yield _head("Artists", f"{plan['n_artists']:,}, as the experiment says")
        yield _head("Images", f"not read: {plan['images_not_read']}")
        return
    of_whom = f"{plan['n_artists']:,} artists, {plan['n_genres']} genres"
    yield _head("Images", f"{plan['n_images']:,} by {of_whom}")
    if overlap := plan["overlap"]:
        shared = f"{overlap['mean']:.0%} on average, {overlap['max']:.0%} at most"
        yield _head("Shared images", shared)


def _adapters(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    yield _head("Adapters", f"{plan['n_adapters']:,}")
    protocol = experiment.protocol
    totals: dict[int, int] = {}
    for name, n in plan["adapters_by_role"].items():
        role = Role(name)
        n_images = protocol.n_images(role)
        totals[n_images] = totals.get(n_images, 0) + n
        yield _row(
            KIND_NAMES[name], f"{n:,}", f"{protocol.count(role)} an artist, on {n_images} images"
        )
    if len(totals) > 1:
        words = [f"{n:,} on {n_images} images" for n_images, n in totals.items()]
        yield _row("", "", ", ".join(words))
    if others := plan.get("other_ranks"):
        yield _row("other ranks", f"{sum(others.values()):,}", f"more, of rank {', '.join(others)}")
        yield _row("", "", "trained as the sweep is told --train-missing")


def _adapter(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    training, d = experiment.training, plan["d"]
    yield _head("Adapter", f"d = {d:,} numbers, rank {training.rank}, alpha {training.alpha:g}")
    for name, n in plan["d_by_sub_network"].items():
        yield _row(SUB_NETWORK_NAMES[name], f"{n:,}", f"{n / d:.1%}")


def _disk(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    n, corpus = plan["n_adapters"], experiment.corpus
    yield _head("Disk", "")
    yield _row("store", size(plan["store_bytes"]), f"{size(4 * plan['d'])} an adapter")
    yield _row("Gram matrices", size(plan["gram_bytes"]), f"{plan['n_grams']} of {n:,} x {n:,}")
    each = plan["latent_bytes_an_image"]
    if "latents_bytes" in plan:
        remark = f"{plan['n_images_used']:,} images of {size(each)}"
        yield _row("latents", size(plan["latents_bytes"]), remark)
    else:
        least = plan["n_artists"] * corpus.min_works
        yield _row("latents", size(each), f"an image; {size(least * each)} if there are {least:,},")
        yield _row("", "", f"corpus.min_works={corpus.min_works} of each artist")
    every = experiment.training.checkpoint_every
    how = f"every {every:,} steps" if every else "but checkpoint_every=0"
    yield _row("checkpoint", size(plan["checkpoint_bytes"]), f"a stack of {plan['stack']:,}, {how}")


def _memory(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    cost = plan["cost"]
    yield _head("Memory", f"beside the base model's, in {cost['precision']}")
    kept = f"{_memory_size(cost['saved_bytes'])} of it kept for the way back"
    yield _row("a sample in work", _memory_size(cost["peak_bytes"]), kept)
    state = _memory_size(cost["state_bytes"])
    yield _row("an adapter", state, "weights, gradient, Adam's two moments")
    where = "" if experiment.base == "miniature" else "cut to what a GPU has free"
    yield _row(f"a stack of {plan['stack']:,}", _memory_size(plan["stack_memory_bytes"]), where)


def _memory_size(n_bytes: float) -> str:
    """In powers of 1024, as GPUs' memory is sold."""
    return f"{n_bytes / GIB:,.2f} GiB" if n_bytes >= GIB / 2 else f"{n_bytes / MIB:.2f} MiB"


def _training(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    cost, n_steps = plan["cost"], experiment.training.n_steps
    samples = plan["samples_a_step"]
    yield _head("Training", f"{plan['n_samples']:,} samples, {operations(plan['flops'])}")
    both = operations(cost["training_flops"], cost["forward_flops"])
    forward = both.split()[1]
    yield _row("a sample", operations(cost["training_flops"]), f"{forward} forward in the U-Net")
    an_adapter = n_steps * samples
    steps = f"{an_adapter:,} samples: {n_steps:,} steps of {samples}"
    yield _row("an adapter", operations(an_adapter * cost["training_flops"]), steps)
    if "prior_batches" in plan:
        yield from _prior_batches(plan, experiment)


def _prior_batches(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    """Both meanings of a step where there is a prior, the one that is set marked."""
    rate, hours = plan.get("samples_per_s"), f"{_device(experiment)}-hours"
    heads = ["prior_batch", "a step", "samples", "operations", *([hours] if rate else [])]
    yield _cells("", heads)
    for name, work in plan["prior_batches"].items():
        cells = [name, str(work["samples_a_step"]), f"{work['n_samples']:,}"]
        cells.append(operations(work["flops"]))
        if rate:
            cells.append(f"{work['n_samples'] / rate / 3600:,.1f}")
        yield _cells("*" if name == plan["prior_batch"] else "", cells)
    yield f"  * as set: {PRIOR_BATCHES[plan['prior_batch']]}"


def _cells(mark: str, cells: Sequence[str]) -> str:
    first, *others = cells
    return f"  {mark:<1} {first:<13}" + "".join(f"{cell:>14}" for cell in others)


def _time(plan: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    if "samples_per_s" not in plan:
        low, high = plan["paper_gpu_hours"]
        yield _head("Time", f"{low:,.0f} to {high:,.0f} GPU-hours at the paper's 5 to 10 minutes")
        yield _head_below("an adapter; give --samples-per-s, of one GPU, for your own")
        return
    device = _device(experiment)
    rate = f"{plan['samples_per_s']:g} samples/s a {device}"
    yield _head("Time", f"{plan['device_hours']:,} {device}-hours at {rate}")
    n = plan["n_devices"]
    yield _head_below(f"{duration(plan['training_s'])} on {n:g} {device}{'s' if n != 1 else ''}")


def _head_below(value: str) -> str:
    return f"{'':<15} {value}"


def _device(experiment: Experiment) -> str:
    """What a training actor has one of."""
    on_cores = experiment.compute.gpus_per_actor == 0 or experiment.base == "miniature"
    return "core" if on_cores else "GPU"
