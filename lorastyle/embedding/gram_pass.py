"""The pass over the store that yields every Gram matrix, as Dask tasks.

A task opens the store itself, reads a segment of columns of every row and returns
one (n, n) sum, so that a scheduler moves no weights: it may be Dask's threads, or Ray.
The sums of a matrix are added in the order of its segments (`summing`). With a ledger they are
saved there now and then, so a pass that was killed continues, and ends in the same bits; nothing
else is kept of a matrix that is finished, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.blocks import origin_rows
from lorastyle.embedding.delta_tasks import delta_tasks
from lorastyle.embedding.factor_tasks import column_tasks, factor_tasks
from lorastyle.embedding.groups import Groups, sub_network_groups
from lorastyle.embedding.ledger import Ledger
from lorastyle.embedding.measures import (
    FACTORS,
    MEASURES,
    base_representation,
    sum_names,
    truncated_rank,
)
from lorastyle.embedding.products import sum_of
from lorastyle.embedding.share import Share
from lorastyle.embedding.summing import Scheduler, Task, sum_tasks
from lorastyle.errors import StageError
from lorastyle.progress import Progress, Silent
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Cohort, Source
from lorastyle.store.vectors import AdapterVectors

Rows = npt.NDArray[np.int64]
Gram = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

REPRESENTATIONS = (FACTORS, *MEASURES)
USUAL = (FACTORS, "delta")
"""What is embedded where nobody asks for more."""


@dataclass(frozen=True)
class GramPass:
    """One pass over the store, cut into tasks: `of` plans it, `run` or `fill` carries it out."""

    representations: tuple[str, ...]
    groups: tuple[str, ...]
    tasks: Mapping[str, Sequence[Task]]
    """A matrix's tasks, in the order of its sum, by `REPRESENTATION.GROUP`."""
    share: Share
    shape: tuple[int, int]
    """Of a matrix."""

    @classmethod
    def of(
        cls,
        store: Source,
        rows: npt.ArrayLike,
        representations: Sequence[str] = USUAL,
        *,
        groups: Groups | None = None,
        n_kept: int = 0,
        origin: Rows | None = None,
        memory_gib: float = 1.0,
        threads: bool = True,
        in_memory: bool = False,
        only: Collection[str] | None = None,
    ) -> GramPass:
        """Plan the pass over these rows; arguments as in `compute_sums`.

        `in_memory`: for `run`, which returns all sums, and not for `fill`. `only`: of the
        matrices those of these names.
        """
        _check_representations(store, representations)
        rows = np.asarray(rows, np.int64)
        others = rows[n_kept:] if n_kept else None
        about = origin_rows(rows) if origin is None else origin
        groups = sub_network_groups(store.layout) if groups is None else groups
        n_parts = [len(sum_names(name)) for name in representations]
        share = Share.of(
            len(rows) - n_kept,
            len(rows),
            memory_gib,
            threads=threads,
            n_held=sum(n_parts) * len(groups) if in_memory else max(n_parts),
            n_parts=max(n_parts),
        )
        tasks: dict[str, Sequence[Task]] = {}
        for name in representations:
            for group, modules in groups.items():
                matrix = matrix_name(name, group)
                if only is not None and matrix not in only:
                    continue
                tasks[matrix] = (
                    factor_tasks(store, rows, modules, about, share, others)
                    if name == FACTORS and isinstance(store, AdapterStore)
                    else delta_tasks(store, rows, modules, share.memory_bytes, others, name)
                )
        shape = (len(rows) - n_kept, len(rows))
        return cls(tuple(representations), tuple(groups), tasks, share, shape)

    @property
    def n_segments(self) -> int:
        """Tasks of the whole pass."""
        return sum(len(parts) for parts in self.tasks.values())

    def n_saved(self, ledger: Ledger) -> dict[str, int]:
        """Segments of each matrix whose sum an earlier attempt saved."""
        return {name: ledger.n_saved(name) for name in self.tasks}

    def run(self, scheduler: Scheduler | None = None) -> dict[str, dict[str, Gram]]:
        """The sums by name (`measures.sum_names`) and group, all in memory."""
        found = sum_tasks(self.tasks, self.share, scheduler)
        sums: dict[str, dict[str, Gram]] = {}
        for representation in self.representations:
            for group in self.groups:
                total = found[matrix_name(representation, group)]
                for name, part in self._parts(representation, total).items():
                    sums.setdefault(name, {})[group] = part
        return sums

    def fill(
        self,
        ledger: Ledger,
        scheduler: Scheduler | None = None,
        shown: Progress | None = None,
        n_saved: Mapping[str, int] | None = None,
    ) -> None:
        """Carry out what the ledger does not have yet; `finished` then reads it from there."""
        n_saved = self.n_saved(ledger) if n_saved is None else n_saved
        with ledger.watched(shown or Silent(), self.n_segments):
            sum_tasks(self.tasks, self.share, scheduler, ledger, n_saved)

    def finished(self, ledger: Ledger, representation: str, group: str) -> dict[str, Gram]:
        """One matrix's sums by name. Raises StageError where the ledger lacks them."""
        name = matrix_name(representation, group)
        saved = ledger.load(name)
        if saved is None or saved[0] < len(self.tasks[name]):
            raise StageError(
                f"what the pass saved of {name} is gone; run `lorastyle embed RUN` again"
            )
        return self._parts(representation, saved[1])

    def _parts(self, representation: str, total: Gram) -> dict[str, Gram]:
        names = sum_names(representation)
        return dict(zip(names, total.reshape(len(names), *self.shape), strict=True))


