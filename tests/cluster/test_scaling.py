"""Which machines Ray's own scheduler would start, given our files and what actors ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from cluster.validate import HERE

ACTOR = {"GPU": 1.0, "CPU": 1.0}
TASK = {"CPU": 1.0}
FILES = ("aws.yaml", "gcp.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml")


def _config(name: str, spot_at_most: int = 16) -> AutoscalingConfig:
    """The file as Ray's autoscaler understands it."""
    document = yaml.safe_load((HERE / name).read_text())
    if "spec" in document:
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        document = _derive_autoscaling_config_from_ray_cr({**document, "spec": spec})
    else:
        document = prepare_config(document)
    document["available_node_types"]["gpu-spot"]["max_workers"] = spot_at_most
    return AutoscalingConfig(document, skip_content_hash=True)


def _started(config: AutoscalingConfig, asked: Mapping[str, float], n: int, **known: Any) -> Any:
    """Kinds of machines and their number, for n requests at once."""
    requests = [ResourceRequestUtil.make(dict(asked)) for _ in range(n)]
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_worker_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(requests),
        **known,
    )
    reply = ResourceDemandScheduler().schedule(request)
    return {each.instance_type: each.count for each in reply.to_launch}


@pytest.mark.parametrize("name", FILES)
def test_actors_get_spot_machines_first_one_each(name: str) -> None:
    assert _started(_config(name), ACTOR, 3) == {"gpu-spot": 3}


@pytest.mark.parametrize("name", FILES)
def test_what_spot_may_not_have_is_taken_on_demand(name: str) -> None:
    assert _started(_config(name, spot_at_most=2), ACTOR, 3) == {"gpu-spot": 2, "gpu-on-demand": 1}


@pytest.mark.parametrize("name", FILES)
def test_after_spot_machines_that_did_not_come_up_others_are_asked_for(name: str) -> None:
    missed = {"gpu-spot": 0.0}
    started = _started(_config(name), ACTOR, 3, recoverable_resource_availabilities=missed)
    assert started == {"gpu-on-demand": 3}


@pytest.mark.parametrize("name", FILES)
def test_tasks_without_a_gpu_wake_no_gpu(name: str) -> None:
    (kind,) = _started(_config(name), TASK, 5)
    assert kind in {"cpu", "cpu-spot"}


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_no_demand_starts_more_than_the_bound(name: str) -> None:
    assert sum(_started(_config(name), ACTOR, 400).values()) == 16


@pytest.mark.parametrize("name", FILES)
def test_without_demand_nothing_is_started(name: str) -> None:
    assert _started(_config(name), ACTOR, 0) == {}
