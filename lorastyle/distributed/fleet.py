"""The stage `train`: a fleet of disposable actors fills the adapter store.

Rows that are already made from the same spec, settings, base model and images
are left alone, so that whatever is interrupted is continued by the same command.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorastyle.base.lookup import base_identity
from lorastyle.config import ComputeConfig
from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.distributed.dispatch import Crew, balanced_batches, dispatch
from lorastyle.distributed.materials import index_catalogue
from lorastyle.distributed.session import Session, opened
from lorastyle.distributed.work import (
    Done,
    Task,
    Workbench,
    determining,
    give_up,
    make_tasks,
    open_workbench,
    train_batch,
)
from lorastyle.errors import StoreError, TrainingError
from lorastyle.progress import Progress, progress
from lorastyle.runs import Run, StageOutcome, carry_out
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents


def train(run: Run, *, session: Session | None = None, force: bool = False) -> StageOutcome:
    """Train every adapter of the plan that the store does not hold yet.

    Ray is started only if there is something to train. Raises TrainingError once
    all others are done if adapters failed; they are recorded, and tried again by
    the next call.
    """
    base = base_identity(run.experiment.base).to_dict()
    inputs = {
        "plan": run.upstream_hash("plan"),
        "training": determining(run.experiment.training),
        "base": base,
    }
    return carry_out(run, "train", inputs, lambda: _train(run, base, session, force), force=force)


def _train(
    run: Run, base: Mapping[str, Any], session: Session | None, force: bool
) -> dict[str, Any]:
    root = corpus_root(run)
    images = index_catalogue(read_catalogue(run), root)
    tasks = make_tasks(read_plan(run), images, run.experiment.training, base)
    if force:
        _discard_other(run.store_path, tasks)
    todo = missing_rows(run.store_path, tasks)
    if todo:
        with opened(session, run.experiment.compute.address):
            _fill(run, root, tasks, todo)
    store = AdapterStore.open(run.store_path)
    _refuse_failures(store, tasks)
    return _record(store, tasks)


def missing_rows(path: Path, tasks: Sequence[Task]) -> set[int]:
    """Rows that the store, which need not exist yet, does not hold as the tasks want them."""
    digests = {task.spec.row: task.digest for task in tasks}
    try:
        return set(AdapterStore.open(path).missing(digests))
    except StoreError:
        if path.exists():
            raise
        return set(digests)


def _discard_other(path: Path, tasks: Sequence[Task]) -> None:
    """With --force: a store of which nothing is of use any more makes way for the new one."""
    if path.exists() and len(missing_rows(path, tasks)) == len(tasks):
        shutil.rmtree(path)


def _fill(run: Run, root: Path, tasks: Sequence[Task], todo: set[int]) -> None:
    import ray

    compute, settings = run.experiment.compute, run.experiment.training
    n_actors, n_gpus = crew_size(compute, ray.cluster_resources())
    # Stacks are cut from the whole plan and done whole, even where some of their rows
    # are there: a resumed run then computes the same sums, and writes the same bytes.
    stacks = balanced_batches(tasks, settings.stack, n_actors)
    stacks = [stack for stack in stacks if any(task.spec.row in todo for task in stack)]
    actor_class = ray.remote(TrainingActor).options(
        num_cpus=1, num_gpus=n_gpus, max_restarts=0, max_task_retries=0
    )
    directory = run.directory.absolute()
    with progress("train", len(todo), "adapters") as shown:
        tally = _Tally(len(todo), shown)
        crew = Crew[Task](
            hire=lambda: actor_class.remote(directory, root, len(tasks)),
            size=n_actors,
            on_ready=tally.begin,
            deliver=lambda _, dones: tally.count(done for done in dones if done.row in todo),
            give_up=lambda task, reason: tally.count(
                [give_up(AdapterStore.open(run.store_path), task, reason)]
            ),
        )
        dispatch(crew, stacks)


class TrainingActor:
    """One process of the fleet. Its body is `work.open_workbench` and `work.train_batch`."""

    def __init__(self, directory: Path, root: Path, n_rows: int) -> None:
        self._directory, self._root, self._n_rows = directory, root, n_rows
        self._bench: Workbench | None = None

    def ready(self) -> None:
        """Load the base model. Not in the constructor, whose errors Ray turns into text."""
        import torch

        if not torch.cuda.is_available():
            # One core an actor: two threads on two busy cores are slower than one.
            torch.set_num_threads(1)
        self._bench = open_workbench(self._directory, self._root, self._n_rows)

    def work(self, tasks: Sequence[Task]) -> list[Done]:
        """Train one stack."""
        assert self._bench is not None
        return train_batch(self._bench, tasks)


def crew_size(compute: ComputeConfig, resources: Mapping[str, float]) -> tuple[int, float]:
    """How many actors, and how many GPUs each: one a GPU, or one a core where there is none.

    >>> crew_size(ComputeConfig(), {"CPU": 2.0})
    (2, 0.0)
    >>> crew_size(ComputeConfig(gpus_per_actor=0.5), {"CPU": 16.0, "GPU": 2.0})
    (4, 0.5)
    """
    n_gpus = resources.get("GPU", 0.0)
    per_actor = compute.gpus_per_actor
    if per_actor is None:
        per_actor = 1.0 if n_gpus else 0.0
    slots = n_gpus / per_actor if per_actor else resources.get("CPU", 1.0)
    return compute.n_actors or max(1, int(slots)), per_actor


class _Tally:
    """Counts adapters as they come, and says how fast and how long still."""

    def __init__(self, total: int, shown: Progress) -> None:
        self._total, self._shown = total, shown
        self._n_done = self._n_unusable = 0
        self._start: float | None = None

    def begin(self) -> None:
        """The first actor is ready; loading the base model is no part of the pace."""
        self._start = self._start or time.monotonic()

    def count(self, dones: Iterable[Done]) -> None:
        statuses = [done.status for done in dones]
        self._n_done += len(statuses)
        self._n_unusable += sum(status != "ok" for status in statuses)
        self._shown.note(self._pace())
        self._shown.advance(len(statuses))

    def _pace(self) -> str:
        elapsed_s = time.monotonic() - (self._start or 0.0)
        if not self._n_done or not self._start or not elapsed_s:
            return ""
        rate = self._n_done / elapsed_s
        unusable = f", {self._n_unusable} unusable" if self._n_unusable else ""
        left_s = (self._total - self._n_done) / rate
        return f"{3600 * rate:.0f} adapters/h, {left_s:.0f} s left{unusable}"


def _refuse_failures(store: AdapterStore, tasks: Sequence[Task]) -> None:
    records = store.committed()
    failed = [records[task.spec.row] for task in tasks if records[task.spec.row].status == "failed"]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(tasks)} adapters failed, first "
            f"{failed[0].spec['adapter_id']!r}: {failed[0].reason}; mend the cause and run the "
            "same command again: only these are trained"
        )


def _record(store: AdapterStore, tasks: Sequence[Task]) -> dict[str, Any]:
    records = store.committed()
    statuses = Counter(records[task.spec.row].status for task in tasks)
    return {
        "n_adapters": len(tasks),
        "by_status": dict(sorted(statuses.items())),
        "by_role": dict(Counter(task.spec.role.value for task in tasks)),
        "d": store.size,
        "store": digest_of_contents(store),
    }
