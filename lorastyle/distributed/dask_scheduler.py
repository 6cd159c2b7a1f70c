"""Dask on Ray: the Gram pass runs on the cluster that trained the adapters."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from lorastyle.distributed.session import Session

CPUS_A_TASK = 0.5
"""Two tasks share a core, so that one reads while the other computes."""
GPUS_A_TASK = 0.25
"""Where the cluster has GPUs, four tasks share one."""

Scheduler = Callable[..., Any]
"""What `dask.compute(scheduler=...)` takes: (graph, keys, **options) -> results."""


def dask_scheduler(session: Session | None = None) -> Scheduler | None:
    """A Dask scheduler that sends tasks to Ray, or None where this Ray has none.

    Ray is started, or joined, by the first computation: a stage that has nothing
    to compute costs nothing. Without a session, Ray must be initialised already.
    None means Dask's own threads. Ray's scheduler follows Dask's internals, so
    each Ray release knows certain Dask releases only; the versions are pinned.
    On a cluster with GPUs every task gets a share of one.
    """
    if importlib.util.find_spec("ray") is None:
        return None

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        if session is not None:
            session.start()
        import ray

        # Imported late: importing it replaces `dask.persist`.
        from ray.util.dask import ray_dask_get

        options["ray_remote_args"] = task_resources(ray.cluster_resources())
        return ray_dask_get(graph, keys, **options)

    return get


def pass_scheduler(session: Session) -> Scheduler | None:
    """What carries out a pass over the store: the cluster, or this machine's threads.

    On one machine Ray would add seconds of imports and a copy of every sum, and nothing else.
    """
    return dask_scheduler(session) if session.joins_a_cluster else None


def task_resources(cluster: Mapping[str, float]) -> dict[str, float]:
    """What a task asks of a cluster with these resources.

    >>> task_resources({"CPU": 16.0})
    {'num_cpus': 0.5}
    """
    wanted = {"num_cpus": CPUS_A_TASK}
    if cluster.get("GPU", 0) > 0:
        wanted["num_gpus"] = GPUS_A_TASK
    return wanted
