"""Adapters of other ranks: for each a run below the run, `RUN/ranks/RANK`.

It has the same plan, images, seeds and training, and the same `alpha / rank`, so that rank is
all that differs. Its stages are those of any run: what is killed goes on, and it can be
searched and inspected by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorastyle.base.unet_config import image_size_of
from lorastyle.config import Experiment
from lorastyle.corpus.descriptions import descriptions_path
from lorastyle.corpus.stage import plan, read_plan
from lorastyle.distributed.dask_scheduler import pass_scheduler
from lorastyle.distributed.fleet import train
from lorastyle.distributed.session import Session
from lorastyle.embedding.stage import bring_up_to_date
from lorastyle.errors import ConfigError, StageError
from lorastyle.places.place import place_of
from lorastyle.runs import Run
from lorastyle.runs.location import beside
from lorastyle.runs.paths import CONFIG_FILE
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.group import METADATA


def trained_ranks(experiment: Experiment) -> tuple[int | None, ...]:
    """The ranks of `sweep.ranks`, each once; by default the run's own. None: adapters of any rank.

    Raises ConfigError where adapters that were not trained here are to have other ranks.
    """
    wanted = experiment.sweep
    if experiment.corpus.source == "adapters":
        if wanted.ranks or wanted.truncated_ranks:
            raise ConfigError(
                "sweep.ranks and sweep.truncated_ranks are of adapters that are trained here, and "
                "those of this run come from elsewhere; leave both out"
            )
        return (None,)
    return tuple(dict.fromkeys(wanted.ranks or (experiment.training.rank,)))


def other_ranks(experiment: Experiment) -> tuple[int, ...]:
    """Trained ranks besides the run's own."""
    own = experiment.training.rank
    return tuple(rank for rank in trained_ranks(experiment) if rank is not None and rank != own)


def experiment_at_rank(experiment: Experiment, rank: int) -> Experiment:
    """The same experiment with adapters of another rank; `alpha / rank` stays what it is."""
    training = experiment.training
    alpha = training.alpha * rank / training.rank
    sweep = experiment.sweep.model_copy(update={"ranks": None, "truncated_ranks": ()})
    return experiment.model_copy(
        update={
            "name": f"{experiment.name}-rank{rank}",
            "training": training.model_copy(update={"rank": rank, "alpha": alpha}),
            "sweep": sweep,
        }
    )


def prepare_ranks(run: Run, session: Session, *, train_missing: bool) -> dict[int, str]:
    """Have the adapters of all other ranks embedded; by rank, the digest of what was.

    Raises StageError where adapters of a rank are missing and are not to be trained.
    """
    ranks = other_ranks(run.experiment)
    if not train_missing:
        _refuse_missing(run, [rank for rank in ranks if not _is_trained(run, rank)])
    return {rank: _prepared(run, rank, session) for rank in ranks}


def _prepared(run: Run, rank: int, session: Session) -> str:
    # Its config is ours to write: where the grid has changed, so has what is embedded there.
    below = Run.create(
        run.rank_location(rank), experiment_at_rank(run.experiment, rank), force=True
    )
    # Described once: a captioner says the same of the same images.
    kept = descriptions_path(run)
    plan(below, image_size=image_size_of(below.experiment.base), descriptions=kept)
    _refuse_other_plan(run, below)
    train(below, session=session)
    bring_up_to_date(below, pass_scheduler(session))
    return below.upstream_hash("embed")


def _is_trained(run: Run, rank: int) -> bool:
    where = run.rank_location(rank)
    if not place_of(where).exists(CONFIG_FILE):
        return False
    below = Run.open(where)
    return below.manifest("train") is not None


def _refuse_missing(run: Run, missing: Sequence[int]) -> None:
    if not missing:
        return
    n_adapters = sum(_n_missing(run, rank) for rank in missing)
    names = ", ".join(map(str, missing))
    raise StageError(
        f"{n_adapters:,} adapters of rank {names} are not trained; train them with "
        f"`lorastyle sweep {run.location} --train-missing`, or take the "
        f"{'rank' if len(missing) == 1 else 'ranks'} out of sweep.ranks"
    )


def _n_missing(run: Run, rank: int) -> int:
    """Adapters that are to be trained, at most."""
    store = beside(run.rank_location(rank), "adapters.zarr")
    there = place_of(store).exists(METADATA)
    n_there = len(AdapterStore.open(store).committed()) if there else 0
    return max(0, len(read_plan(run)) - n_there)


def _refuse_other_plan(run: Run, below: Run) -> None:
    """The images may have changed since the run was planned."""
    if run.upstream_hash("plan") != below.upstream_hash("plan"):
        raise StageError(
            f"the images of {run.location} are not those it was planned with, so adapters of rank "
            f"{below.experiment.training.rank} would not be of the same; bring the images back, or "
            "plan anew with --force"
        )
