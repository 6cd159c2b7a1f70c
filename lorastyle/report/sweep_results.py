"""A sweep's results as its tables and figures want them: settings, and what was chosen of each.

Nothing is chosen here: `best.yaml` says what was, the results say how it scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from lorastyle.evaluation.selection import OBJECTIVES
from lorastyle.evaluation.swept import SETTING_COLUMNS, TRAINED, TRUNCATED, SweptSetting
from lorastyle.report.scores import TASKS
from lorastyle.report.words import SUB_NETWORK_NAMES

SCORE_COLUMNS: Mapping[str, str] = {
    "train_ari": "train_ari_mean",
    **{name: objective.column for name, objective in OBJECTIVES.items()},
}
"""Scores, and the columns of the results that hold them."""
TASK_OF: Mapping[str, str] = {
    "train_ari": "clustering",
    **{name: objective.task for name, objective in OBJECTIVES.items()},
}
SPREAD_COLUMNS: Mapping[str, str] = {
    "ari": "ari_std",
    "nmi": "nmi_std",
    "train_ari": "train_ari_std",
}
ERROR_COLUMNS: Mapping[str, str] = {name: objective.error for name, objective in OBJECTIVES.items()}


class Variant(NamedTuple):
    """How adapters are compared, whichever modules are looked at."""

    rank: int | None
    """None where adapters were ingested: they may have any."""
    rank_method: str
    representation: str


class Setting(NamedTuple):
    """A point of the grid, PC count and calibration aside."""

    rank: int | None
    rank_method: str
    representation: str
    sub_network: str

    @classmethod
    def of(cls, values: Mapping[Any, Any]) -> Setting:
        """The one that a line of the results, or a point of `best.yaml`, is of."""
        rank, *names = (values[name] for name in SETTING_COLUMNS)
        return cls(None if rank is None or pd.isna(rank) else int(rank), *map(str, names))

    @property
    def variant(self) -> Variant:
        return Variant(*self[:3])


@dataclass(frozen=True)
class Choice:
    """A task's PC count and calibration for a setting, and the scores there."""

    calibration: str
    n_components: int
    argmax: int
    """The count of the largest score, which the rule may have passed over for a smaller one."""
    point: Mapping[str, Any]
    """The line of the results."""
    peak: Mapping[str, Any]
    """That of `argmax`."""

    def score(self, name: str) -> float | None:
        """A score, by the report's name for it; None where it is not known."""
        return _value(self.point, SCORE_COLUMNS[name])

    def spread(self, name: str) -> float | None:
        """Its standard deviation over k-means seeds."""
        return _value(self.point, SPREAD_COLUMNS.get(name, ""))

    def error(self, name: str) -> float | None:
        """Its standard error."""
        return _value(self.point, ERROR_COLUMNS.get(name, ""))

    def largest(self, name: str) -> float | None:
        """The score at `argmax`: settings are compared by it."""
        return _value(self.peak, SCORE_COLUMNS[name])


