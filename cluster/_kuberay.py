"""Files of Kubernetes: the table of fields, then the rules of KubeRay 1.7 and ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster import _fields, _pods, _rayjob
from cluster._commands import LOOPBACK
from cluster._finding import Finding, Path, at, nearest, shown

KINDS = {
    "RayCluster", "RayJob", "NetworkPolicy", "ServiceAccount", "Namespace", "PersistentVolumeClaim",
}  # fmt: skip
_LONGEST_NAME = {"RayCluster": 53, "RayJob": 47}
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_FIRST_RAY_WITH_TOKENS = (2, 52)
_LONGEST_IDLE_S = 1800


def check(file: str, document: Mapping[str, Any]) -> Iterator[Finding]:
    """All findings for one document."""
    kind = document.get("kind")
    if kind == "Secret":
        yield Finding(
            file, ("kind",), "is a Secret; create it with kubectl, never from a file kept here"
        )
        return
    if kind not in KINDS:
        yield Finding(file, ("kind",), f"is {shown(kind)}; {nearest(str(kind), KINDS)}")
        return
    typed = list(_fields.check(file, document, kind))
    yield from typed
    if typed:  # rules may assume that fields have their types
        return
    yield from _names(file, document)
    if kind == "RayCluster":
        yield from cluster(file, ("spec",), document["spec"], in_job=False)
    if kind == "RayJob":
        yield from _rayjob.check(file, document["spec"])
        if "rayClusterSpec" in document["spec"]:
            inner = document["spec"]["rayClusterSpec"]
            yield from cluster(file, ("spec", "rayClusterSpec"), inner, in_job=True)


def _names(file: str, document: Mapping[str, Any]) -> Iterator[Finding]:
    name, longest = document["metadata"]["name"], _LONGEST_NAME.get(document["kind"], 63)
    if not _LABEL.fullmatch(name) or len(name) > longest:
        yield Finding(
            file,
            ("metadata", "name"),
            f"is {name!r}; use at most {longest} small letters, digits and hyphens",
        )


def cluster(file: str, path: Path, spec: Mapping[str, Any], *, in_job: bool) -> Iterator[Finding]:
    """Findings for a RayClusterSpec, on its own or within a RayJob."""
    yield from _authentication(file, path, spec)
    yield from _autoscaler(file, path, spec)
    yield from _head(file, (*path, "headGroupSpec"), spec["headGroupSpec"], in_job)
    for index, group in enumerate(spec.get("workerGroupSpecs", [])):
        yield from _workers(file, (*path, "workerGroupSpecs", index), group)
    yield from _one_image(file, path, spec)
    yield from _priorities(file, path, spec.get("workerGroupSpecs", []))


def _authentication(file: str, path: Path, spec: Mapping[str, Any]) -> Iterator[Finding]:
    mode = at(spec, ("authOptions", "mode"))
    if mode != "token":
        yield Finding(
            file,
            (*path, "authOptions", "mode"),
            f"is {shown(mode)}; write token, or whoever reaches a pod runs code in it",
        )
    version = str(spec.get("rayVersion", ""))
    found = re.match(r"(\d+)\.(\d+)\.\d+", version)
    if not found or tuple(map(int, found.groups())) < _FIRST_RAY_WITH_TOKENS:
        yield Finding(
            file,
            (*path, "rayVersion"),
            f"is {version or 'missing'!r}; name the image's version of Ray, 2.52.0 or later: the "
            "operator gives out no token without it",
        )


def _autoscaler(file: str, path: Path, spec: Mapping[str, Any]) -> Iterator[Finding]:
    if spec.get("enableInTreeAutoscaling") is not True:
        yield Finding(
            file,
            (*path, "enableInTreeAutoscaling"),
            "is not true; write true, or pods neither come nor go",
        )
        return
    options = spec.get("autoscalerOptions") or {}
    if options.get("version") != "v2":
        yield Finding(
            file,
            (*path, "autoscalerOptions", "version"),
            f"is {shown(options.get('version'))}; write v2, which knows priorities and idle times "
            "of groups",
        )
    idle = options.get("idleTimeoutSeconds")
    if idle is None or not 0 < idle <= _LONGEST_IDLE_S:
        yield Finding(
            file,
            (*path, "autoscalerOptions", "idleTimeoutSeconds"),
            f"is {idle if idle is not None else 'missing'}; say when idle pods go, at most "
            f"{_LONGEST_IDLE_S}",
        )


def _head(file: str, path: Path, head: Mapping[str, Any], in_job: bool) -> Iterator[Finding]:
    parameters = head.get("rayStartParams") or {}
    offered = {"num-cpus": "CPU", "num-gpus": "GPU"}
    for name, resource in offered.items():
        value = parameters.get(name, at(head, ("resources", resource)))
        if value != "0":
            yield Finding(
                file,
                (*path, "rayStartParams", name),
                f'is {shown(value)}; write "0", so that work stays off the pod of the driver',
            )
    if _pods.gpus(head["template"]):
        yield Finding(file, (*path, "template"), "asks for a GPU; the head has no use for one")
    yield from _exposure(file, path, head, parameters.get("dashboard-host"), in_job)
    yield from _group(file, path, head)


def _exposure(
    file: str, path: Path, head: Mapping[str, Any], host: str | None, in_job: bool
) -> Iterator[Finding]:
    """Who reaches the dashboard, which is also where jobs are submitted."""
    here = (*path, "rayStartParams", "dashboard-host")
    if in_job and host in LOOPBACK:
        yield Finding(
            file, here, f"is {host!r}; write 0.0.0.0, or the operator cannot ask how the job does"
        )
    if not in_job and host not in LOOPBACK:
        yield Finding(
            file,
            here,
            f"is {host or 'missing, which means 0.0.0.0'}; write 127.0.0.1 and use "
            "kubectl port-forward",
        )
    service = head.get("serviceType", "ClusterIP")
    if service != "ClusterIP" or head.get("enableIngress"):
        field = "enableIngress" if service == "ClusterIP" else "serviceType"
        yield Finding(
            file,
            (*path, field),
            f"is {head.get(field)}; Ray belongs on no public address: use ClusterIP, no ingress",
        )


def _workers(file: str, path: Path, group: Mapping[str, Any]) -> Iterator[Finding]:
    least, most = group["minReplicas"], group["maxReplicas"]
    wanted = group.get("replicas", least)
    if not 0 <= least <= wanted <= most:
        yield Finding(
            file,
            (*path, "replicas"),
            f"is {wanted} between minReplicas {least} and maxReplicas {most}; they must be ordered",
        )
    template = group["template"]
    if least and _pods.gpus(template):
        yield Finding(
            file,
            (*path, "minReplicas"),
            f"is {least}; write 0, or GPUs are paid for while nothing trains",
        )
    if _pods.gpus(template) and not _pods.tolerates_gpus(template):
        yield Finding(
            file,
            (*path, "template", "spec", "tolerations"),
            f"do not name {_pods.GPU}; GPU nodes are tainted with it, the pod would never start",
        )
    yield from _group(file, path, group)


def _group(file: str, path: Path, group: Mapping[str, Any]) -> Iterator[Finding]:
    parameters, template = group.get("rayStartParams") or {}, group["template"]
    twice = {"num-cpus", "num-gpus", "memory", "resources"} & parameters.keys()
    if twice and group.get("resources"):
        yield Finding(
            file,
            (*path, "resources"),
            f"is given beside rayStartParams {sorted(twice)}; KubeRay takes only one of them",
        )
    if "labels" in parameters:
        yield Finding(
            file,
            (*path, "rayStartParams", "labels"),
            "is refused by KubeRay; use the group's own field labels",
        )
    restart = template["spec"].get("restartPolicy", "Never")
    if restart != "Never":
        yield Finding(
            file,
            (*path, "template", "spec", "restartPolicy"),
            f"is {restart}; write Never or leave it out, autoscaler v2 replaces pods itself",
        )
    yield from _pods.check(file, (*path, "template"), template)


def _one_image(file: str, path: Path, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Head and workers must run one Ray, one torch and one lorastyle."""
    image = ("template", "spec", "containers", 0, "image")
    head = at(spec["headGroupSpec"], image)
    for index, group in enumerate(spec.get("workerGroupSpecs", [])):
        if at(group, image) != head:
            yield Finding(
                file,
                (*path, "workerGroupSpecs", index, *image),
                f"is {at(group, image)!r}, the head's {head!r}; use one image for all",
            )


def _priorities(file: str, path: Path, groups: list[Any]) -> Iterator[Finding]:
    """Ray looks at the fit before the priority: groups of unlike size are never ranked by it."""
    limits: Path = ("template", "spec", "containers", 0, "resources", "limits")
    ranked = [(index, each) for index, each in enumerate(groups) if each.get("priority")]
    if not ranked:
        return
    first = at(ranked[0][1], limits)
    for index, group in enumerate(groups):
        if _pods.gpus(group["template"]) and at(group, limits) != first:
            yield Finding(
                file,
                (*path, "workerGroupSpecs", index, *limits),
                f"are {shown(at(group, limits))}, those of the group with priority {shown(first)}; "
                "make them the same, or the priority decides nothing",
            )
