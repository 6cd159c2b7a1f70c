"""Who the adapters of a run are: labels, rank, where they come from, their training images."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lorastyle.corpus.stage import read_plan
from lorastyle.records import INGESTED, UNLABELLED, Role
from lorastyle.report.shown import NO_LABEL
from lorastyle.runs import Run
from lorastyle.store.ingested import IngestedStore, locate
from lorastyle.store.members import member_table

TRAINED_HERE = "trained here"
_ROLES = (*(role.value for role in Role), INGESTED)


def adapter_table(run: Run) -> pd.DataFrame:
    """All usable adapters of a run, one a line.

    Columns row, adapter_id, artist, genre, role, rank (text), source (text), images (tuple of
    image ids). Raises StoreError where there are none.
    """
    table = member_table(run).reset_index(drop=True)
    facts = _facts_of_ingested(run)
    ranks = [_rank(run, int(row), facts) for row in table["row"]]
    sources = [_source(int(row), facts) for row in table["row"]]
    plan = {spec.row: spec.image_ids for spec in read_plan(run)} if run.is_planned else {}
    # A row that was ingested has a number above all planned ones.
    images = [plan.get(int(row), ()) for row in table["row"]]
    named = table.assign(rank=ranks, source=sources, images=pd.Series(images, dtype=object))
    for column in ("artist", "genre"):
        text = named[column].fillna("").astype(str)
        named[column] = text.where(text != UNLABELLED, NO_LABEL)
    known = named["role"].isin(_ROLES)
    named["role"] = named["role"].where(known, INGESTED)
    return named


def _facts_of_ingested(run: Run) -> dict[int, dict[str, Any]]:
    ingested = IngestedStore.find(run.ingested_path)
    if ingested is None:
        return {}
    return {row: record.receipt["facts"] for row, record in ingested.committed().items()}


def _rank(run: Run, row: int, facts: dict[int, dict[str, Any]]) -> str:
    """An adapter's rank as text; of several in one file the highest, with a mark."""
    if not locate(row).rank:
        return str(run.experiment.training.rank)
    ranks = sorted(int(rank) for rank in facts.get(row, {}).get("ranks", {}))
    if not ranks:
        return "unknown"
    return str(ranks[0]) if len(ranks) == 1 else f"up to {ranks[-1]}"


def _source(row: int, facts: dict[int, dict[str, Any]]) -> str:
    if not locate(row).rank:
        return TRAINED_HERE
    found = facts.get(row, {})
    return f"a file: {found.get('trainer') or found.get('format') or 'unknown'}"
