"""Rules for the pods of a Ray cluster that no schema states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster import _common
from cluster._fields import quantity
from cluster._finding import Finding, Path, at

GPU = "nvidia.com/gpu"


def check(file: str, path: Path, template: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings for one pod template; `path` is where it lies."""
    spec, path = template["spec"], (*path, "spec")
    yield from _volumes(file, path, spec)
    yield from _identity(file, path, spec)
    for index, container in enumerate(spec["containers"]):
        here = (*path, "containers", index)
        yield from _common.image(file, (*here, "image"), container.get("image"))
        yield from _amounts(file, (*here, "resources"), container.get("resources") or {})


def gpus(template: Mapping[str, Any]) -> float:
    """The GPUs that Ray sees in a pod: the limit of its first container."""
    return quantity(at(template, ("spec", "containers", 0, "resources", "limits", GPU), 0)) or 0.0


def tolerates_gpus(template: Mapping[str, Any]) -> bool:
    """Whether the pod may lie on a node that is tainted for GPUs."""
    tolerations = at(template, ("spec", "tolerations"), [])
    return any(
        each.get("key") == GPU or ("key" not in each and each.get("operator") == "Exists")
        for each in tolerations
    )


def _volumes(file: str, path: Path, spec: Mapping[str, Any]) -> Iterator[Finding]:
    known = {volume["name"] for volume in spec.get("volumes", [])}
    for group in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(group, [])):
            for number, mount in enumerate(container.get("volumeMounts", [])):
                if mount["name"] not in known:
                    yield Finding(
                        file,
                        (*path, group, index, "volumeMounts", number, "name"),
                        f"is {mount['name']!r}, and the pod has no such volume; add it to "
                        "spec.volumes",
                    )


def _identity(file: str, path: Path, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Ray runs whatever code it is given: not as root, and not beside the node's own network."""
    security = spec.get("securityContext") or {}
    if security.get("runAsNonRoot") is not True:
        yield Finding(
            file,
            (*path, "securityContext", "runAsNonRoot"),
            "is not true; write true, the image needs no root",
        )
    if spec.get("hostNetwork"):
        yield Finding(
            file,
            (*path, "hostNetwork"),
            "is true; take it out, or network policies do not hold for the pod",
        )
    for index, container in enumerate(spec["containers"]):
        if at(container, ("securityContext", "privileged")):
            yield Finding(
                file,
                (*path, "containers", index, "securityContext", "privileged"),
                "is true; take it out, the image needs no privileges",
            )


def _amounts(file: str, path: Path, resources: Mapping[str, Any]) -> Iterator[Finding]:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name in ("cpu", "memory"):
        if name not in limits:
            yield Finding(
                file,
                (*path, "limits", name),
                "is missing; Ray reads what a pod has from its limits",
            )
    for name, asked in requests.items():
        most = limits.get(name)
        if most is None:
            continue
        low, high = quantity(asked) or 0.0, quantity(most) or 0.0
        if low > high or (name == GPU and low != high):
            relation = "the same as" if name == GPU else "at most"
            yield Finding(
                file,
                (*path, "requests", name),
                f"is {asked}, the limit {most}; a request must be {relation} the limit",
            )
