"""The commands with which `ray up` starts Ray on a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster._finding import Finding, Path, at, option, shown

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
TOKEN_FILE = "/.ray/auth_token"


def start_commands(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Both lists are given, stop what ran before, and agree on the port."""
    lists = {"head": "head_start_ray_commands", "worker": "worker_start_ray_commands"}
    for kind, key in lists.items():
        commands = config.get(key)
        if not isinstance(commands, list) or not commands:
            yield Finding(
                file, (key,), f"is missing; give it, since Ray's default for the {kind} differs"
            )
            return
        yield from _stops_first(file, (key, 0), commands[0])
    head, worker = (_start(config, key) for key in lists.values())
    yield from _head_start(file, head)
    yield from _worker_start(file, worker, option(head, "--port"))


def _stops_first(file: str, path: Path, command: Any) -> Iterator[Finding]:
    if str(command).strip() not in {"ray stop", "ray stop --force"}:
        yield Finding(
            file,
            path,
            f"is {shown(command)}; begin with 'ray stop', or a second `ray up` leaves two "
            "Rays on the machine",
        )


def _start(config: Mapping[str, Any], key: str) -> str:
    """The command of the list that starts Ray, or nothing."""
    return next((text for text in map(str, config[key]) if "ray start" in text), "")


def _head_start(file: str, command: str) -> Iterator[Finding]:
    path: Path = ("head_start_ray_commands",)
    if "--head" not in command or "--autoscaling-config" not in command:
        yield Finding(
            file, path, "start no head with autoscaling; add --head and --autoscaling-config"
        )
    host = option(command, "--dashboard-host")
    if host is not None and host not in LOOPBACK:
        yield Finding(
            file,
            path,
            f"bind the dashboard to {host}, where others reach it; write "
            "--dashboard-host=127.0.0.1 and use `ray dashboard FILE`",
        )
    for resource in ("--num-cpus", "--num-gpus"):
        if option(command, resource) != "0":
            yield Finding(
                file,
                path,
                f"give {resource} {option(command, resource) or 'of the machine'} to work on the "
                f"head, where the driver lives; write {resource}=0",
            )


def _worker_start(file: str, command: str, port: str | None) -> Iterator[Finding]:
    expected = f"$RAY_HEAD_IP:{port or 6379}"
    if option(command, "--address") != expected:
        yield Finding(
            file,
            ("worker_start_ray_commands",),
            f"join {option(command, '--address')!r}; the head listens at --address={expected}",
        )


def authentication(file: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Every process of Ray asks for a token, and a token reaches every machine by a file."""
    options = " ".join(map(str, at(config, ("docker", "run_options"), [])))
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = " ".join(map(str, config.get(key) or []))
        if "RAY_AUTH_MODE=token" not in options + " " + commands:
            yield Finding(
                file,
                (key,),
                "start Ray without authentication; add '--env RAY_AUTH_MODE=token' to "
                "docker.run_options",
            )
    mounted = config.get("file_mounts") or {}
    own_place = "RAY_AUTH_TOKEN_PATH=" in options
    if not own_place and not any(str(remote).endswith(TOKEN_FILE) for remote in mounted):
        yield Finding(
            file,
            ("file_mounts",),
            "bring no token to the machines; mount ~/.ray/auth_token of this machine at "
            f"HOME{TOKEN_FILE}",
        )
