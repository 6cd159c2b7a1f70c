"""What is asked of an ablation, before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lorastyle.ablation.factors import Factor
from lorastyle.config import Experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.measures import FACTORS as FLATTENED
from lorastyle.errors import ConfigError, StageError
from lorastyle.records import UNLABELLED, Role

N_DRAWS = 3


@dataclass(frozen=True)
class Request:
    """A factor, its values, and how adapters are compared."""

    factor: Factor
    values: tuple[str, ...] | None = None
    """None: those of `docs/ablations.md`."""
    representations: tuple[str, ...] = ()
    """None given: all that the run embeds."""
    sub_network: str = "full"
    """An expression. Where sub-networks are the factor it is not looked at."""
    n_draws: int = N_DRAWS
    """Drawn sets of adapters of a size; only where adapters are drawn."""

    def compared_as(self, experiment: Experiment, grams: GramSet) -> tuple[str, ...]:
        """The representations, each once.

        Raises StageError for one that is not embedded, or has no matrix of the sub-network.
        """
        wanted = self.representations or experiment.embedding.representations
        for name in wanted:
            if name not in grams.representations:
                raise StageError(
                    f"the representation {name} is not embedded, only "
                    f"{', '.join(grams.representations)}; embed it with `lorastyle embed RUN "
                    f"--force --representation {name}`"
                )
            if not grams.has(name, self.sub_network):
                grams.matrix(name, self.sub_network)  # says why not
        return tuple(dict.fromkeys(wanted))

    def numbers(self) -> tuple[int, ...] | None:
        """The values of an ordered factor, ascending; None where none were named."""
        return None if self.values is None else tuple(sorted(int(value) for value in self.values))


def measured_counts(table: pd.DataFrame) -> dict[str, int]:
    """Artists with a name, and their adapters of each role that there are."""
    labelled = table[table["artist"] != UNLABELLED]
    roles = labelled["role"].value_counts()
    by_role = {role.value: int(roles[role.value]) for role in Role if role.value in roles}
    return {"artists": int(labelled["artist"].nunique()), **by_role}


def refuse_beyond(values: Sequence[int] | None, most: int, what: str, whose: str) -> None:
    """Raise ConfigError where a value is larger than what there is of it."""
    if values and max(values) > most:
        raise ConfigError(
            f"--values asks for {max(values)} {what}, and {whose} {most}; name no more than that"
        )


def cut_ranks(grams: GramSet, representation: str) -> Mapping[int, str]:
    """Ranks that a representation's updates were cut to, and under which name, ascending."""
    found = {}
    for name in grams.representations:
        base, cut, rank = name.partition("@")
        if cut and base == representation and base != FLATTENED:
            found[int(rank)] = name
    return dict(sorted(found.items()))
