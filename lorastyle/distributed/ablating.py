"""Ablations: what needs other adapters has them trained in runs below the run, then is measured.

A sister run goes through the stages of any run, so what is killed goes on, and nothing that is
trained is trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

from lorastyle.ablation.embedded import Embedded, ablate_embedded
from lorastyle.ablation.levels import Ablation
from lorastyle.ablation.request import Request
from lorastyle.ablation.sisters import (
    ablate_sisters,
    own_value,
    refuse_other_images,
    refuse_without_plan,
    sister_experiment,
    sister_location,
    wanted_values,
)
from lorastyle.base.unet_config import image_size_of
from lorastyle.corpus.descriptions import descriptions_path
from lorastyle.corpus.stage import plan, read_plan
from lorastyle.distributed.dask_scheduler import pass_scheduler
from lorastyle.distributed.fleet import train
from lorastyle.distributed.rank_runs import prepare_ranks
from lorastyle.distributed.session import Session
from lorastyle.embedding.stage import bring_up_to_date
from lorastyle.evaluation.chosen import embedded_grams
from lorastyle.places.place import place_of
from lorastyle.runs import Run
from lorastyle.runs.paths import CONFIG_FILE

Tell = Callable[[str], None]


def ablate(
    run: Run,
    request: Request,
    *,
    session: Session | None = None,
    tell: Tell | None = None,
) -> Ablation:
    """Measure every value of a factor; adapters that are missing for it are trained.

    `tell` is told what is trained before it is. Raises StageError before embedding, ConfigError
    for values that cannot be: nothing is trained then.
    """
    if not request.factor.needs_training:
        return ablate_embedded(Embedded.of(run), request)
    refuse_without_plan(run, request)
    request.compared_as(run.experiment, embedded_grams(run))
    values = wanted_values(run, request)
    others = [one for one in values if one != own_value(run.experiment, request.factor.name)]
    with nullcontext(session) if session else Session(run.experiment.compute.address) as session:
        if request.factor.name == "rank":
            _prepare_ranks(run, [int(value) for value in others], session, tell)
        else:
            _prepare_sisters(run, request.factor.name, others, session, tell)
    return ablate_sisters(run, request, values)


def _prepare_ranks(run: Run, ranks: Sequence[int], session: Session, tell: Tell | None) -> None:
    """Have them as the sweep has them, and where it has them."""
    missing = [rank for rank in ranks if not _is_trained(run, "rank", str(rank))]
    _announce(run, "rank", list(map(str, missing)), len(read_plan(run)), tell)
    sweep = run.experiment.sweep.model_copy(update={"ranks": tuple(ranks)})
    asked = replace(run, experiment=run.experiment.model_copy(update={"sweep": sweep}))
    if ranks:
        prepare_ranks(asked, session, train_missing=True)


def _prepare_sisters(
    run: Run, factor: str, values: Sequence[str], session: Session, tell: Tell | None
) -> None:
    # All are checked before the first is made, and all are planned before the first is trained.
    experiments = {value: sister_experiment(run.experiment, factor, value) for value in values}
    sisters = {}
    for value, experiment in experiments.items():
        # Its config is ours to write, as that of another rank is.
        sister = Run.create(sister_location(run, factor, value), experiment, force=True)
        size = image_size_of(sister.experiment.base)
        plan(sister, image_size=size, descriptions=descriptions_path(run))
        refuse_other_images(run, sister)
        sisters[value] = sister
    missing = [value for value in values if not _is_trained(run, factor, value)]
    n_adapters = len(read_plan(run))
    _announce(run, factor, missing, n_adapters, tell)
    for sister in sisters.values():
        train(sister, session=session)
        bring_up_to_date(sister, pass_scheduler(session))


def _is_trained(run: Run, factor: str, value: str) -> bool:
    where = sister_location(run, factor, value)
    if not place_of(where).exists(CONFIG_FILE):
        return False
    return Run.open(where).manifest("train") is not None


def _announce(
    run: Run, factor: str, missing: Sequence[str], n_adapters: int, tell: Tell | None
) -> None:
    if tell is not None and missing:
        where = sister_location(run, factor, missing[0])
        tell(
            f"{factor} {', '.join(missing)}: {len(missing)} x {n_adapters:,} adapters are trained, "
            f"from {where} on; interrupted, the same command goes on"
        )
