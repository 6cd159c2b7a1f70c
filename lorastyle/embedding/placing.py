"""Placing adapters by their updates in a style space that has not seen them.

They may differ from the fit adapters in rank, format and initialisation, and may change fewer
modules: each is compared with each fit adapter on the modules that both change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.module_sets import modules_of
from lorastyle.embedding.coverage import Energies, coverage
from lorastyle.embedding.gram_pass import cross_updates
from lorastyle.embedding.groups import Groups, sub_network_groups
from lorastyle.embedding.measures import (
    FACTORS,
    base_representation,
    measure_of,
    truncated_rank,
)
from lorastyle.embedding.style_space import Scores, StyleSpace
from lorastyle.errors import StageError
from lorastyle.store.cohorts import Cohort, Source

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Others:
    """m adapters to be placed: where they lie, and how strong each of their modules is."""

    cohorts: tuple[Cohort, ...]
    energies: Energies


@dataclass(frozen=True)
class Placed:
    """Where they are, and how much of them that rests on."""

    scores: Scores
    """(m, k)."""
    coverage: Matrix
    """(m,): the mean, over fit adapters, of the share of the updates that was compared."""


def place_updates(
    source: Source,
    space: StyleSpace,
    fit_energies: Energies,
    others: Others,
    *,
    calibrated: bool = True,
    memory_gib: float = 1.0,
) -> Placed:
    """Scores of other adapters in a space of updates: one pass over its fit adapters.

    `source` holds the fit adapters, `fit_energies` are theirs, in the order of
    `space.fit_rows`. Raises StageError for a space of another representation, or adapters
    that have no module in common with it.
    """
    _refuse_representation(space.representation)
    groups = _groups(source, space.sub_network)
    sums = cross_updates(
        source,
        space.fit_rows,
        others.cohorts,
        groups,
        space.representation,
        memory_gib=memory_gib,
    )
    names = [module.name for modules in groups.values() for module in modules]
    theirs, ours = others.energies.within(names), fit_energies.within(names)
    if not (theirs > 0).any(axis=1).all():
        raise StageError(
            f"the adapter changes none of the {len(names)} modules of the {space.sub_network} "
            "network; search another sub-network"
        )
    similarity = measure_of(space.representation).similarity(sums, theirs, ours)
    return Placed(
        space.project(similarity, calibrated=calibrated), coverage(theirs, ours).mean(axis=1)
    )


def _refuse_representation(representation: str) -> None:
    if representation == FACTORS:
        raise StageError("updates cannot be placed in a space of 'factors', only of 'delta'")
    if truncated_rank(representation) is not None:
        # The norms at hand are those of whole updates: cosines of cut ones would be too small.
        raise StageError(
            f"other adapters cannot be placed in a space of {representation!r}; place them in "
            f"one of {base_representation(representation)!r}"
        )


def _groups(source: Source, sub_network: str) -> Groups:
    """The modules of an expression, by sub-network."""
    wanted = set(modules_of(sub_network, source.layout.targets))
    chosen = {
        name: [module for module in modules if module.name in wanted]
        for name, modules in sub_network_groups(source.layout).items()
    }
    return {name: modules for name, modules in chosen.items() if modules}
