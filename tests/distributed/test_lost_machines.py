"""Clusters whose nodes come and go, and whose head dies."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lorastyle.config import Experiment
from lorastyle.corpus.stage import plan
from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from tests.distributed.drivers import start_driver, wait_for_the_first_row, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(600)]


def contents(run: Run | Path) -> str:
    run = run if isinstance(run, Run) else Run.open(run)
    return digest_of_contents(AdapterStore.open(run.store_path))


def finish(process: subprocess.Popen[str]) -> str:
    """What the driver said until its good end."""
    with process:
        try:
            said, _ = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == 0, said
    return said


def test_a_cluster_without_workers_gets_them_trains_and_lets_them_go(
    gpu_cluster: LocalCluster, planned_run: Callable[..., Run], trained: Path
) -> None:
    gpu_cluster.wait_for_workers(0)
    run = planned_run()
    process = start_driver(run, gpu_cluster.environment, n_actors=3, gpus_per_actor=1)
    assert "24 adapters" in finish(process)
    assert contents(run) == contents(trained)
    gpu_cluster.wait_for_workers(0, timeout_s=60)


def test_a_node_that_vanishes_takes_no_row_along(
    gpu_cluster: LocalCluster, planned_run: Callable[..., Run], trained: Path
) -> None:
    run = planned_run()
    process = start_driver(run, gpu_cluster.environment, gpus_per_actor=0.5)
    wait_for_the_first_row(run)
    gpu_cluster.kill_node(gpu_cluster.workers()[0].node_id)
    finish(process)
    assert contents(run) == contents(trained)
    gpu_cluster.wait_for_workers(0, timeout_s=60)


def test_the_same_for_a_run_in_a_bucket_that_is_all_machines_share(
    ray_home: Path,
    machines: Callable[[str], Path],
    tiny_experiment: Callable[..., Experiment],
    trained: Path,
    tmp_path: Path,
) -> None:
    driver_cache = machines("driver")
    run = Run.create("s3://team/runs/lost", tiny_experiment())
    plan(run, image_size=32)
    elsewhere = {"LORASTYLE_CACHE": str(tmp_path / "nodes")}
    with LocalCluster(nodes=3, gpus_per_node=1, environment=elsewhere) as cluster:
        environment = {**cluster.environment, "LORASTYLE_CACHE": str(driver_cache)}
        process = start_driver(run, environment, gpus_per_actor=1)
        wait_until(lambda: bool(run.place.child("adapters.zarr/commits").names()))
        cluster.kill_node(cluster.workers()[0].node_id)
        finish(process)
    assert contents(run) == contents(trained)
    assert run.place.child("logs").names() == ["train-00000001.jsonl"]


def test_an_actor_that_takes_too_much_memory_is_replaced(
    ray_home: Path, planned_run: Callable[..., Run], trained: Path
) -> None:
    run = planned_run()
    memory = psutil.virtual_memory()
    # The cluster and two actors need 2 GiB themselves.
    allowed = (memory.total - memory.available + 4 * 2**30) / memory.total
    environment = {
        "RAY_memory_usage_threshold": f"{allowed:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
        "HOG_GIB": "6",
    }
    with LocalCluster(nodes=2, gpus_per_node=1, environment=environment) as cluster:
        hog = ("tests.distributed.victims", "hog", str(run.directory))
        said = finish(start_driver(run, cluster.environment, *hog))
    assert "OutOfMemoryError" in said
    assert contents(run) == contents(trained)


def test_a_head_that_dies_ends_the_attempt_and_the_next_cluster_goes_on(
    ray_home: Path, planned_run: Callable[..., Run], trained: Path
) -> None:
    run = planned_run()
    quickly = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    with LocalCluster(nodes=2, gpus_per_node=1, environment=quickly) as first:
        process = start_driver(run, first.environment)
        wait_for_the_first_row(run)
        first.kill_head()
        with process:
            try:
                said, _ = process.communicate(timeout=120)
            finally:
                process.kill()
        assert process.returncode != 0, said
    assert run.manifest("train") is None
    with LocalCluster(nodes=2, gpus_per_node=1) as second:
        finish(start_driver(run, second.environment))
    assert contents(run) == contents(trained)
