"""Files of `ray up`: Ray's own schema, then what that schema lets pass.

Ray takes any node_config, any image, any dashboard address and no token; it is content
with a head that does work and with machines that are never let go.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from cluster import _clouds, _commands, _common
from cluster._finding import Finding, Path, at, nearest, shown

PROVIDERS = ("aws", "gcp", "local")
_LONGEST_IDLE_MINUTES = 30


def check(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """All findings for one file of `ray up`."""
    kind = at(config, ("provider", "type"))
    if kind not in PROVIDERS:
        yield Finding(
            file, ("provider", "type"), f"is {shown(kind)}; choose {', '.join(PROVIDERS)}"
        )
        return
    schema = list(_ray_says(file, config))
    yield from schema
    if schema:  # what follows may assume that types are right
        return
    yield from _commands.start_commands(file, config)
    yield from _commands.authentication(file, config)
    yield from _images(file, config)
    yield from _idle(file, config)
    if kind != "local":
        yield from _node_types(file, config)
        yield from _clouds.check(file, config, kind)


def _ray_says(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """What `ray up` itself would say before it starts a machine."""
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    if problem := _too_broken(file, config):
        yield problem
        return
    # Ray fills defaults into what it is given, and prints before it raises.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            validate_config(prepare_config(copy.deepcopy(dict(config))))
            return
        except ValidationError as error:
            found = _schema_error(file, error)
        except Exception as error:  # Ray raises assertions and exceptions of many kinds here
            reason = " ".join(str(error).split()) or type(error).__name__
            found = Finding(file, (), f"is refused by Ray: {reason}")
    yield found


def _too_broken(file: str, config: Mapping[str, Any]) -> Finding | None:
    """Where Ray's own code would stumble before it reaches its schema."""
    types = config.get("available_node_types")
    if at(config, ("provider", "type")) == "local":
        for key in ("head_ip", "worker_ips"):
            if not at(config, ("provider", key)):
                return Finding(file, ("provider", key), "is missing; name the machines")
        return None
    if not isinstance(types, Mapping) or not types:
        return Finding(file, ("available_node_types",), "is missing; describe the machines")
    for name, node_type in types.items():
        if not isinstance(node_type, Mapping):
            return Finding(
                file, ("available_node_types", name), "is no mapping; describe the machine"
            )
    if not isinstance(config.get("max_workers", 0), int):
        return Finding(
            file, ("max_workers",), f"is {shown(config['max_workers'])}; write an integer"
        )
    return None


def _schema_error(file: str, error: Any) -> Finding:
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [name for name in error.instance if name not in known]
        return Finding(
            file, (*path, unknown[0]), f"is no field of Ray's; {nearest(unknown[0], known)}"
        )
    return Finding(file, path, f"is refused by Ray's schema: {error.message.splitlines()[0]}")


def _images(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    docker = config.get("docker") or {}
    if not docker:
        yield Finding(
            file, ("docker",), "is missing; machines must run the image of cluster/Dockerfile"
        )
        return
    named = [key for key in ("image", "head_image", "worker_image") if key in docker]
    for key in named or ["image"]:
        yield from _common.image(file, ("docker", key), docker.get(key))


def _idle(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    minutes = config.get("idle_timeout_minutes")
    if minutes is None:
        yield Finding(
            file, ("idle_timeout_minutes",), "is missing; say when idle machines go, as 5"
        )
    elif not 0 < minutes <= _LONGEST_IDLE_MINUTES:
        yield Finding(
            file,
            ("idle_timeout_minutes",),
            f"is {minutes}; choose more than 0 and at most {_LONGEST_IDLE_MINUTES}, or idle "
            "machines are paid for",
        )


def _node_types(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    types: Mapping[str, Any] = config["available_node_types"]
    head = config["head_node_type"]
    yield from _head(file, ("available_node_types", head), types[head])
    total = config.get("max_workers")
    if total is None:
        yield Finding(file, ("max_workers",), "is missing; bound what an hour can cost")
    for name, node_type in types.items():
        if name != head:
            yield from _workers(file, ("available_node_types", name), node_type, total)
    yield from _priorities(file, {name: each for name, each in types.items() if name != head})


def _head(file: str, path: Path, head: Mapping[str, Any]) -> Iterator[Finding]:
    for resource in ("CPU", "GPU"):
        offered = head["resources"].get(resource)
        if offered != 0:
            yield Finding(
                file,
                (*path, "resources", resource),
                f"is {offered if offered is not None else 'left to Ray'}; write 0, so that work "
                "stays off the machine of the driver",
            )


def _workers(
    file: str, path: Path, node_type: Mapping[str, Any], total: int | None
) -> Iterator[Finding]:
    least, most = node_type.get("min_workers", 0), node_type.get("max_workers")
    if least:
        yield Finding(
            file,
            (*path, "min_workers"),
            f"is {least}; write 0, or the cluster never scales down to its head",
        )
    if most is None:
        yield Finding(file, (*path, "max_workers"), "is missing; bound this kind of machine")
    elif most < least or (total is not None and most > total):
        yield Finding(
            file,
            (*path, "max_workers"),
            f"is {most}; choose between min_workers ({least}) and the whole cluster's "
            f"max_workers ({total})",
        )


def _priorities(file: str, types: Mapping[str, Any]) -> Iterator[Finding]:
    """Ray looks at the fit before the priority: kinds of unlike size are never ranked by it."""
    ranked = {name: each for name, each in types.items() if "priority" in each}
    sizes = {name: each["resources"] for name, each in ranked.items()}
    first = next(iter(sizes), None)
    for name, size in sizes.items():
        if first is not None and size != sizes[first]:
            yield Finding(
                file,
                ("available_node_types", name, "resources"),
                f"are {shown(size)}, those of {first!r} {shown(sizes[first])}; make them the same, "
                "or the priority between the two decides nothing",
            )
