"""The fleet's numbers as a Prometheus server would fetch them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.distributed.metrics import GAUGES

EXPORTS = """
import time, ray
from lorastyle.distributed.metrics import FleetMetrics
from lorastyle.distributed.tally import Tally

ray.init()
metrics, tally = FleetMetrics("paper"), Tally(total=10)
tally.statuses.update(ok=4, failed=1)
tally.pending.add("actor-2")
tally.ready("actor-1")
while True:
    metrics.update(tally, gpus_per_actor=0.5, cost=2.5)
    time.sleep(0.5)
"""

pytestmark = [pytest.mark.ray, pytest.mark.cluster]


def exported(cluster: LocalCluster) -> dict[str, float]:
    """Our metrics of one run, from the targets that Ray names to Prometheus."""
    targets = cluster.directory / "ray" / "prom_metrics_service_discovery.json"
    found = {}
    for target in json.loads(Path(targets).read_text())[0]["targets"]:
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:  # a node that has just gone
            continue
        for name, labels, value in re.findall(r"^ray_(lorastyle_\w+){(.*)} (\S+)$", text, re.M):
            if 'run="paper"' in labels:
                found[name] = float(value)
    return found


def test_prometheus_finds_every_number_under_the_runs_name(gpu_cluster: LocalCluster) -> None:
    process = subprocess.Popen([sys.executable, "-c", EXPORTS], env=gpu_cluster.environment)
    try:
        deadline = time.monotonic() + 60
        while GAUGES.keys() - exported(gpu_cluster).keys() and time.monotonic() < deadline:
            time.sleep(1)
        found = exported(gpu_cluster)
    finally:
        process.kill()
        process.wait()
    assert found.keys() == GAUGES.keys()
    assert found["lorastyle_adapters_total"] == 10 and found["lorastyle_adapters_done"] == 5
    assert found["lorastyle_adapters_unusable"] == 1 and found["lorastyle_cost"] == 2.5
    assert found["lorastyle_actors_live"] == 1 and found["lorastyle_actors_pending"] == 1
    assert found["lorastyle_gpus_live"] == 0.5
    assert found["lorastyle_adapters_per_hour"] > 0 and found["lorastyle_seconds_left"] > 0
