"""What an ablation found: for each value of the factor, scores as the evaluation gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lorastyle.ablation.factors import Factor
from lorastyle.embedding.style_space import Task

Entry = Mapping[str, Any]
"""What the evaluation's metrics have of one setting and task (docs/formats.md)."""
DRIFT: Mapping[str, tuple[str, ...]] = {
    "drift": ("calibration_diagnostics", "drift"),
    "drift_of_two": ("drift_of_two",),
}
"""Where an entry has the drift: at its PC count, and of the first two components."""


class Score(NamedTuple):
    """A number of an entry: its name in results, and where it stands."""

    key: str
    task: Task
    path: tuple[str, ...]


SCORES: tuple[Score, ...] = (
    *(Score(f"pcs/{task}", task, ("n_components",)) for task in ("clustering", "retrieval")),
    *(
        Score(f"{score}/{split}", "clustering", (split, score))
        for split in ("train", "val", "test")
        for score in ("ari", "nmi")
    ),
    *(
        Score(f"{score}/{split}", "retrieval", (split, score))
        for split in ("val", "test")
        for score in ("map", "map_at_k", "recall_at_k")
    ),
    *(
        Score(f"floor/{score}/{split}", "retrieval", ("floor", split, score))
        for split in ("val", "test")
        for score in ("map", "map_at_k", "recall_at_k")
    ),
    *(
        Score(f"{drift}/{task}/{split}/{when}", task, (*path, split, when))
        for drift, path in DRIFT.items()
        for task in ("clustering", "retrieval")
        for split in ("val", "test")
        for when in ("before", "after", "expected")
    ),
)


class Number(NamedTuple):
    """A score: its mean over draws, and how sure it is."""

    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the evaluation's interval over artists: means over draws."""
    draws_std: float | None = None
    """Sample standard deviation over draws; None of a single one."""

    def to_dict(self) -> dict[str, float]:
        return {name: part for name, part in self._asdict().items() if part is not None}


@dataclass(frozen=True)
class Level:
    """One value of the factor, adapters compared in one way."""

    value: str
    representation: str
    sub_network: str
    entries: Mapping[Task, Sequence[Entry]]
    """An entry for each draw of adapters, of each task that could be measured."""
    absent: Mapping[Task, str] = field(default_factory=dict)
    """Why a task could not."""
    how: str = ""
    """Of a rank: `trained` or `truncated`."""
    chosen_for: tuple[Task, ...] = ()
    """Of a PC count: the tasks for which validation chose it."""

    @property
    def number(self) -> int:
        """The value of an ordered factor."""
        return int(self.value)

    def n_draws(self, task: Task) -> int:
        """How many drawn sets of adapters the numbers of a task are means of."""
        return len(self.entries.get(task, ()))

    def calibrations(self, task: Task) -> tuple[str, ...]:
        """The forms that were chosen: of several draws there may be several."""
        entries = self.entries.get(task, ())
        return tuple(dict.fromkeys(str(entry["calibration"]) for entry in entries))

    def numbers(self) -> dict[str, Number]:
        """All scores that there are, by `Score.key`."""
        found = {
            score.key: number_of(self.entries.get(score.task, ()), score.path) for score in SCORES
        }
        return {key: number for key, number in found.items() if number is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `entries` as the evaluation's metrics have them, a list over draws."""
        return {
            "value": self.value,
            "representation": self.representation,
            "sub_network": self.sub_network,
            **({"how": self.how} if self.how else {}),
            "chosen_for": list(self.chosen_for),
            "n_draws": {task: len(entries) for task, entries in self.entries.items()},
            "scores": {key: number.to_dict() for key, number in self.numbers().items()},
            "absent": dict(self.absent),
            "entries": {task: list(entries) for task, entries in self.entries.items()},
        }


@dataclass(frozen=True)
class Ablation:
    """All values of a factor, in order."""

    factor: Factor
    levels: Sequence[Level]
    counts: Mapping[str, int]
    """Artists, and adapters of each role, that were measured: what the intervals rest on."""
    notes: tuple[str, ...] = ()
    """What must be known to read the numbers."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why a value could not be measured."""

    @property
    def representations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(level.representation for level in self.levels))

    def to_dict(self) -> dict[str, Any]:
        """One document of plain values; NaN is not in it."""
        return {
            "factor": self.factor.name,
            "counts": dict(self.counts),
            "levels": [level.to_dict() for level in self.levels],
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def drift_prefix(factor: Factor) -> str:
    """By which drift the values of a factor are compared.

    Drift depends on the PC count, so sizes of the database, at which other counts are chosen,
    are compared under two components, as the paper's Figure 5 is.
    """
    return "drift_of_two" if factor.name == "gallery-size" else "drift"


def number_of(entries: Sequence[Entry], path: Sequence[str]) -> Number | None:
    """The mean over draws of what stands under a path; None where a draw lacks it.

    >>> number_of([{"val": {"map": 0.25}}, {"val": {"map": 0.75}}], ["val", "map"]).value
    0.5
    """
    values = [_at(entry, path) for entry in entries]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    ends = [_at(entry, (*path[:-1], "ci", path[-1])) for entry in entries]
    low, high = (
        _mean([None if end is None else float(end[place]) for end in ends]) for place in (0, 1)
    )
    means = np.array([one["mean"] if isinstance(one, Mapping) else one for one in known], float)
    spread = float(means.std(ddof=1)) if len(means) > 1 else None
    return Number(float(means.mean()), low, high, spread)


def _mean(values: Sequence[float | None]) -> float | None:
    known = list(_known(values))
    return float(np.mean(known)) if len(known) == len(values) else None


def _known(values: Sequence[float | None]) -> Iterator[float]:
    yield from (value for value in values if value is not None)


def _at(entry: Entry, path: Sequence[str]) -> Any:
    found: Any = entry
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found
