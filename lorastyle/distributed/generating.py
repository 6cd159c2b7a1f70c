"""Images of many adapters on many machines, before the evaluation looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorastyle.distributed.crews import Job, carry_out_on_actors
from lorastyle.distributed.session import Session, opened
from lorastyle.distributed.sizing import keep_to_one_core
from lorastyle.generation.kept import GeneratedImages
from lorastyle.generation.orders import open_base
from lorastyle.runs import Run

if TYPE_CHECKING:
    from lorastyle.base.loading import BaseModel

ADAPTERS_A_BATCH = 8
"""That an actor is given at once: seconds of a GPU's time."""


def generate_images(run: Run, rows: Sequence[int], *, session: Session | None = None) -> int:
    """Make and keep the images of these trained adapters that are not there yet; how many adapters.

    Ray is started only if there is something to make. Raises StageError where some could not be
    made, StoreError for a row without usable weights.
    """
    todo = GeneratedImages.of(run).missing(rows)
    if todo:
        job = Job(
            title="generate",
            unit="adapters",
            actor=GeneratingActor,
            arguments=(run.absolute_location,),
            batch_size=ADAPTERS_A_BATCH,
        )
        with opened(session, run.experiment.compute.address):
            carry_out_on_actors(run, job, todo, lambda _, made: None)
    return len(todo)


class GeneratingActor:
    """One process with the base model. What it makes it keeps itself."""

    def __init__(self, location: Path | str) -> None:
        self._location = location
        self._base: BaseModel | None = None

    def ready(self) -> dict[str, Any]:
        """Load the base model. Not in the constructor, whose errors Ray turns into text."""
        keep_to_one_core()
        self._run = Run.open(self._location)
        self._base = open_base(self._run)
        return {}

    def work(self, rows: Sequence[int]) -> int:
        """Make these adapters' images; how many adapters."""
        assert self._base is not None
        GeneratedImages.of(self._run).make(self._base, rows)
        return len(rows)
