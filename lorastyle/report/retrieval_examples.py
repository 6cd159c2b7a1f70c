"""Test queries and what they find, in the style space that validation chose for retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorastyle.embedding.style_space import StyleSpace
from lorastyle.evaluation.chosen import fitted, grams_of
from lorastyle.evaluation.retrieval import distances
from lorastyle.evaluation.swept import FinishedSweep, SweptSetting, own_setting
from lorastyle.records import UNLABELLED, Role
from lorastyle.report.shown import FloatArray
from lorastyle.report.source import ReportSource

Rows = NDArray[np.int64]
MAX_EXAMPLES = 8
N_HITS = 3
STANDINGS = ("best", "median", "worst")
QUERY_COLUMNS = {
    "representation",
    "sub_network",
    "calibrated",
    "adapter_id",
    "artist",
    "role",
    "average_precision",
}


@dataclass(frozen=True)
class Hit:
    """A gallery adapter that a query found."""

    adapter_id: str
    artist: str
    right: bool
    """Whether it is by the query's artist."""


@dataclass(frozen=True)
class Example:
    """A query and its nearest gallery adapters, the nearest first."""

    adapter_id: str
    artist: str
    standing: str
    """Of `STANDINGS`: why it is shown."""
    average_precision: float
    hits: tuple[Hit, ...]


def retrieval_examples(source: ReportSource, sweep: FinishedSweep | None) -> list[Example]:
    """The best, median and worst test queries of different artists; none before evaluation.

    The space is fitted again from its Gram matrix, as the evaluation does. Raises StageError
    where that is not there any more.
    """
    key = source.chosen_space("retrieval")
    entry = source.metrics.get("retrieval", {}).get(key or "", {})
    queries = queries_of(source.queries, key)
    if key is None or queries.empty or "n_components" not in entry:
        return []
    wanted = _setting(source, sweep, key)
    setting = fitted(source.run, wanted, grams_of(source.run, wanted), ["retrieval"])
    if "retrieval" not in setting.spaces:
        return []
    if form := entry.get("calibration"):
        setting = setting.calibrated_as({"retrieval": form})
    return nearest(setting.spaces["retrieval"], entry["n_components"], shown_queries(queries))


def queries_of(queries: pd.DataFrame, space: str | None) -> pd.DataFrame:
    """The answerable test queries of a style space, calibrated where it is."""
    if space is None or not set(queries.columns) >= QUERY_COLUMNS:
        return pd.DataFrame()
    representation, _, sub_network = space.partition("/")
    keep = (
        (queries["representation"] == representation)
        & (queries["sub_network"] == sub_network)
        & (queries["role"] == Role.QUERY_TEST.value)
        & queries["calibrated"].astype(bool)
    )
    return queries[keep].dropna(subset="average_precision")


def shown_queries(queries: pd.DataFrame, most: int = MAX_EXAMPLES) -> pd.DataFrame:
    """At most `most` queries of different artists, the best first.

    By average precision those at the top, about the median and at the bottom in turn; `standing`
    says which.
    """
    ordered = queries.sort_values(["average_precision", "adapter_id"], ascending=[False, True])
    places = np.arange(len(ordered))
    from_middle = np.argsort(np.abs(places - (len(ordered) - 1) / 2), kind="stable")
    lines = {"best": list(places), "median": list(from_middle), "worst": list(places[::-1])}
    artists = ordered["artist"].tolist()
    chosen: dict[int, str] = {}
    while len(chosen) < most and any(lines.values()):
        for standing in STANDINGS:
            taken = {artists[place] for place in chosen}
            lines[standing] = [p for p in lines[standing] if artists[p] not in taken]
            if lines[standing] and len(chosen) < most:
                chosen[int(lines[standing].pop(0))] = standing
    shown = sorted(chosen)
    return ordered.iloc[shown].assign(standing=[chosen[place] for place in shown])


def nearest(space: StyleSpace, n_components: int, queries: pd.DataFrame) -> list[Example]:
    """What these queries find first under the first components."""
    gallery = space.rows(Role.TRAIN)
    gallery = gallery[space.artists(gallery) != UNLABELLED]
    theirs = space.scores(gallery)[:, :n_components]
    pairs = space.table[["row", "adapter_id"]].itertuples(index=False, name=None)
    names = {int(row): str(name) for row, name in pairs}
    rows = {name: row for row, name in names.items()}
    return [
        Example(
            adapter_id=str(query["adapter_id"]),
            artist=str(query["artist"]),
            standing=str(query["standing"]),
            average_precision=float(query["average_precision"]),
            hits=tuple(
                Hit(names[int(row)], str(artist), artist == query["artist"])
                for row in _first(space, rows[query["adapter_id"]], gallery, theirs)
                for artist in space.artists(np.array([row]))
            ),
        )
        for query in queries.to_dict("records")
    ]


def _first(space: StyleSpace, query: int, gallery: Rows, theirs: FloatArray) -> Rows:
    """Rows of the gallery that are nearest to a query's row; `theirs` are their scores (n, k)."""
    own = space.scores(np.array([query]))[:, : theirs.shape[1]]
    order = np.argsort(distances(own, theirs, "euclidean")[0], kind="stable")
    return np.asarray(gallery[order[:N_HITS]])


def _setting(source: ReportSource, sweep: FinishedSweep | None, key: str) -> SweptSetting:
    picks = {} if sweep is None else sweep.picks("retrieval")
    if key in picks:
        return picks[key].setting
    return own_setting(source.run.experiment, *key.split("/", 1))
