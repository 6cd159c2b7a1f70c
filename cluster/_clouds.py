"""node_config: what `ray up` hands to a cloud unread.

A typing error there shows when the first machine is asked for, and a forgotten field
shows on the bill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster import _fields
from cluster._finding import Finding, Path, at, shown

_KINDS = {"aws": "AwsNode", "gcp": "GcpNode"}
_PROVIDER_FIELDS = {
    "aws": {"region", "availability_zone"},
    "gcp": {"region", "availability_zone", "project_id"},
}


def check(file: str, config: Mapping[str, Any], provider: str) -> Iterator[Finding]:
    """Findings about machines of AWS or GCP."""
    yield from _provider(file, config["provider"], provider)
    rules = _aws_node if provider == "aws" else _gcp_node
    for name, node_type in config["available_node_types"].items():
        path: Path = ("available_node_types", name, "node_config")
        findings = list(_fields.check(file, node_type["node_config"], _KINDS[provider], path))
        yield from findings
        if not findings:
            yield from rules(file, path, node_type["node_config"], name == config["head_node_type"])


def _provider(file: str, provider: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    for field in sorted(_PROVIDER_FIELDS[kind] - provider.keys()):
        yield Finding(file, ("provider", field), "is missing; say where machines are started")
    if provider.get("cache_stopped_nodes") is not False:
        yield Finding(
            file,
            ("provider", "cache_stopped_nodes"),
            f"is {shown(provider.get('cache_stopped_nodes'))}; write false, or idle machines are "
            "stopped and their disks go on costing",
        )


def _aws_node(file: str, path: Path, node: Mapping[str, Any], is_head: bool) -> Iterator[Finding]:
    for index, disk in enumerate(node.get("BlockDeviceMappings", [])):
        kept = at(disk, ("Ebs", "DeleteOnTermination"))
        if "Ebs" in disk and kept is not True:
            yield Finding(
                file,
                (*path, "BlockDeviceMappings", index, "Ebs", "DeleteOnTermination"),
                f"is {shown(kept)}; write true, or the disk outlives its machine and costs",
            )
    if "IamInstanceProfile" not in node:
        yield Finding(
            file,
            (*path, "IamInstanceProfile"),
            "is missing; give the machine a profile, so that it reaches the bucket without keys",
        )
    if "SecurityGroupIds" not in node and "NetworkInterfaces" not in node:
        yield Finding(
            file,
            (*path, "SecurityGroupIds"),
            "is missing; name a group, since Ray's own opens ssh to every address",
        )
    yield from _head_not_spot(
        file, path, is_head, ("InstanceMarketOptions", "MarketType"), node, "spot"
    )


def _gcp_node(file: str, path: Path, node: Mapping[str, Any], is_head: bool) -> Iterator[Finding]:
    for index, disk in enumerate(node["disks"]):
        if disk.get("autoDelete") is not True:
            yield Finding(
                file,
                (*path, "disks", index, "autoDelete"),
                f"is {shown(disk.get('autoDelete'))}; write true, or the disk outlives its "
                "machine and costs",
            )
    yield from _gcp_scheduling(file, (*path, "scheduling"), node)
    yield from _head_not_spot(
        file, path, is_head, ("scheduling", "provisioningModel"), node, "SPOT"
    )


def _gcp_scheduling(file: str, path: Path, node: Mapping[str, Any]) -> Iterator[Finding]:
    """What Compute Engine asks of machines with GPUs, and of spot machines."""
    scheduling = node.get("scheduling", {})
    families = ("a2-", "a3-", "a4-", "g2-", "g4-")
    has_gpu = "guestAccelerators" in node or node["machineType"].startswith(families)
    spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible")
    wanted: dict[str, Any] = {}
    if has_gpu or spot:
        wanted["onHostMaintenance"] = "TERMINATE"
    if spot:
        wanted |= {"automaticRestart": False, "instanceTerminationAction": "DELETE"}
    for field, value in wanted.items():
        if scheduling.get(field) != value:
            written = str(value).lower() if isinstance(value, bool) else value
            yield Finding(
                file,
                (*path, field),
                f"is {shown(scheduling.get(field))}; write {written}, which a machine with a GPU "
                "or at a spot price needs",
            )


def _head_not_spot(
    file: str,
    path: Path,
    is_head: bool,
    field: Path,
    node: Mapping[str, Any],
    spot: str,
) -> Iterator[Finding]:
    if is_head and at(node, field) == spot:
        yield Finding(
            file,
            (*path, *field),
            f"is {spot!r} for the head; take it out, since the driver dies with its machine",
        )
