"""The pass over the store that yields every Gram matrix, as Dask tasks.

A task opens the store itself, reads a segment of columns of every row and returns
one (n, n) sum, so that a scheduler moves no weights: it may be Dask's threads, or Ray.
The sums of a matrix are added in the order of its segments. With a ledger they are saved
there now and then, so a pass that was killed continues, and ends in the same bits; nothing
else is kept of a matrix that is finished, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.threaded
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lorastyle.embedding.blocks import (
    ORIGIN_ROWS,
    PANEL,
    SPARE,
    chunks_per_segment,
    cut_segments,
    origin_rows,
)
from lorastyle.embedding.delta_products import Module
from lorastyle.embedding.delta_tasks import delta_tasks
from lorastyle.embedding.factor_products import FactorTask
from lorastyle.embedding.groups import Groups, columns_of, sub_network_groups
from lorastyle.embedding.ledger import Ledger
from lorastyle.embedding.measures import (
    FACTORS,
    MEASURES,
    base_representation,
    sum_names,
    truncated_rank,
)
from lorastyle.embedding.products import sum_of
from lorastyle.embedding.spent import Spent
from lorastyle.errors import StageError
from lorastyle.progress import Progress, Silent
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Cohort, Source
from lorastyle.store.vectors import AdapterVectors

Rows = npt.NDArray[np.int64]
Gram = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Scheduler = Callable[..., Any]
Task = Callable[[Spent], Gram]

IN_FLIGHT_ELSEWHERE = 64
"""Tasks that another scheduler may carry out at once."""
REPRESENTATIONS = (FACTORS, *MEASURES)
USUAL = (FACTORS, "delta")
"""What is embedded where nobody asks for more."""
ROWS_BESIDES = 2 * ORIGIN_ROWS + 2
"""Rows that a task holds besides a block's: the origin's, their sorted copy, a chunk being read."""
LEAST_WIDTH = 256
"""Narrower blocks would read each inner chunk more than a hundred times."""
TASKS_ELSEWHERE = 4
"""Tasks among which memory is shared where another scheduler decides how many run at once."""


@dataclass(frozen=True)
class Share:
    """How many tasks run at once, and the working memory each may take."""

    n_workers: int
    memory_bytes: int

    @classmethod
    def of(
        cls,
        n_left: int,
        n_right: int,
        memory_gib: float,
        *,
        threads: bool,
        n_held: int = 1,
        n_parts: int = 1,
    ) -> Share:
        """Divide the memory. Raises StageError where it does not hold the sums alone.

        `n_held` sums are in memory at once; a task returns `n_parts`.
        """
        total = int(memory_gib * 2**30)
        # The sums, one's successor and a part that waits; each task has a sum and a product.
        gram = 8 * n_left * n_right
        fixed, own = (n_held + 2 * n_parts) * gram, n_parts * (gram + gram // 2)
        column = 4 * (n_right + ROWS_BESIDES)
        least, panel = column * LEAST_WIDTH, column * PANEL
        if total < fixed + own + least:
            raise StageError(
                f"{memory_gib:g} GiB are too little for the products of {n_right} adapters; "
                f"give at least --memory {1.05 * (fixed + own + least) / 2**30:.2g}GiB"
            )
        # More tasks than cores: one reads and one waits for the disk while the others compute.
        wanted = 2 + (os.cpu_count() or 1) if threads else TASKS_ELSEWHERE
        room = total - fixed
        # Rather every core with narrow blocks, whose chunks are read more than once, than few.
        n_workers = max(1, min(wanted, room // (own + panel)))
        return cls(n_workers if threads else TASKS_ELSEWHERE, room // n_workers - own)

    def width(self, n_rows: int, chunk: int) -> int:
        """Columns of these rows to hold at once: an inner chunk, or whole panels, or less."""
        width = max(1, self.memory_bytes // (4 * (n_rows + ROWS_BESIDES)))
        if width >= chunk:
            return chunk
        return width // PANEL * PANEL if width >= PANEL else width


@dataclass(frozen=True)
class GramPass:
    """One pass over the store, cut into tasks: make it with `of`, carry it out with `run`."""

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
    ) -> GramPass:
        """Plan the pass over these rows; arguments as in `compute_sums`.

        `in_memory`: for `run`, which returns all sums, and not for `fill`.
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
                tasks[f"{name}.{group}"] = (
                    _factor_tasks(store, rows, modules, about, share, others)
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
        found = _run(self.tasks, self.share, scheduler)
        sums: dict[str, dict[str, Gram]] = {}
        for representation in self.representations:
            for group in self.groups:
                total = found[f"{representation}.{group}"]
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
            _run(self.tasks, self.share, scheduler, ledger, n_saved)

    def finished(self, ledger: Ledger, representation: str, group: str) -> dict[str, Gram]:
        """One matrix's sums by name. Raises StageError where the ledger lacks them."""
        name = f"{representation}.{group}"
        return self._parts(representation, _saved(name, len(self.tasks[name]), ledger))

    def _parts(self, representation: str, total: Gram) -> dict[str, Gram]:
        names = sum_names(representation)
        return dict(zip(names, total.reshape(len(names), *self.shape), strict=True))


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
    tasks = _column_tasks(vectors, origin_rows(vectors.rows), share, None)
    return _run({"gram": tasks}, share, scheduler)["gram"]


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
    tasks = _column_tasks(vectors, about, share, beside)
    return _run({"cross": tasks}, share, scheduler)["cross"]


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
    sums = _run(tasks, share, scheduler)
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


def _factor_tasks(
    store: AdapterStore,
    rows: Rows,
    modules: Sequence[Module],
    origin: Rows,
    share: Share,
    others: Rows | None,
) -> list[Task]:
    tasks: list[Task] = []
    for columns in columns_of(modules):
        vectors = AdapterVectors(store, rows, columns)
        tasks += _column_tasks(vectors, origin, share, others)
    return tasks


def _column_tasks(
    vectors: AdapterVectors, origin: Rows, share: Share, others: Rows | Matrix | None
) -> list[Task]:
    store, columns = vectors.store, vectors.columns
    n_rows = len(vectors) + (0 if others is None else len(others))
    width = share.width(max(1, n_rows), store.block)
    n_chunks = chunks_per_segment(store.size, store.block)
    parts = cut_segments(columns, store.block, n_chunks)
    tasks: list[Task] = []
    for part in parts:
        beside = others
        if others is not None and others.ndim == 2:
            beside = others[:, part.start - columns.start : part.stop - columns.start]
        tasks.append(FactorTask(store.path, vectors.rows, origin, part, width, beside))
    return tasks


def _run(
    tasks: Mapping[str, Sequence[Task]],
    share: Share,
    scheduler: Scheduler | None,
    ledger: Ledger | None = None,
    n_saved: Mapping[str, int] | None = None,
) -> dict[str, Gram]:
    """The sum of each named list of tasks; with a ledger they are left there, and none returned."""
    options: dict[str, Any] = {"scheduler": scheduler}
    n_at_once = IN_FLIGHT_ELSEWHERE
    if scheduler is None:
        # One more than can run, so that nobody waits for a sum.
        n_at_once = share.n_workers + 1
        options = {"scheduler": dask.threaded.get, "num_workers": share.n_workers}
    totals = _totals(tasks, ledger, n_saved or {}, n_at_once)
    # One BLAS thread a task: threads under threads were 2 to 10 times slower, and the number
    # of threads shows in the last bits. (Ray gives its workers one by itself.)
    with threadpool_limits(1):
        try:
            results = dask.compute(*totals.values(), optimize_graph=False, **options)
        finally:
            SPARE.clear()
    return {} if ledger is not None else dict(zip(totals, results, strict=True))


def _totals(
    tasks: Mapping[str, Sequence[Task]],
    ledger: Ledger | None,
    n_saved: Mapping[str, int],
    n_at_once: int,
) -> dict[str, Any]:
    """A delayed sum of each list, in the order of its tasks, from where the ledger says.

    A task waits until the one `n_at_once` before it is added up. Dask would start them in an
    order of its own and add up last: a killed pass would have saved nothing, and the parts
    would pile up. With a ledger only the end of each sum is a result: the sums themselves
    would all stay in memory.
    """
    run, add, end, load = (
        dask.delayed(body, traverse=False) for body in (_carry_out, _add, _finished, _saved)
    )
    ends: list[Any] = []
    totals = {}
    for name, parts in tasks.items():
        n_done, total = n_saved.get(name, 0), None
        for number in range(n_done, len(parts)):
            after = ends[-n_at_once] if len(ends) >= n_at_once else None
            if number == n_done > 0:
                total = load(name, n_done, ledger, after)
            part = run(parts[number], f"{name}.{number:06d}", ledger, after)
            total = add(total, part, name, number + 1, number + 1 == len(parts), ledger)
            ends.append(end(total))
        if n_done < len(parts):
            totals[name] = total if ledger is None else ends[-1]
    return totals


def _finished(_: Gram) -> None:
    """What a later task waits for: the sum itself would be kept, and sent."""


def _saved(name: str, n_segments: int, ledger: Ledger, after: None = None) -> Gram:
    saved = ledger.load(name)
    if saved is None or saved[0] != n_segments:
        raise StageError(f"what the pass saved of {name} is gone; run `lorastyle embed RUN` again")
    return saved[1]


def _carry_out(task: Task, name: str, ledger: Ledger | None, after: None) -> Gram:
    spent = Spent()
    result = task(spent)
    if ledger is not None:
        ledger.receive(name, vars(spent))
    return result


def _add(
    total: Gram | None, part: Gram, name: str, n_segments: int, last: bool, ledger: Ledger | None
) -> Gram:
    # A new array: with Ray, what a task is given is shared and read-only.
    total = part if total is None else total + part
    if ledger is not None:
        ledger.save(name, total, n_segments, last=last)
    return total
