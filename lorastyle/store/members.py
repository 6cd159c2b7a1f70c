"""The adapters of a run by name or number, trained here or ingested."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lorastyle.adapters.updates import Adapter
from lorastyle.errors import StoreError
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import IngestedStore, locate, stored_adapter


def member_table(run: Run) -> pd.DataFrame:
    """All usable adapters of a run: columns row, adapter_id, artist, genre, role, index.

    Raises StoreError where there is none.
    """
    tables = []
    if run.has_store:
        tables.append(AdapterStore.open(run.store_path).table())
    ingested = IngestedStore.find(run.ingested_path)
    if ingested is not None:
        tables.append(ingested.table())
    if not tables:
        raise StoreError(f"{run.location} has no adapters yet; train or ingest some")
    return pd.concat(tables, ignore_index=True)


def rows_by_name(run: Run) -> Mapping[str, int]:
    """Row numbers by adapter_id."""
    table = member_table(run)
    return dict(zip(table["adapter_id"].astype(str), table["row"].astype(int), strict=True))


def read_member(run: Run, row: int) -> Adapter:
    """One adapter by its row number. Raises StoreError for one that is missing or damaged."""
    if locate(row).rank:
        return IngestedStore.open(run.ingested_path).adapter(row)
    return stored_adapter(AdapterStore.open(run.store_path), row)
