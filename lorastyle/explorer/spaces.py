"""The style spaces of a run as the explorer shows them: scores, and how many components count."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorastyle.embedding.spaces import load_space, space_path
from lorastyle.embedding.style_space import StyleSpace, Task
from lorastyle.errors import StageError
from lorastyle.evaluation.swept import finished_sweep
from lorastyle.records import Role
from lorastyle.report.scores import TASKS, best_space, score_of
from lorastyle.report.words import space_name
from lorastyle.runs import Run
from lorastyle.search.gallery import open_gallery
from lorastyle.search.settings import default_components
from lorastyle.store.ingested import IngestedStore

N_SHOWN, MOST_COMPONENTS = 10, 64
"""Components to choose axes from: at least so many where there are, and at most."""
MOST_SPACES = 12
"""Of each task: a run may have hundreds, and each is as large as all scores in it."""
MOST_NUMBERS = 50_000_000
"""Scores of an explorer in all: of more, the spaces that are worst on validation are left out."""
NOTES: Mapping[str, str] = {
    "retrieval": (
        "Where a search looks: fitted on all training adapters, the others calibrated as queries."
    ),
    "clustering": ("Where clustering is measured: fitted without the adapters that calibrate."),
}


@dataclass(frozen=True)
class ShownSpace:
    """A style space. `scores` is (n, k) float32 in the order of the adapters.

    NaN stands for an adapter that has no place in it. Distances are over the first
    `n_compared` components, those that validation chose.
    """

    task: Task
    representation: str
    sub_network: str
    scores: NDArray[np.float32]
    n_compared: int
    explained: tuple[float, ...]
    """Share of the fit adapters' variance, by component."""

    @property
    def key(self) -> str:
        """Its name in the page's address."""
        return f"{self.task}/{self.representation}/{self.sub_network}"

    @property
    def name(self) -> str:
        """For people."""
        return space_name(f"{self.representation}/{self.sub_network}")


def shown_spaces(run: Run, adapters: pd.DataFrame) -> Iterator[ShownSpace]:
    """The run's spaces, the best for retrieval on validation first; made one by one.

    `adapters` has a column `row`. Raises StageError before embedding.
    """
    metrics = _metrics(run)
    names = _names(run, metrics)
    if not names:
        raise StageError(f"{run.location} has no style space; run `lorastyle embed {run.location}`")
    n_numbers = 0
    for task, representation, sub_network in names:
        entry = metrics.get(task, {}).get(f"{representation}/{sub_network}", {})
        space = _shown(run, adapters, task, representation, sub_network, entry)
        n_numbers += space.scores.size
        if n_numbers > max(MOST_NUMBERS, space.scores.size):
            return
        yield space


def _metrics(run: Run) -> dict[str, Any]:
    """What validation chose, where the run is evaluated."""
    if run.manifest("evaluate") is None or not run.metrics_path.is_file():
        return {}
    found: dict[str, Any] = json.loads(run.metrics_path.read_text(encoding="utf-8"))
    return found


def _names(run: Run, metrics: Mapping[str, Any]) -> list[tuple[Task, str, str]]:
    """(task, representation, sub-network) of the embedding's spaces, best on validation first."""
    embedded = run.manifest("embed") or {}
    outputs = embedded.get("outputs", {})
    tasks: tuple[Task, ...] = ("retrieval", "clustering")
    names = [
        (task, representation, sub_network)
        for task in tasks
        for representation in outputs.get("representations", ())
        for sub_network in outputs.get("sub_networks", ())
        if space_path(run.embedding_path, task, representation, sub_network).is_file()
    ]
    best = {task: _best(run, metrics, task) for task in tasks}

    def order(name: tuple[Task, str, str]) -> tuple[bool, float]:
        task, representation, sub_network = name
        key = f"{representation}/{sub_network}"
        score = score_of(metrics.get(task, {}).get(key), "val", TASKS[task])
        return key != best[task], math.inf if score is None else -score

    # Sorting keeps the order of equals: without scores, as they were embedded.
    in_order = {
        task: sorted((name for name in names if name[0] == task), key=order) for task in tasks
    }
    return [name for task in tasks for name in in_order[task][:MOST_SPACES]]


def _best(run: Run, metrics: Mapping[str, Any], task: Task) -> str | None:
    """The sweep's choice where it is a setting of the run's own, else the best that was scored."""
    swept = finished_sweep(run)
    pick = swept.pick(task) if swept is not None else None
    if pick is not None and pick.setting.is_own:
        return pick.setting.key
    return best_space(metrics, task)


def _shown(
    run: Run,
    adapters: pd.DataFrame,
    task: Task,
    representation: str,
    sub_network: str,
    entry: Mapping[str, Any],
) -> ShownSpace:
    space = load_space(run.embedding_path, task, representation, sub_network)
    if "calibration" in entry:
        space = space.calibrated_as(entry["calibration"])
    table, scores = space.table, None
    if task == "retrieval" and IngestedStore.find(run.ingested_path) is not None:
        # Adapters from elsewhere are placed as a search places them.
        gallery = open_gallery(run, representation, sub_network, entry.get("calibration"))
        table, scores = gallery.table, gallery.scores
    if scores is None:
        table = _placed(space)
        scores = space.scores(table["row"].to_numpy(np.int64))
    counted = entry.get("n_components") or default_components(run, space.n_components)
    k = min(max(counted, N_SHOWN), MOST_COMPONENTS, space.n_components)
    return ShownSpace(
        task,
        representation,
        sub_network,
        _in_order(adapters, table, scores[:, :k]),
        min(counted, k),
        tuple(float(share) for share in space.pca.explained_variance_ratio_[:k]),
    )


def _placed(space: StyleSpace) -> pd.DataFrame:
    """The adapters that the space was calibrated for."""
    if space.task == "retrieval":
        return space.table
    queries = [role.value for role in Role if role.is_query]
    return space.table[~space.table["role"].isin(queries)]


def _in_order(
    adapters: pd.DataFrame, table: pd.DataFrame, scores: NDArray[np.float64]
) -> NDArray[np.float32]:
    place = pd.Index(table["row"]).get_indexer(pd.Index(adapters["row"]))
    ordered = np.full((len(adapters), scores.shape[1]), np.nan, np.float32)
    ordered[place >= 0] = scores[place[place >= 0]]
    return ordered
