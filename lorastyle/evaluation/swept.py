"""What a finished sweep found: which settings were tried, their curves, and the choice.

    sweep/results.parquet    a line for each setting, form of calibration and PC count
    sweep/best.yaml          the choice by each objective, and of each setting

Evaluation and search read it here, so that what one takes for the best is the other's best too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import pandas as pd
import yaml

from lorastyle.config import CalibrationForm, Experiment
from lorastyle.embedding.style_space import Task
from lorastyle.errors import StageError
from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.selection import OBJECTIVES, choice_inputs, curve_inputs
from lorastyle.runs import Run

RESULTS_FILE = "results.parquet"
BEST_FILE = "best.yaml"
SETTING_COLUMNS = ("rank", "rank_method", "representation", "sub_network")
"""What tells settings apart."""
RESULT_COLUMNS = (*SETTING_COLUMNS, "share", "calibration", *CURVE_COLUMNS)
TRAINED, TRUNCATED, INGESTED = "trained", "truncated", "ingested"
"""How adapters came to their rank; those ingested may have any."""


@dataclass(frozen=True)
class SweptSetting:
    """One point of the grid: which adapters, compared how. PC counts are not told apart."""

    representation: str
    sub_network: str
    """An expression (docs/sub-networks.md)."""
    rank: int | None
    """None where adapters were ingested."""
    rank_method: str
    is_own: bool
    """Whether these are the run's own adapters as they are: no other rank, and not truncated."""

    @property
    def key(self) -> str:
        """Its name: `delta/full`, of another rank `delta/full@rank8` or `delta/full@truncated4`."""
        name = f"{self.representation}/{self.sub_network}"
        if self.is_own:
            return name
        return f"{name}@{'rank' if self.rank_method == TRAINED else TRUNCATED}{self.rank}"

    @property
    def embedded_as(self) -> str:
        """The representation's name among the Gram matrices of its adapters."""
        if self.rank_method == TRUNCATED:
            return f"{self.representation}@{self.rank}"
        return self.representation

    @property
    def in_other_run(self) -> bool:
        """Whether its adapters were trained for the sweep, in a run below this one."""
        return not self.is_own and self.rank_method == TRAINED

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as lines of the results and points of the choice have them."""
        return {
            "rank": self.rank,
            "rank_method": self.rank_method,
            "representation": self.representation,
            "sub_network": self.sub_network,
        }


@dataclass(frozen=True)
class Pick:
    """A setting with what was chosen for one task."""

    setting: SweptSetting
    calibration: CalibrationForm
    n_components: int
    score: float
    """On validation, the largest of its curve: by it settings are compared."""
    chosen_score: float
    """On validation, at that PC count."""


@dataclass(frozen=True)
class FinishedSweep:
    """What a sweep of the present embedding found."""

    results: pd.DataFrame
    """`RESULT_COLUMNS`."""
    best: Mapping[str, Any]
    """What `best.yaml` holds."""
    experiment: Experiment

    def curves(self, key: str) -> dict[CalibrationForm, pd.DataFrame]:
        """The curves of a setting by form; empty where it was not tried."""
        here = self.results["key"] == key
        return {
            cast(CalibrationForm, form): curve[list(CURVE_COLUMNS)].reset_index(drop=True)
            for form, curve in self.results[here].groupby("calibration", sort=False)
        }

    def pick(self, task: Task) -> Pick | None:
        """The best of all settings for a task."""
        found = self.best["best"].get(task)
        return None if found is None else pick_of(found, self.experiment)

    def picks(self, task: Task) -> dict[str, Pick]:
        """What was chosen for a task in each setting, by key."""
        return {
            key: pick_of(found[task], self.experiment)
            for key, found in self.best["settings"].items()
            if task in found
        }


def finished_sweep(run: Run) -> FinishedSweep | None:
    """The sweep of a run, where it is done and of the present embedding and settings; else None.

    Raises StageError where its files cannot be read.
    """
    recorded = run.manifest("sweep")
    if recorded is None:
        return None
    now = current_inputs(run)
    if any(recorded["inputs"].get(name) != value for name, value in now.items()):
        return None
    run.pull("sweep")
    try:
        results = pd.read_parquet(run.sweep_path / RESULTS_FILE)
        best = _read_yaml((run.sweep_path / BEST_FILE).read_text(encoding="utf-8"))
        results = results[list(RESULT_COLUMNS)].assign(key=_keys(results, run.experiment))
        sweep = FinishedSweep(results, best, run.experiment)
        for task in get_args(Task):
            _ = sweep.pick(task), sweep.picks(task)
    except Exception as error:  # a file may say anything
        problem = " ".join(str(error).split())[:200]
        raise StageError(
            f"the results in {run.sweep_path} cannot be read ({problem}); "
            f"run `lorastyle sweep {run.location} --force`"
        ) from error
    return sweep


def _read_yaml(text: str) -> Any:
    # With libyaml, where it was built in: a choice among hundreds of settings has many lines.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def current_inputs(run: Run) -> dict[str, Any]:
    """What must be as it was for a sweep to be of use: the embedding, and what scores depend on."""
    return {
        "embed": run.upstream_hash("embed"),
        "choice": choice_inputs(run.experiment),
        **curve_inputs(run.experiment),
    }


def own_setting(experiment: Experiment, representation: str, sub_network: str) -> SweptSetting:
    """A setting of the run's own adapters."""
    planned = experiment.corpus.source != "adapters"
    rank = experiment.training.rank if planned else None
    method = TRAINED if planned else INGESTED
    return SweptSetting(representation, sub_network, rank, method, True)


def setting_of(values: Mapping[str, Any], experiment: Experiment) -> SweptSetting:
    """The setting that a line of the results is of."""
    rank = None if pd.isna(values["rank"]) else int(values["rank"])
    method = str(values["rank_method"])
    is_own = method == INGESTED or (method == TRAINED and rank == experiment.training.rank)
    names = str(values["representation"]), str(values["sub_network"])
    return SweptSetting(*names, rank, method, is_own)


def _keys(results: pd.DataFrame, experiment: Experiment) -> list[str]:
    names = list(SETTING_COLUMNS)
    lines = list(results[names].itertuples(index=False, name=None))
    known = {
        line: setting_of(dict(zip(names, line, strict=True)), experiment).key
        for line in dict.fromkeys(lines)
    }
    return [known[line] for line in lines]


def pick_of(found: Mapping[str, Any], experiment: Experiment) -> Pick:
    """The choice that a point of `best.yaml` describes."""
    column = OBJECTIVES[found["objective"]].column
    return Pick(
        setting_of(found, experiment),
        found["calibration"],
        int(found["n_components"]),
        float(found["argmax"][column]),
        float(found["validation"][column]),
    )
