"""What a training actor does, as ordinary functions: no Ray in here.

A `Workbench` is everything that is loaded once per process. `train_batch` trains
one stack of adapters and writes their rows itself; only small records go back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorastyle.config import TrainingConfig
from lorastyle.corpus.stage import corpus_root, read_catalogue
from lorastyle.corpus.training_images import CataloguedImage, images_of, index_catalogue, texts_of
from lorastyle.distributed.latents import LatentCache
from lorastyle.distributed.prior import encoded_prior
from lorastyle.errors import LorastyleError
from lorastyle.places.place import Place
from lorastyle.records import AdapterSpec, digest
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.epochs import Fence

SPEED_SETTINGS = {"stack", "checkpoint_every"}
"""Training settings that change how fast an adapter is made, not what it becomes."""


@dataclass(frozen=True)
class Task:
    """An adapter to be trained, and the identity of everything that determines it."""

    spec: AdapterSpec
    digest: str


@dataclass(frozen=True)
class Done:
    """What became of a task: `ok`, `zero`, `non_finite` or `failed`."""

    row: int
    adapter_id: str
    status: str
    reason: str | None = None


@dataclass(frozen=True)
class Report:
    """What became of a batch."""

    dones: list[Done]
    at_most: int | None
    """Adapters that this machine can train together; None as long as its memory never ran out."""


@dataclass(frozen=True)
class Workbench:
    """What one process trains with."""

    base: Any
    settings: TrainingConfig
    images: Mapping[str, CataloguedImage]
    latents: LatentCache
    prior: Any
    """Encoded regularisation images, or None."""
    store: AdapterStore
    checkpoints: Place
    """Where the run lies: a stack goes on there where another machine was lost."""
    compiled: bool
    """Whether the U-Net goes through `torch.compile`."""
    fits: int | None = None
    """Adapters that a GPU's memory takes at once, as counted; None where nobody counted."""


def determining(settings: TrainingConfig) -> dict[str, Any]:
    """The training settings that an adapter's weights depend on.

    Settings that came later count only where they are used, so that adapters made before stay.
    """
    unused = set() if settings.prior_weight > 0 else {"prior_batch"}
    if settings.precision == "auto":
        unused.add("precision")
    # Where the folder lies is not what it holds: that is in `prior_digest`.
    return settings.model_dump(mode="json", exclude=SPEED_SETTINGS | unused | {"prior_images"})


def make_tasks(
    specs: Sequence[AdapterSpec],
    images: Mapping[str, CataloguedImage],
    settings: TrainingConfig,
    base: Mapping[str, Any],
    *,
    prior: str | None = None,
) -> list[Task]:
    """Tasks with their digests: spec, settings, base model, image contents and captions.

    `prior` is the digest of the user's regularisation images, where there are any.
    """
    common = {"settings": determining(settings), "base": base["sha256"]}
    if prior is not None:
        common["prior"] = prior
    return [
        Task(
            spec,
            digest(
                {
                    **common,
                    "spec": spec.to_dict(),
                    "images": [
                        [image.content_hash, image.caption] for image in images_of(spec, images)
                    ],
                }
            ),
        )
        for spec in specs
    ]


def open_workbench(
    location: Path | str,
    root: Path,
    n_rows: int,
    fence: Fence | None = None,
    prior_root: Path | None = None,
) -> Workbench:
    """Load the base model once, and open the run's store, making it if it is not there.

    Once a later attempt has claimed the run, rows are refused by the `fence`. `root` is
    the folder of images as the driver sees it, `prior_root` that of regularisation images;
    those of a run in a bucket are fetched to this machine instead.
    Any number of processes may do this at the same time.
    """
    from lorastyle.training.fitting import stack_that_fits
    from lorastyle.training.precision import open_base

    run = Run.open(location)
    settings, compute = run.experiment.training, run.experiment.compute
    base = open_base(run.experiment.base, settings.precision)
    device = base.unet.device
    latents = LatentCache.of(run, base)
    store = _open_store(run.store_path, base, settings, n_rows)
    return Workbench(
        base=base,
        settings=settings,
        images=index_catalogue(read_catalogue(run), _images_here(run, root)),
        latents=latents,
        prior=encoded_prior(run, base, latents, prior_root),
        store=store if fence is None else store.fenced(fence),
        checkpoints=run.place.child("checkpoints"),
        compiled=device.type == "cuda" if compute.compile is None else compute.compile,
        fits=stack_that_fits(
            base.unet, settings, device, share=min(1, compute.gpus_per_actor or 1)
        ),
    )


