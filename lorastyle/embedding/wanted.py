"""Which Gram matrices a run asks for: what it embeds, and what its sweep tries besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.module_sets import expand, modules_of
from lorastyle.config import Experiment
from lorastyle.embedding.measures import FACTORS, at_rank


class Products(NamedTuple):
    """Of every representation there is a matrix of every sub-network."""

    representations: tuple[str, ...]
    expressions: tuple[str, ...]
    """Sub-networks that name a module of the layout."""


def embedded_products(experiment: Experiment, targets: Sequence[TargetModule]) -> Products:
    """What `embedding` asks for: these have style spaces too."""
    embedding = experiment.embedding
    return Products(
        tuple(dict.fromkeys(embedding.representations)),
        _present(embedding.sub_networks, targets),
    )


def wanted_products(experiment: Experiment, targets: Sequence[TargetModule]) -> Products:
    """What `embedding` and `sweep` ask for together, what is embedded first.

    Ranks that updates are cut to are representations of their own, as in `delta@4`.
    """
    own, sweep = embedded_products(experiment, targets), experiment.sweep
    swept = sweep.representations or own.representations
    ranks = [rank for rank in sweep.truncated_ranks if rank < experiment.training.rank]
    truncated = [at_rank(name, rank) for rank in ranks for name in swept if name != FACTORS]
    return Products(
        tuple(dict.fromkeys([*own.representations, *swept, *truncated])),
        _present([*experiment.embedding.sub_networks, *(sweep.sub_networks or ())], targets),
    )


def _present(entries: Iterable[str], targets: Sequence[TargetModule]) -> tuple[str, ...]:
    return tuple(name for name in expand(entries, targets) if modules_of(name, targets))