def matrix_name(representation: str, group: str) -> str:
    """What a pass and its ledger call the sum of a representation over a group."""
    return f"{representation}.{group}"


def compute_sums(
    store: Source,
    rows: npt.ArrayLike,
    representations: Sequence[str] = USUAL,
    *,
    groups: Groups | None = None,
    n_kept: int = 0,
    origin: Rows | None = None,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
) -> dict[str, dict[str, Gram]]:
    """Gram sums (n, n) float64 of these rows: by representation, then group of modules.

    `factors`: inner products of the vectors about the median of the rows `origin` (default:
    a few of `rows`). `delta`: inner products of the updates, not yet normalised.
    `delta-aligned`: two sums, see `measures`. Each is one pass over the store. `groups`
    default to the sub-networks. With `n_kept` the first rows' mutual products are known, and
    only the other rows' are computed: (n - n_kept, n). `memory_gib` bounds what is held at
    once with Dask's own threads; another scheduler's tasks hold a quarter of it each.
    Raises StoreError for damaged rows, StageError where the memory does not hold the matrices.
    """
    return GramPass.of(
        store,
        rows,
        representations,
        groups=groups,
        n_kept=n_kept,
        origin=origin,
        memory_gib=memory_gib,
        threads=scheduler is None,
        in_memory=True,
    ).run(scheduler)


def gram_of(
    vectors: AdapterVectors, *, memory_gib: float = 1.0, scheduler: Scheduler | None = None
) -> Gram:
    """Inner products (n, n) of a store's vectors, about an origin that their rows determine."""
    share = Share.of(len(vectors), len(vectors), memory_gib, threads=scheduler is None)
    tasks = column_tasks(vectors, origin_rows(vectors.rows), share, None)
    return sum_tasks({"gram": tasks}, share, scheduler)["gram"]


def cross_of(
    vectors: AdapterVectors,
    others: AdapterVectors | npt.NDArray[np.floating[Any]],
    *,
    origin: Rows | None = None,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
) -> Gram:
    """Inner products (m, n) of others with a store's vectors.

    `others` are rows of the same store or m vectors (m, p) of the same columns. About
    the median of the rows `origin`, by default those of `gram_of`.
    """
    share = Share.of(len(others), len(vectors), memory_gib, threads=scheduler is None)
    beside = others.rows if isinstance(others, AdapterVectors) else others
    about = origin_rows(vectors.rows) if origin is None else origin
    tasks = column_tasks(vectors, about, share, beside)
    return sum_tasks({"cross": tasks}, share, scheduler)["cross"]


def cross_updates(
    source: Source,
    rows: npt.ArrayLike,
    others: tuple[Cohort, ...],
    groups: Groups,
    representation: str = "delta",
    *,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
) -> list[Gram]:
    """The measure's sums (m, n) between others and these rows, over the groups.

    The others may lie in any stores that have the same modules.
    """
    rows = np.asarray(rows, np.int64)
    shape = sum(len(cohort) for cohort in others), len(rows)
    n_sums = len(sum_names(representation))
    n_held = n_sums * len(groups)
    threads = scheduler is None
    share = Share.of(*shape, memory_gib, threads=threads, n_held=n_held, n_parts=n_sums)
    tasks = {
        name: delta_tasks(source, rows, modules, share.memory_bytes, others, representation)
        for name, modules in groups.items()
    }
    sums = sum_tasks(tasks, share, scheduler)
    return list(sum_of(list(sums.values())).reshape(n_sums, *shape))


def _check_representations(source: Source, representations: Sequence[str]) -> None:
    for name in representations:
        if base_representation(name) not in REPRESENTATIONS:
            raise StageError(
                f"there is no representation {name!r}; choose from {', '.join(REPRESENTATIONS)}"
            )
        sum_names(name)  # raises for a rank that is none
    if isinstance(source, AdapterStore):
        return
    cut = [name for name in representations if truncated_rank(name) is not None]
    if cut:
        raise StageError(
            f"ingested adapters change different modules, and the norms of their updates are known "
            f"at full rank only, so {cut[0]} cannot be compared; leave sweep.truncated_ranks out"
        )
    if FACTORS in representations:
        raise StageError(
            "ingested adapters differ in rank and initialisation, so their factors cannot be "
            "compared; set embedding.representations=[delta]"
        )
