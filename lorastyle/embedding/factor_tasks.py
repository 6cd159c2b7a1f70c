"""The pass over factors as tasks: segments of neighbouring columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.blocks import chunks_per_segment, cut_segments
from lorastyle.embedding.delta_products import Module
from lorastyle.embedding.factor_products import FactorTask
from lorastyle.embedding.groups import columns_of
from lorastyle.embedding.share import Share
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def factor_tasks(
    store: AdapterStore,
    rows: Rows,
    modules: Sequence[Module],
    origin: Rows,
    share: Share,
    others: Rows | None,
) -> list[FactorTask]:
    """Products of these modules' factors, of rows with one another or of others with them."""
    tasks: list[FactorTask] = []
    for columns in columns_of(modules):
        vectors = AdapterVectors(store, rows, columns)
        tasks += column_tasks(vectors, origin, share, others)
    return tasks


def column_tasks(
    vectors: AdapterVectors, origin: Rows, share: Share, others: Rows | Matrix | None
) -> list[FactorTask]:
    """Products of vectors about the origin, with one another or with others."""
    store, columns = vectors.store, vectors.columns
    n_rows = len(vectors) + (0 if others is None else len(others))
    width = share.width(max(1, n_rows), store.block)
    n_chunks = chunks_per_segment(store.size, store.block)
    parts = cut_segments(columns, store.block, n_chunks)
    tasks: list[FactorTask] = []
    for part in parts:
        beside = others
        if others is not None and others.ndim == 2:
            beside = others[:, part.start - columns.start : part.stop - columns.start]
        tasks.append(FactorTask(store.path, vectors.rows, origin, part, width, beside))
    return tasks
