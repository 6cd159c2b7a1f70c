from __future__ import annotations

import json
import shutil

import dask
import numpy as np
import pytest

from lorastyle.distributed.dask_scheduler import dask_scheduler, task_resources
from lorastyle.distributed.session import Session
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import PASS_FILE, embed
from lorastyle.runs import Run


@pytest.mark.ray
def test_ray_and_threads_make_the_same_gram_matrices(local_ray: Session, trained_run: Run) -> None:
    embed(trained_run)
    threaded = GramSet.load(trained_run.embedding_path)
    # Or everything would be kept, and nothing computed.
    shutil.rmtree(trained_run.embedding_path)
    embed(trained_run, scheduler=dask_scheduler(local_ray), force=True)
    on_ray = GramSet.load(trained_run.embedding_path)
    record = json.loads((trained_run.embedding_path / PASS_FILE).read_text())
    assert record["n_new"] == record["n_adapters"] == len(threaded.rows)
    assert record["n_segments"] > 0
    assert (on_ray.rows == threaded.rows).all()
    for representation, sums in threaded.sums.items():
        for sub_network, gram in sums.items():
            np.testing.assert_array_equal(on_ray.sums[representation][sub_network], gram)


@pytest.mark.ray
def test_tasks_run_in_rays_workers(local_ray: Session) -> None:
    import os

    pid = dask.delayed(os.getpid)()
    (worker,) = dask.compute(pid, scheduler=dask_scheduler(local_ray))
    assert worker != os.getpid()


def test_a_cluster_with_gpus_gives_every_task_a_share_of_one() -> None:
    assert task_resources({"CPU": 8.0, "GPU": 2.0}) == {"num_cpus": 0.5, "num_gpus": 0.25}


def test_asking_for_a_scheduler_starts_nothing() -> None:
    session = Session()
    dask_scheduler(session)
    assert not session._connected
