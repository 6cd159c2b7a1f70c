"""The stage `train`: a fleet of disposable actors fills the adapter store.

Rows that are already made from the same spec, settings, base model and images
are left alone, so that whatever is interrupted is continued by the same command.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lorastyle.base.lookup import base_identity
from lorastyle.corpus.regularisation import regularisation_folder, regularisation_root
from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.corpus.training_images import index_catalogue
from lorastyle.distributed.dispatch import Crew, dispatch
from lorastyle.distributed.metrics import FleetMetrics
from lorastyle.distributed.pace import Pace
from lorastyle.distributed.prior import prior_digest
from lorastyle.distributed.session import Session, opened, submission_id
from lorastyle.distributed.sizing import CrewSize, crew_size, keep_to_one_core
from lorastyle.distributed.stacks import stacks_of
from lorastyle.distributed.telemetry import Telemetry
from lorastyle.distributed.work import (
    Report,
    Task,
    Workbench,
    determining,
    give_up,
    make_tasks,
    open_workbench,
    train_batch,
)
from lorastyle.errors import StoreError, TrainingError
from lorastyle.places.place import place_of
from lorastyle.progress import progress
from lorastyle.runs import Run, StageOutcome, carry_out
from lorastyle.store.adapter_store import AdapterStore, digest_of_records
from lorastyle.store.commits import CommitRecord
from lorastyle.store.epochs import EPOCHS, EpochLog, Fence
from lorastyle.store.group import METADATA, identifying

LOGS = "logs"
"""Where in the run each attempt writes down every event, a JSON line each: train-EPOCH.jsonl."""


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
        "base": identifying(base),
    }
    return carry_out(run, "train", inputs, lambda: _train(run, base, session, force), force=force)


def _train(
    run: Run, base: Mapping[str, Any], session: Session | None, force: bool
) -> dict[str, Any]:
    root = corpus_root(run)
    images = index_catalogue(read_catalogue(run), root)
    training = run.experiment.training
    tasks = make_tasks(read_plan(run), images, training, base, prior=prior_digest(run))
    if force:
        _discard_other(run.store_path, tasks)
    todo = missing_rows(run.store_path, tasks)
    if todo:
        with opened(session, run.experiment.compute.address):
            _fill(run, root, tasks, todo)
    store = AdapterStore.open(run.store_path)
    records = store.committed()
    _refuse_failures(records, tasks)
    return {**_record(records, tasks), "d": store.size}


def missing_rows(path: Path | str, tasks: Sequence[Task]) -> set[int]:
    """Rows that the store, which need not exist yet, does not hold as the tasks want them."""
    digests = {task.spec.row: task.digest for task in tasks}
    try:
        return set(AdapterStore.open(path).missing(digests))
    except StoreError:
        if place_of(path).exists(METADATA):
            raise
        return set(digests)


def _discard_other(path: Path | str, tasks: Sequence[Task]) -> None:
    """With --force: a store of which nothing is of use any more makes way for the new one."""
    if len(missing_rows(path, tasks)) == len(tasks):
        place_of(path).clear()


def _fill(run: Run, root: Path, tasks: Sequence[Task], todo: set[int]) -> None:
    import ray

    # Absolute, for actors work in other directories: a fence that looks elsewhere sees no epoch.
    epochs = place_of(run.absolute_location).child(EPOCHS)
    fence = EpochLog(epochs).claim({"job": submission_id()})
    size = crew_size(run.experiment.compute, ray.cluster_resources())
    stacks = stacks_of(run.place, tasks, run.experiment.training.stack, size.n_actors)
    # Stacks are done whole, even where some of their rows are there: a resumed run then
    # computes the same sums, and writes the same bytes.
    stacks = [stack for stack in stacks if any(task.spec.row in todo for task in stack)]
    with _watched(run, size, todo, fence.number) as telemetry:
        dispatch(_crew(run, size, telemetry, (root, len(tasks), fence, _prior_root(run))), stacks)


def _prior_root(run: Run) -> Path | None:
    """The user's folder of regularisation images, absolute, if the run has one."""
    return None if regularisation_folder(run) is None else regularisation_root(run)


