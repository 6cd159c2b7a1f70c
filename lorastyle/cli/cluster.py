"""`lorastyle cluster local`: a Ray cluster on this machine, in the foreground."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond, say

if TYPE_CHECKING:
    from lorastyle.distributed.local_cluster import LocalCluster

_LOOK_EVERY_S = 2.0


@click.group(
    name="cluster",
    epilog="`lorastyle cluster VERB --help` explains a verb; each takes --json and --debug.",
)
def command() -> None:
    """Clusters to try things on; `cluster/README.md` is about rented ones."""


@command.command(name="local")
@click.option("--nodes", type=click.IntRange(1), default=3, show_default=True, help="At most.")
@click.option("--gpus-per-node", type=click.IntRange(0), default=1, show_default=True, help="Fake.")
@click.option("--cpus-per-node", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--idle-s",
    type=click.FloatRange(min=1),
    default=10,
    show_default=True,
    help="An unused node goes after so long.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where its directory is made and left, with Ray's logs. A short path.",
)
@click.option("--no-auth", is_flag=True, help="No token: everybody on this machine may use it.")
@answer_options
def local(as_json: bool, debug: bool, no_auth: bool, **shape: Any) -> None:
    """Start a Ray cluster on this machine, with autoscaling, until Ctrl-C.

    Its nodes are processes and its GPUs are numbers: work that asks for GPUs makes nodes appear,
    and they go when it is done. To try what a rented cluster would do; nothing gets faster by it.
    """
    # `respond` puts stdout aside until the end; this answer is wanted while the cluster is up.
    answer = os.dup(1)

    def body() -> Answer:
        from lorastyle.distributed.local_cluster import LocalCluster

        say("starting Ray: some 10 s")
        with _terminated_like_interrupted(), LocalCluster(token=not no_auth, **shape) as cluster:
            text = json.dumps(_document(cluster)) if as_json else _how_to_use(cluster)
            os.write(answer, f"{text}\n".encode())
            _watch(cluster)
        say("the cluster is gone, with all of its processes")
        raise SystemExit(0)

    respond(body, as_json=as_json, debug=debug)


def _document(cluster: LocalCluster) -> dict[str, Any]:
    return {
        "address": cluster.address,
        "jobs_url": cluster.jobs_url,
        "environment": cluster.client_variables,
        "logs": str(cluster.logs),
        "pid": os.getpid(),
    }


def _how_to_use(cluster: LocalCluster) -> str:
    exports = {**cluster.client_variables, "RAY_API_SERVER_ADDRESS": cluster.jobs_url}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    shape = cluster.shape
    # A cluster does not tell what it could grow to.
    wanted = f"compute.n_actors={shape.nodes * (shape.gpus_per_node or shape.cpus_per_node)}"
    if shape.gpus_per_node:
        wanted += " compute.gpus_per_actor=1"
    return "\n".join(
        [
            f"A Ray cluster is up at {cluster.address}, its job server and dashboard at "
            f"{cluster.jobs_url}.",
            "In another terminal:",
            *(f"  {line}" for line in lines),
            f"  lorastyle submit run --config configs/demo.yaml --run $PWD/runs/demo {wanted}",
            f"Ray's logs are in {cluster.logs}. Ctrl-C ends it all.",
        ]
    )


def _watch(cluster: LocalCluster) -> None:
    """Until interrupted: say when nodes come and go. Raises ClusterError if the cluster breaks."""
    n_before = 0
    try:
        while True:
            n_nodes = len(cluster.workers())
            if n_nodes != n_before:
                say(f"{n_nodes} of {cluster.shape.nodes} nodes up")
            n_before = n_nodes
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        say("ending the cluster")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the cluster as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