@dataclass(frozen=True)
class SweepResults:
    """A finished sweep.

    `results` has a line for each setting, calibration and PC count; `best` says
    what was chosen (docs/formats.md).
    """

    results: pd.DataFrame
    best: Mapping[str, Any]

    @cached_property
    def shares(self) -> dict[Setting, float]:
        """Every setting in the order it was swept, and its share of the numbers in an adapter."""
        lines = self.results.drop_duplicates(list(SETTING_COLUMNS))
        return {Setting.of(line): float(line["share"]) for line in lines.to_dict("records")}

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """In the order they were swept."""
        return tuple(self.shares)

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(dict.fromkeys(setting.variant for setting in self.settings))

    @property
    def sub_networks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(setting.sub_network for setting in self.settings))

    def ranks(self, method: str) -> tuple[int, ...]:
        """Ranks that were trained, or those that updates were cut to, from the smallest."""
        ours = (one.rank for one in self.variants if one.rank_method == method)
        return tuple(sorted({rank for rank in ours if rank is not None}))

    @cached_property
    def own_rank(self) -> int | None:
        """The rank of the run itself: the one that keys need not name."""
        named = {key.rpartition("@rank")[2] for key in self.best["settings"] if "@rank" in key}
        return next((rank for rank in self.ranks(TRAINED) if str(rank) not in named), None)

    @property
    def calibrations(self) -> tuple[str, ...]:
        return tuple(str(form) for form in self.results["calibration"].unique())

    def objective(self, task: str) -> str:
        """The score that chose: `ari`, `nmi`, `map` or `recall_at_k`."""
        named = str(self._winner(task).get("objective"))
        return named if named in SCORE_COLUMNS else TASKS[task]

    def winner(self, task: str) -> Setting | None:
        """The best setting of a task; None where it has no scores."""
        point = self._winner(task)
        if not set(SETTING_COLUMNS) <= set(point):
            return None
        setting = Setting.of(point)
        return setting if setting in self.shares else None

    def choice(self, setting: Setting, task: str) -> Choice | None:
        """What a task chose of a setting; None where it has no scores there."""
        return self._choices.get((setting, task))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Of all settings and tasks."""
        return tuple(self._choices.values())

    def curve(self, setting: Setting, calibration: str) -> pd.DataFrame:
        """A setting's scores by PC count."""
        lines = self._lines.get((*setting, calibration))
        return self.results.iloc[:0] if lines is None else lines

    @cached_property
    def _lines(self) -> dict[tuple[Any, ...], pd.DataFrame]:
        by = [*SETTING_COLUMNS, "calibration"]
        groups = self.results.groupby(by, sort=False, dropna=False)
        return {
            (*Setting.of(dict(zip(by, key, strict=True))), str(key[-1])): lines.sort_values(
                "n_components"
            )
            for key, lines in groups
        }

    @cached_property
    def _choices(self) -> dict[tuple[Setting, str], Choice]:
        found = {
            (setting, task): self._choice(setting, task)
            for setting in self.settings
            for task in TASKS
        }
        return {key: choice for key, choice in found.items() if choice is not None}

    def _choice(self, setting: Setting, task: str) -> Choice | None:
        entry = (self.best["settings"].get(self.key(setting)) or {}).get(task)
        if not entry:
            return None
        calibration, count = str(entry["calibration"]), int(entry["n_components"])
        argmax = int((entry.get("argmax") or entry)["n_components"])
        points = self.curve(setting, calibration).set_index("n_components")
        if not {count, argmax} <= set(points.index):
            return None
        return Choice(calibration, count, argmax, _line(points, count), _line(points, argmax))

    def key(self, setting: Setting) -> str:
        """Its name among the metrics and in `best.yaml`: `delta/full`, `delta/full@rank8`."""
        rank, method, representation, sub_network = setting
        is_own = method != TRUNCATED and (method != TRAINED or rank == self.own_rank)
        return SweptSetting(representation, sub_network, rank, method, is_own).key

    def _winner(self, task: str) -> Mapping[str, Any]:
        return self.best["best"].get(task) or {}


def leading(swept: SweepResults, settings: Sequence[Setting]) -> list[Setting]:
    """The best settings of each task in turn, best first; those without scores are left out."""
    ranked = [_best_first(swept, settings, task) for task in TASKS]
    merged = [one for place in range(len(settings)) for row in ranked for one in row[place:][:1]]
    return list(dict.fromkeys(merged))


def paper_order(sub_networks: Sequence[str]) -> list[str]:
    """Each once: the paper's four first, in its order, then the others as they come."""
    four = [name for name in SUB_NETWORK_NAMES if name in sub_networks]
    return list(dict.fromkeys([*four, *sub_networks]))


def _line(points: pd.DataFrame, n_components: int) -> dict[str, Any]:
    return {str(name): value for name, value in points.loc[n_components].items()}


def _value(point: Mapping[str, Any], column: str) -> float | None:
    value = point.get(column)
    return None if value is None or pd.isna(value) else float(value)


def _best_first(swept: SweepResults, settings: Sequence[Setting], task: str) -> list[Setting]:
    scored = {
        setting: score
        for setting in settings
        if (choice := swept.choice(setting, task)) is not None
        and (score := choice.largest(swept.objective(task))) is not None
    }
    return sorted(scored, key=lambda setting: -scored[setting])
