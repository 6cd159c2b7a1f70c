"""Actors for work that is not training: batches of items in, results out, in any order.

The dispatcher's rules hold here as well: what dies is replaced, what fails is tried again and then
halved, and an item that fails alone does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lorastyle.distributed.batches import balanced_batches
from lorastyle.distributed.dispatch import Crew, dispatch
from lorastyle.distributed.pace import Pace
from lorastyle.distributed.sizing import crew_size
from lorastyle.distributed.telemetry import brief
from lorastyle.distributed.watch import Loss, Watch
from lorastyle.errors import StageError
from lorastyle.progress import Progress, progress
from lorastyle.runs import Run

Item = TypeVar("Item")


@dataclass(frozen=True)
class Job:
    """What to show of a kind of work, and who does it."""

    title: str
    unit: str
    """Of an item, in the plural."""
    actor: type[Any]
    """With `ready() -> facts` and `work(items) -> result`."""
    arguments: tuple[Any, ...]
    """Of its constructor."""
    batch_size: int
    """Items that an actor is given at once, at most."""


def carry_out_on_actors(
    run: Run,
    job: Job,
    items: Sequence[Item],
    deliver: Callable[[Sequence[Item], Any], None],
    *,
    n_done: Callable[[Sequence[Item]], int] = len,
) -> None:
    """Have all items done by as many actors as the run may use. Ray must have been started.

    `deliver` takes the result of each batch here, once; `n_done` says how many units it was.
    Raises StageError, once all others are done, if items failed.
    """
    import ray

    compute = run.experiment.compute
    size = crew_size(compute, ray.cluster_resources())
    actor_class = ray.remote(job.actor).options(
        num_cpus=1, num_gpus=size.gpus_per_actor, max_restarts=0, max_task_retries=0
    )
    failed: list[str] = []
    with progress(job.title, n_done(items), job.unit) as shown:

        def take(batch: Sequence[Item], result: Any) -> None:
            deliver(batch, result)
            shown.advance(n_done(batch))

        dispatch(
            Crew[Item](
                hire=lambda: actor_class.remote(*job.arguments),
                size=size.n_actors,
                deliver=take,
                give_up=lambda _, reason: failed.append(reason),
                watch=_Shown(job.title, shown),
                start_timeout_s=compute.start_timeout_s,
                pace=lambda: Pace(deadline_s=compute.batch_deadline_s),
            ),
            balanced_batches(items, job.batch_size, size.n_actors),
        )
    if failed:
        raise StageError(
            f"{job.title}: {len(failed)} of {len(items)} failed, first: {failed[0]}; mend the "
            "cause and run the same command again: what is done is kept"
        )


@dataclass
class _Shown(Watch[Any]):
    """Says what goes wrong, and how many actors there are."""

    title: str
    shown: Progress
    live: set[str] = field(default_factory=set)

    def ready(self, worker: str, facts: Mapping[str, Any]) -> None:
        self.live.add(worker)
        self.shown.note(f"{len(self.live)} actors")

    def failed(self, worker: str, reason: str) -> None:
        self.shown.say(f"{self.title}: a batch of {worker} failed ({brief(reason)}); tried again")

    def lost(self, worker: str, loss: Loss, reason: str) -> None:
        self.live.discard(worker)
        if loss is not Loss.SURPLUS:
            said = f"{self.title}: {worker} lost ({loss}, {brief(reason)}); others take over"
            self.shown.say(said)
