"""Sums of tasks' results, as a Dask graph: on threads, or wherever a scheduler runs it.

Parts are added in the order of their tasks, whoever finishes first. With a ledger they are
saved there now and then, so that what was killed continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dask
import dask.threaded
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lorastyle.embedding.blocks import SPARE
from lorastyle.embedding.ledger import Ledger
from lorastyle.embedding.share import Share
from lorastyle.embedding.spent import Spent

Gram = npt.NDArray[np.float64]
Scheduler = Callable[..., Any]
"""What `dask.compute(scheduler=...)` takes: (graph, keys, **options) -> results."""
Task = Callable[[Spent], Gram]

IN_FLIGHT_ELSEWHERE = 64
"""Tasks that another scheduler may carry out at once."""


def sum_tasks(
    tasks: Mapping[str, Sequence[Task]],
    share: Share,
    scheduler: Scheduler | None,
    ledger: Ledger | None = None,
    n_saved: Mapping[str, int] | None = None,
) -> dict[str, Gram]:
    """The sum of each named list of tasks; with a ledger they are left there, and none returned."""
    # One more than can run, so that nobody waits for a sum.
    n_at_once = IN_FLIGHT_ELSEWHERE if scheduler else share.n_workers + 1
    totals = _totals(tasks, ledger, n_saved or {}, n_at_once)
    try:
        # One BLAS thread a task: threads under threads were 2 to 10 times slower, and the number
        # of threads shows in the last bits. (Ray gives its workers one by itself.)
        with threadpool_limits(1), ThreadPoolExecutor(share.n_workers) as pool:
            # When a task fails, leaving the pool waits for those beside it.
            options = {"scheduler": scheduler or partial(dask.threaded.get, pool=pool)}
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
    run, add, end = (dask.delayed(body, traverse=False) for body in (_carry_out, _add, _finished))
    ends: list[Any] = []
    totals = {}
    total: Any
    for name, parts in tasks.items():
        n_done, total = n_saved.get(name, 0), None
        if ledger is not None and 0 < n_done < len(parts):
            # Asked again: on a cluster, tasks of a pass that failed may still be saving.
            n_done, total = ledger.load(name) or (0, None)
        for number in range(n_done, len(parts)):
            after = ends[-n_at_once] if len(ends) >= n_at_once else None
            part = run(parts[number], f"{name}.{number:06d}", ledger, after)
            total = add(total, part, name, number + 1, number + 1 == len(parts), ledger)
            ends.append(end(total))
        if n_done < len(parts):
            totals[name] = total if ledger is None else ends[-1]
    return totals


def _finished(_: Gram) -> None:
    """What a later task waits for: the sum itself would be kept, and sent."""


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