@contextmanager
def _watched(run: Run, size: CrewSize, todo: set[int], epoch: int) -> Iterator[Telemetry]:
    """Show, count and log what a fleet does; the log of a bucket's run ends there."""
    log = run.directory / LOGS / f"train-{epoch:08d}.jsonl"
    with progress("train", len(todo), "adapters") as shown:
        telemetry = Telemetry(
            todo,
            shown,
            log=log,
            metrics=FleetMetrics(run.experiment.name),
            gpus_per_actor=size.gpus_per_actor,
            price_per_hour=run.experiment.compute.price_per_hour,
        )
        try:
            yield telemetry
        finally:
            telemetry.finish()
            if run.url is not None and log.exists():
                with suppress(StoreError):  # what ended the fleet is more worth saying
                    run.place.child(LOGS).write(log.name, [log.read_bytes()])


def _crew(
    run: Run, size: CrewSize, telemetry: Telemetry, common: tuple[Path, int, Fence, Path | None]
) -> Crew[Task]:
    """`common`: what all actors are told besides where the run lies."""
    import ray

    compute, (_, _, fence, _) = run.experiment.compute, common
    actor_class = ray.remote(TrainingActor).options(
        num_cpus=1, num_gpus=size.gpus_per_actor, max_restarts=0, max_task_retries=0
    )

    def record_failure(task: Task, reason: str) -> None:
        store = AdapterStore.open(run.store_path).fenced(fence)
        telemetry.count([give_up(store, task, reason)])

    return Crew[Task](
        hire=lambda: actor_class.remote(run.absolute_location, *common),
        size=size.n_actors,
        deliver=lambda _, report: telemetry.count(report.dones),
        give_up=record_failure,
        watch=telemetry,
        start_timeout_s=compute.start_timeout_s,
        pace=lambda: Pace(deadline_s=compute.batch_deadline_s),
        capacity=lambda answer: answer.at_most if isinstance(answer, Report) else None,
    )


class TrainingActor:
    """One process of the fleet. Its body is `work.open_workbench` and `work.train_batch`."""

    def __init__(
        self,
        location: Path | str,
        root: Path,
        n_rows: int,
        fence: Fence,
        prior_root: Path | None = None,
    ) -> None:
        self._where = location, root, n_rows, fence, prior_root
        self._bench: Workbench | None = None
        self._at_most: int | None = None

    def ready(self) -> dict[str, Any]:
        """Load the base model. Not in the constructor, whose errors Ray turns into text."""
        keep_to_one_core()
        self._bench = open_workbench(*self._where)
        return _whereabouts()

    def work(self, tasks: Sequence[Task]) -> Report:
        """Train one stack, or as much of it at a time as this machine's memory takes."""
        assert self._bench is not None
        report = train_batch(self._bench, tasks, self._at_most)
        self._at_most = report.at_most
        return report


def _whereabouts() -> dict[str, Any]:
    """Which machine and device this process is on, for the log."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"node": platform.node(), "pid": os.getpid(), "device": device}


def _refuse_failures(records: Mapping[int, CommitRecord], tasks: Sequence[Task]) -> None:
    absent = [task for task in tasks if task.spec.row not in records]
    if absent:
        raise TrainingError(
            f"{len(absent)} of {len(tasks)} adapters are not in the store any more, first "
            f"{absent[0].spec.adapter_id!r}; run the same command again: only these are trained"
        )
    failed = [records[task.spec.row] for task in tasks if records[task.spec.row].status == "failed"]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(tasks)} adapters failed, first "
            f"{failed[0].spec['adapter_id']!r}: {failed[0].reason}; mend the cause and run the "
            "same command again: only these are trained"
        )


def _record(records: Mapping[int, CommitRecord], tasks: Sequence[Task]) -> dict[str, Any]:
    statuses = Counter(records[task.spec.row].status for task in tasks)
    return {
        "n_adapters": len(tasks),
        "by_status": dict(sorted(statuses.items())),
        "by_role": dict(Counter(task.spec.role.value for task in tasks)),
        "store": digest_of_records(records),
    }
