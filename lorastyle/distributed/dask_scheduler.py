"""Dask on Ray: the Gram pass runs on the cluster that trained the adapters."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from lorastyle.distributed.session import Session

Scheduler = Callable[..., Any]
"""What `dask.compute(scheduler=...)` takes: (graph, keys, **options) -> results."""


def dask_scheduler(session: Session | None = None) -> Scheduler | None:
    """A Dask scheduler that sends tasks to Ray, or None where this Ray has none.

    Ray is started, or joined, by the first computation: a stage that has nothing
    to compute costs nothing. Without a session, Ray must be initialised already.
    None means Dask's own threads. Ray's scheduler follows Dask's internals, so
    each Ray release knows certain Dask releases only; the versions are pinned.
    """
    if importlib.util.find_spec("ray") is None:
        return None

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        if session is not None:
            session.start()
        # Imported late: importing it replaces `dask.persist`.
        from ray.util.dask import ray_dask_get

        return ray_dask_get(graph, keys, **options)

    return get
