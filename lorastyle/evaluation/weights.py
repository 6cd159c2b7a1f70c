"""Adapter weights under the protocol: one representation and sub-network at its chosen counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.config import CalibrationForm
from lorastyle.embedding.calibration import fit_calibration
from lorastyle.embedding.style_space import Rows, StyleSpace, Task
from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.labelled import FloatArray, TaskVectors
from lorastyle.evaluation.protocol import (
    HELD_OUT,
    ProtocolSettings,
    Setting,
    absences,
    clustering_entry,
    retrieval_entry,
)
from lorastyle.evaluation.retrieval import RetrievalScores
from lorastyle.records import UNLABELLED, Role

N_SHOWN = 10
"""Components that are kept for figures."""


def weight_entries(
    setting: Setting, counts: Mapping[Task, int], settings: ProtocolSettings
) -> tuple[dict[Task, dict[str, Any]], Mapping[str, RetrievalScores]]:
    """The metrics of each task at its PC count, and the single queries' scores.

    A task without a count in `counts` (no validation adapters) uses the number of
    artists, until about which curves rise, and says so.
    """
    entries: dict[Task, dict[str, Any]] = {}
    queries: Mapping[str, RetrievalScores] = {}
    for task, vectors in setting.vectors.items():
        count, reasons = _count(counts.get(task), vectors)
        chosen = vectors.first(count)
        if task == "clustering":
            scores = clustering_entry(chosen, settings)
        else:
            scores, queries = retrieval_entry(chosen, settings, "euclidean")
        form = setting.forms[task]
        if not vectors.uncalibrated:
            reasons["uncalibrated_reason"] = (
                "the setting is not to be calibrated"
                if form == "none"
                else "no calibration adapter: nothing was calibrated"
            )
        absent = absences(task, scores, chosen)
        entry = {"n_components": count, "calibration": form}
        entries[task] = {**entry, **scores, **reasons, **absent}
    return entries, queries


def _count(chosen: int | None, vectors: TaskVectors) -> tuple[int, dict[str, str]]:
    if chosen is not None:
        return chosen, {}
    n_artists = len(np.unique(vectors.fit.artists))
    count = min(n_artists, vectors.n_components)
    reason = f"no validation adapters to choose with; {count} components for {n_artists} artists"
    return count, {"n_components_reason": reason}


def score_table(setting: Setting) -> pd.DataFrame:
    """The first components of every adapter in the clustering space, for figures.

    Columns representation, sub_network, calibrated, fit, adapter_id, artist, genre,
    role, component_1 ... One line an adapter as it is compared (`calibrated` True;
    fit adapters as the PCA scored them), and one more for each held-out adapter
    before calibration (`calibrated` False). Queries are drawn in this space too,
    calibrated by the calibration queries in it (or, without any, as projected); they
    are measured in their own space.
    """
    space = setting.spaces.get("clustering")
    if space is None:
        return pd.DataFrame()
    held_out = [space.calibration_rows, space.rows(Role.VAL), space.rows(Role.TEST)]
    rows = np.concatenate([space.fit_rows, *held_out])
    parts = [_lines(space, rows, True, _first(space, rows, calibrated=True))]
    if space.is_calibrated:
        rows = np.concatenate(held_out)
        parts.append(_lines(space, rows, False, _first(space, rows, calibrated=False)))
    parts += _query_lines(space, setting.forms["clustering"])
    return _named(setting, pd.concat([part for part in parts if len(part)], ignore_index=True))


def _query_lines(space: StyleSpace, form: CalibrationForm) -> list[pd.DataFrame]:
    rows = np.concatenate([space.rows(role) for role in HELD_OUT["retrieval"].values()])
    calibrating = space.rows(Role.QUERY_CALIBRATION)
    before = _first(space, rows, calibrated=False)
    try:
        calibration = fit_calibration(
            _first(space, calibrating, calibrated=False),
            space.artists(calibrating),
            _first(space, space.fit_rows, calibrated=False),
            space.artists(space.fit_rows),
            form,
        )
    except TooFewAdaptersError:
        return [_lines(space, rows, True, before)]
    after = calibration.apply(before)
    return [_lines(space, rows, True, after), _lines(space, rows, False, before)]


def _first(space: StyleSpace, rows: Rows, *, calibrated: bool) -> FloatArray:
    return space.scores(rows, calibrated=calibrated, n_components=N_SHOWN)


def _lines(space: StyleSpace, rows: Rows, calibrated: bool, scores: FloatArray) -> pd.DataFrame:
    table = space.table.set_index("row").loc[rows, ["adapter_id", "artist", "genre", "role"]]
    table = table.reset_index(drop=True)
    table.insert(0, "fit", np.isin(rows, space.fit_rows))
    table.insert(0, "calibrated", calibrated)
    for component in range(scores.shape[1]):
        table[f"component_{component + 1}"] = scores[:, component]
    return table


def query_table(setting: Setting, queries: Mapping[str, RetrievalScores]) -> pd.DataFrame:
    """Scores of single queries: columns of `label_queries`, and representation, sub_network."""
    space = setting.spaces.get("retrieval")
    if space is None:
        return pd.DataFrame()
    return _named(setting, label_queries(space.table, queries))


def label_queries(table: pd.DataFrame, queries: Mapping[str, RetrievalScores]) -> pd.DataFrame:
    """One line a query: calibrated, adapter_id, artist, role, and its three scores.

    `table` has columns adapter_id, artist, role, in the order that the queries were
    scored in. Queries whose artist the gallery lacks have no scores.
    """
    parts = []
    for name, scores in queries.items():
        split = name.rpartition("/")[2]
        role: Role = HELD_OUT["retrieval"][split]
        here = (table["role"] == role.value) & (table["artist"] != UNLABELLED)
        part = table.loc[here, ["adapter_id", "artist", "role"]]
        part = part.reset_index(drop=True)
        part.insert(0, "calibrated", name == split)
        part["average_precision"] = scores.average_precision
        part["average_precision_at_k"] = scores.average_precision_at_k
        part["recall_at_k"] = scores.recall_at_k
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _named(setting: Setting, table: pd.DataFrame) -> pd.DataFrame:
    table.insert(0, "sub_network", setting.sub_network)
    table.insert(0, "representation", setting.representation)
    return table
