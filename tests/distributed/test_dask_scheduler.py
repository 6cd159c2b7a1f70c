from __future__ import annotations

import dask
import numpy as np
import pytest

from lorastyle.distributed.dask_scheduler import dask_scheduler
from lorastyle.distributed.session import Session
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import embed
from lorastyle.runs import Run


@pytest.mark.ray
def test_ray_and_threads_make_the_same_gram_matrices(local_ray: Session, trained_run: Run) -> None:
    embed(trained_run)
    threaded = GramSet.load(trained_run.embedding_path)
    embed(trained_run, scheduler=dask_scheduler(local_ray), force=True)
    on_ray = GramSet.load(trained_run.embedding_path)
    assert (on_ray.rows == threaded.rows).all()
    for representation in threaded.representations:
        for sub_network in threaded.sub_networks:
            here, there = (g.matrix(representation, sub_network) for g in (on_ray, threaded))
            # Partial sums may be added in another order.
            np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12)


@pytest.mark.ray
def test_tasks_run_in_rays_workers(local_ray: Session) -> None:
    import os

    pid = dask.delayed(os.getpid)()
    (worker,) = dask.compute(pid, scheduler=dask_scheduler(local_ray))
    assert worker != os.getpid()


def test_asking_for_a_scheduler_starts_nothing() -> None:
    session = Session()
    dask_scheduler(session)
    assert not session._connected