def _images_here(run: Run, root: Path) -> Path:
    return root if run.url is None else corpus_root(run)


def _open_store(path: Path | str, base: Any, settings: TrainingConfig, n_rows: int) -> AdapterStore:
    from lorastyle.adapters.initial import initial_vector
    from lorastyle.adapters.targets import layout_of

    layout = layout_of(base.unet, settings.rank, settings.sub_network)
    shared = settings.initialisation == "shared"
    init = {"initialisation": settings.initialisation, "init_seed": settings.init_seed}
    values = {
        "base": base.identity.to_dict(),
        "alpha": settings.alpha,
        "n_rows": n_rows,
        "init": init,
        "initial": initial_vector(layout, settings.init_seed) if shared else None,
    }
    try:
        return AdapterStore.create(path, layout, **values)
    except OSError:
        # Another process moved its own into place first; if not, this says what is wrong.
        return AdapterStore.create(path, layout, **values)


def train_batch(bench: Workbench, tasks: Sequence[Task], at_most: int | None = None) -> Report:
    """Train these adapters together and commit their rows; rows that are current stay.

    In stacks of `at_most` (default: all) or what the device's memory takes, and of half as many
    each time it runs out all the same. An adapter whose images or captions cannot be used is
    recorded as failed, and the others go on. Errors of the training itself are the caller's to
    handle.
    """
    from lorastyle.training.fitting import train_fitting

    if bench.store.fence is not None:
        # Before the work, not only before the rows: it would be for nothing.
        bench.store.fence.check()
    if all(bench.store.is_current(task.spec.row, task.digest) for task in tasks):
        return Report([_standing(bench.store, task) for task in tasks], at_most)
    items, failed = [], []
    for task in tasks:
        try:
            items.append((task, _item(bench, task.spec)))
        except (LorastyleError, OSError, ValueError) as error:
            failed.append(give_up(bench.store, task, f"{type(error).__name__}: {error}"))
    wanted = min(size for size in (max(1, len(items)), at_most, bench.fits) if size is not None)
    done, fitted = train_fitting(lambda stack: _train_together(bench, stack), items, wanted)
    return Report([*failed, *done], fitted if fitted < wanted else at_most)


def _train_together(bench: Workbench, items: Sequence[tuple[Task, Any]]) -> list[Done]:
    """One stack: trained from its last checkpoint, and its rows committed."""
    from lorastyle.training.checkpoint import CheckpointFile
    from lorastyle.training.trainer import train_stack

    name = f"{digest([task.digest for task, _ in items])[:24]}.safetensors"
    checkpoint = (
        CheckpointFile(bench.checkpoints, name) if bench.settings.checkpoint_every else None
    )
    trained = train_stack(
        bench.base.unet,
        bench.base.scheduler,
        [item for _, item in items],
        bench.settings,
        prior=bench.prior,
        checkpoint=checkpoint,
        compiled=bench.compiled,
    )
    done = [
        _commit(bench.store, task, adapter)
        for (task, _), adapter in zip(items, trained, strict=True)
    ]
    if checkpoint is not None:
        checkpoint.remove()
    return done


def give_up(store: AdapterStore, task: Task, reason: str) -> Done:
    """Record a task as failed."""
    spec = task.spec
    record = store.quarantine(spec.row, spec, reason, spec_digest=task.digest)
    return Done(spec.row, spec.adapter_id, record.status, reason)


def _commit(store: AdapterStore, task: Task, adapter: Any) -> Done:
    spec = task.spec
    record = store.record(spec.row)
    if record is None or not record.is_current(task.digest):
        record = store.commit(
            spec.row, adapter.vector, spec, adapter.receipt, spec_digest=task.digest
        )
    return Done(spec.row, spec.adapter_id, record.status)


def _standing(store: AdapterStore, task: Task) -> Done:
    """What the store has of a task."""
    record = store.record(task.spec.row)
    return Done(task.spec.row, task.spec.adapter_id, record.status if record else "missing")


def _item(bench: Workbench, spec: AdapterSpec) -> Any:
    from lorastyle.base.latents import encode_captions
    from lorastyle.training.trainer import TrainingItem

    images = images_of(spec, bench.images)
    mean, std = bench.latents.load(images)
    texts = texts_of(spec, images, identifier=bench.settings.identifier)
    text = encode_captions(bench.base, texts)
    return TrainingItem(latents_mean=mean, latents_std=std, text=text, spec=spec)
