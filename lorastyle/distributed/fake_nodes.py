"""What makes Ray add and remove nodes that are processes of this machine: its fake node provider.

Ray ships the provider for its own tests, and a wrapper that does not work from
the wheel. The configuration and the variables below are what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD_ID = "f" * 51 + "00000"
"""The provider's id for the head; it counts the other nodes up from there."""

WORKER = "worker"

_PROVIDER = "lorastyle.distributed.node_provider.OwnDirectories"

# Keys that mean nothing here, and that the autoscaler wants to see all the same.
_UNUSED: Mapping[str, Any] = {
    "auth": {},
    "cluster_synced_files": [],
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "head_setup_commands": [],
    "head_start_ray_commands": [],
    "initialization_commands": [],
    "rsync_exclude": [],
    "rsync_filter": [],
    "setup_commands": [],
    "worker_setup_commands": [],
    "worker_start_ray_commands": [],
}


def autoscaling(
    gcs_address: str, *, n_nodes: int, resources: Mapping[str, float], idle_s: float
) -> dict[str, Any]:
    """The configuration of an autoscaler that starts 0 to `n_nodes` nodes with `resources` each.

    A node goes when nothing has used it for `idle_s`. The head takes no work.
    """
    return {
        **_UNUSED,
        "cluster_name": "lorastyle-local",
        "max_workers": n_nodes,
        "upscaling_speed": max(1, n_nodes),
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external",
            "module": _PROVIDER,
            "gcs_address": gcs_address,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            WORKER: {
                "resources": dict(resources),
                "node_config": {},
                "min_workers": 0,
                "max_workers": n_nodes,
            },
        },
    }


def variables() -> dict[str, str]:
    """The environment in which the head must start."""
    return {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        # The second autoscaler: it replaces a node that died within seconds, the first waits
        # for half a minute of missing heartbeats.
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
