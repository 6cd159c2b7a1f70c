"""Rules for a RayJob: it stays on its head, it is tried again, and it leaves nothing behind."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from cluster._finding import Finding, at, shown

_ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
_ENDS_THE_CLUSTER = {"DeleteCluster", "DeleteSelf"}
_JOB = re.compile(r"python -m jobs\.(\w+)")


def check(file: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings for a RayJobSpec, its cluster aside."""
    if ("rayClusterSpec" in spec) == bool(spec.get("clusterSelector")):
        yield Finding(
            file, ("spec",), "needs either rayClusterSpec or clusterSelector, and not both"
        )
    yield from _entrypoint(file, spec)
    yield from _submission(file, spec)
    yield from _bounds(file, spec)
    if not spec.get("clusterSelector"):
        yield from _ending(file, spec)


def _entrypoint(file: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    entrypoint = spec.get("entrypoint", "")
    if not _JOB.search(entrypoint) and spec.get("submissionMode") != "InteractiveMode":
        yield Finding(
            file,
            ("spec", "entrypoint"),
            f"is {shown(entrypoint)}; run one of ours: python -m jobs.NAME --config ... --run ...",
        )
    for field in ("entrypointNumCpus", "entrypointNumGpus", "entrypointResources"):
        if spec.get(field):
            yield Finding(
                file,
                ("spec", field),
                f"is {shown(spec[field])}; take it out, or the driver leaves the head for a "
                "machine that may be reclaimed",
            )
    try:
        yaml.safe_load(spec.get("runtimeEnvYAML", ""))
    except yaml.YAMLError:
        yield Finding(file, ("spec", "runtimeEnvYAML"), "is no YAML; correct it")


def _submission(file: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    mode = spec.get("submissionMode", "K8sJobMode")
    for field in ("submitterConfig", "submitterPodTemplate"):
        if mode != "K8sJobMode" and field in spec:
            yield Finding(
                file,
                ("spec", field),
                f"has no use with submissionMode {mode}; take it out or use K8sJobMode",
            )
    if mode == "InteractiveMode" and spec.get("backoffLimit"):
        yield Finding(
            file, ("spec", "backoffLimit"), "is refused with InteractiveMode; take one of them out"
        )
    if mode == "SidecarMode" and spec.get("clusterSelector"):
        yield Finding(
            file, ("spec", "submissionMode"), "is refused with clusterSelector; use K8sJobMode"
        )


def _bounds(file: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    if spec.get("backoffLimit", 0) < 0:
        yield Finding(
            file, ("spec", "backoffLimit"), f"is {spec['backoffLimit']}; use 0 or more attempts"
        )
    if spec.get("backoffLimit") and spec.get("clusterSelector"):
        yield Finding(
            file, ("spec", "backoffLimit"), "is refused with clusterSelector; take it out"
        )
    if spec.get("activeDeadlineSeconds", 0) <= 0:
        yield Finding(
            file,
            ("spec", "activeDeadlineSeconds"),
            f"is {spec.get('activeDeadlineSeconds', 'missing')}; bound what the job can cost",
        )
    if spec.get("preRunningDeadlineSeconds", 1) <= 0:
        yield Finding(
            file,
            ("spec", "preRunningDeadlineSeconds"),
            f"is {spec['preRunningDeadlineSeconds']}; use more than 0 seconds",
        )


def _ending(file: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """What becomes of the cluster: exactly one of two ways, and one that covers every end."""
    strategy, shutdown = spec.get("deletionStrategy"), spec.get("shutdownAfterJobFinishes")
    ttl = spec.get("ttlSecondsAfterFinished", 0)
    if ttl < 0 or (ttl and not shutdown):
        yield Finding(
            file,
            ("spec", "ttlSecondsAfterFinished"),
            f"is {ttl}; it goes with shutdownAfterJobFinishes: true alone, and is not negative",
        )
    if spec.get("suspend") and not shutdown:
        yield Finding(
            file, ("spec", "suspend"), "needs shutdownAfterJobFinishes: true; KubeRay refuses it"
        )
    if strategy is None and not shutdown:
        yield Finding(
            file,
            ("spec", "shutdownAfterJobFinishes"),
            "is not true, and there is no deletionStrategy: the cluster would stay; write true",
        )
    if strategy is not None:
        yield from _strategy(file, strategy, bool(shutdown), spec)


def _strategy(
    file: str, strategy: Mapping[str, Any], shutdown: bool, spec: Mapping[str, Any]
) -> Iterator[Finding]:
    path = ("spec", "deletionStrategy")
    rules = strategy.get("deletionRules") or []
    if not rules:
        yield Finding(
            file, (*path, "deletionRules"), "is missing; onSuccess and onFailure are going away"
        )
        return
    if shutdown:
        yield Finding(
            file,
            (*path, "deletionRules"),
            "excludes shutdownAfterJobFinishes; take one of them out",
        )
    if {"onSuccess", "onFailure"} & strategy.keys():
        yield Finding(file, path, "mixes deletionRules with onSuccess or onFailure; keep the rules")
    yield from _rules(file, rules, bool(at(spec, ("rayClusterSpec", "enableInTreeAutoscaling"))))
    yield from _coverage(file, rules)


def _rules(file: str, rules: list[Mapping[str, Any]], autoscaling: bool) -> Iterator[Finding]:
    path = ("spec", "deletionStrategy", "deletionRules")
    seen: dict[tuple[str, str], int] = {}
    for index, rule in enumerate(rules):
        condition, policy = rule["condition"], rule["policy"]
        statuses = [
            f"{name} {condition[name]}"
            for name in ("jobStatus", "jobDeploymentStatus")
            if name in condition
        ]
        if len(statuses) != 1:
            yield Finding(
                file,
                (*path, index, "condition"),
                "needs exactly one of jobStatus and jobDeploymentStatus",
            )
            continue
        if policy == "DeleteWorkers" and autoscaling:
            yield Finding(
                file,
                (*path, index, "policy"),
                "is DeleteWorkers, which KubeRay refuses with autoscaling; idle workers go anyway",
            )
        if (statuses[0], policy) in seen:
            yield Finding(
                file, (*path, index), f"repeats {policy} for {statuses[0]}; keep one of them"
            )
        seen[statuses[0], policy] = condition.get("ttlSeconds", 0)
    yield from _order(file, seen)


def _order(file: str, seen: Mapping[tuple[str, str], int]) -> Iterator[Finding]:
    for status in sorted({status for status, _ in seen}):
        times = [(seen[status, policy], policy) for policy in _ORDER if (status, policy) in seen]
        for (early, first), (late, second) in itertools.pairwise(times):
            if late < early:
                yield Finding(
                    file,
                    ("spec", "deletionStrategy", "deletionRules"),
                    f"have {second} after {late} s and {first} after {early} s for {status}; what "
                    "takes more away must come later",
                )


def _coverage(file: str, rules: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """No rule for an end means a cluster that stays when that end comes."""
    ended = {
        rule["condition"].get("jobStatus") for rule in rules if rule["policy"] in _ENDS_THE_CLUSTER
    }
    for status in ("SUCCEEDED", "FAILED"):
        if status not in ended:
            yield Finding(
                file,
                ("spec", "deletionStrategy", "deletionRules"),
                f"have no DeleteCluster for {status}; add one, or the head stays and costs",
            )
