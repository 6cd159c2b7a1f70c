"""`run_stages`: stages in order, sharing one Ray, which starts only if one needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lorastyle.distributed.dask_scheduler import pass_scheduler
from lorastyle.distributed.session import Session
from lorastyle.errors import StageError
from lorastyle.runs import STAGES, Run, StageOutcome


def run_stages(
    run: Run,
    stages: Sequence[str] = STAGES,
    *,
    force: bool = False,
    train_missing: bool = False,
    on_start: Callable[[str], None] | None = None,
    on_outcome: Callable[[StageOutcome], None] | None = None,
) -> list[StageOutcome]:
    """Carry out these stages, in the order of a whole run; what is done is not repeated.

    With `train_missing` the sweep has adapters of other ranks trained.
    `on_start` and `on_outcome` are told of each stage before and after.
    Raises StageError for an unknown stage, and whatever a stage raises.
    """
    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        raise StageError(f"there is no stage {unknown[0]!r}; choose from {', '.join(STAGES)}")
    outcomes = []
    with Session(run.experiment.compute.address) as session:
        for stage in (stage for stage in STAGES if stage in stages):
            if on_start is not None:
                on_start(stage)
            outcome = run_stage(run, stage, session, force=force, train_missing=train_missing)
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(outcome)
    return outcomes


def run_stage(
    run: Run, stage: str, session: Session, *, force: bool = False, train_missing: bool = False
) -> StageOutcome:
    """One stage. Imports are late: each stage loads what it needs and no more."""
    if stage not in run.stages:
        raise StageError(
            f"{run.location} has no stage {stage!r}: its adapters come from elsewhere; add some "
            f"with `lorastyle ingest {run.location} FILE|DIR`"
        )
    if stage == "plan":
        return _plan(run, session, force=force)
    if stage == "train":
        from lorastyle.distributed.fleet import train

        return train(run, session=session, force=force)
    if stage == "embed":
        from lorastyle.embedding.stage import embed

        return embed(run, scheduler=pass_scheduler(session), force=force)
    if stage == "sweep":
        from lorastyle.distributed.sweep import sweep

        return sweep(run, session=session, force=force, train_missing=train_missing)
    if stage == "evaluate":
        from lorastyle.distributed.pictures import make_pictures
        from lorastyle.evaluation.stage import evaluate

        return evaluate(run, force=force, prepare=partial(make_pictures, run, session))
    from lorastyle.explorer.explore import explore
    from lorastyle.report.stage import report

    return report(run, force=force, explorer=partial(explore, with_report=True))


def _plan(run: Run, session: Session, *, force: bool) -> StageOutcome:
    from lorastyle.base.unet_config import image_size_of
    from lorastyle.corpus.stage import plan

    where: dict[str, Any] = {}
    if session.joins_a_cluster and run.experiment.corpus.captioner is not None:
        from lorastyle.distributed.captioning import describe_on_actors

        where["describe_all"] = describe_on_actors(run, session)
    return plan(run, image_size=image_size_of(run.experiment.base), force=force, **where)


def write_run_components(run: Run) -> list[Path]:
    """Write the components of an embedded run's factor spaces; returns where."""
    from lorastyle.embedding.spaces import write_all_components

    with Session(run.experiment.compute.address) as session:
        # To files of this machine where the run lies in a bucket: no other could write them.
        scheduler = pass_scheduler(session) if run.url is None else None
        return write_all_components(run, scheduler=scheduler)
