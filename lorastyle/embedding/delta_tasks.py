"""The pass over updates as tasks: runs of neighbouring modules, for adapters of any store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.blocks import MAX_SEGMENTS, chunks_per_segment
from lorastyle.embedding.delta_products import DeltaTask, Module
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Cohort, Source, cohorts_of

Rows = npt.NDArray[np.int64]


def delta_tasks(
    source: Source,
    rows: Rows,
    modules: Sequence[Module],
    memory_bytes: int,
    others: Rows | tuple[Cohort, ...] | None,
    representation: str = "delta",
) -> list[DeltaTask]:
    """Products of the updates of these rows with one another, or of others with them (m, n).

    `others` are rows of the same source or cohorts of any. `modules` are those of the
    source's layout, in its order; there may be gaps between them.
    """
    cohorts = cohorts_of(source, rows)
    beside = cohorts_of(source, others) if isinstance(others, np.ndarray) else others
    return [
        DeltaTask(cohorts, part, memory_bytes, beside, representation)
        for part in _neighbours(modules, _least_width(source))
    ]


def _least_width(source: Source) -> int:
    """Columns below which reading costs more than multiplying."""
    if isinstance(source, AdapterStore):
        return source.block * chunks_per_segment(source.size, source.block)
    return -(-source.layout.size // MAX_SEGMENTS)


def _neighbours(modules: Sequence[Module], least: int) -> list[list[Module]]:
    """Cut into runs without gaps, and those at `least` columns, but for their last.

    A task reads one range of columns.
    """
    runs: list[list[Module]] = []
    for module in modules:
        follows = runs and runs[-1][-1].columns.stop == module.columns.start
        if not follows or sum(member.width for member in runs[-1]) >= least:
            runs.append([])
        runs[-1].append(module)
    return runs
