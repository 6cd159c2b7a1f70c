"""The grid of a sweep: which settings its configuration means, and which cannot be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from lorastyle.adapters.module_sets import expand
from lorastyle.config import Experiment, SweepConfig
from lorastyle.distributed.rank_runs import trained_ranks
from lorastyle.embedding.gram import GramSet
from lorastyle.errors import StageError
from lorastyle.evaluation.swept import INGESTED, TRAINED, TRUNCATED, SweptSetting


@dataclass(frozen=True)
class Grid:
    """The settings to try, in order, and by key why others are left out."""

    settings: tuple[SweptSetting, ...]
    left_out: Mapping[str, str]


def grid_of(experiment: Experiment, grams: GramSet) -> Grid:
    """The settings that the experiment's `sweep` means for adapters of this layout.

    Raises StageError where none can be tried.
    """
    possible: list[SweptSetting] = []
    left_out: dict[str, str] = {}
    for setting in _wanted(experiment, grams):
        reason = _impossible(setting, grams, experiment.training.rank)
        if reason is None:
            possible.append(setting)
        else:
            left_out[setting.key] = reason
    if not possible:
        raise StageError(
            f"none of the {len(left_out)} settings of the sweep can be tried, the first because "
            f"{next(iter(left_out.values()))}; change sweep.representations or sweep.sub_networks"
        )
    return Grid(tuple(_drawn(possible, experiment.sweep)), left_out)


def _drawn(settings: list[SweptSetting], sweep: SweepConfig) -> list[SweptSetting]:
    """All of them, or as many as are wanted, drawn at random and in the grid's order."""
    if sweep.n_settings is None or sweep.n_settings >= len(settings):
        return settings
    drawn = np.random.default_rng(sweep.seed).choice(
        len(settings), size=sweep.n_settings, replace=False
    )
    return [settings[number] for number in sorted(drawn)]


def _wanted(experiment: Experiment, grams: GramSet) -> Iterator[SweptSetting]:
    wanted, embedded = experiment.sweep, experiment.embedding
    representations = tuple(dict.fromkeys(wanted.representations or embedded.representations))
    expressions = expand(wanted.sub_networks or embedded.sub_networks, grams.targets)
    own = experiment.training.rank
    ranks = [
        *(
            (rank, INGESTED if rank is None else TRAINED, rank in (None, own))
            for rank in trained_ranks(experiment)
        ),
        *((rank, TRUNCATED, False) for rank in dict.fromkeys(wanted.truncated_ranks)),
    ]
    for rank, representation, expression in product(ranks, representations, expressions):
        yield SweptSetting(representation, expression, *rank)


def _impossible(setting: SweptSetting, grams: GramSet, own_rank: int) -> str | None:
    """Why a setting cannot be tried, or None. Other ranks have the modules of the run's own."""
    if setting.rank_method == TRUNCATED and (setting.rank or 0) >= own_rank:
        return f"the adapters have rank {own_rank}, so there is nothing to cut"
    if setting.rank_method == TRUNCATED and setting.representation == "factors":
        return "factors cut by SVD no longer share the initial lora_A"
    embedded = setting.representation if setting.in_other_run else setting.embedded_as
    if grams.has(embedded, setting.sub_network):
        return None
    return f"the adapters have no modules of {setting.sub_network}"
