"""`lorastyle serve`: search as a page and an API."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond, say
from lorastyle.cli.opening import RUN
from lorastyle.errors import ConfigError

TOKEN_VARIABLE = "LORASTYLE_TOKEN"


@click.command(name="serve")
@click.argument("target", type=RUN, metavar="RUN")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one."
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Ask for the token in this file; else for {TOKEN_VARIABLE}, where it is set. Needed "
    "where others can reach the address.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="A host name that requests may use; may be repeated. Default: any, on loopback its own.",
)
@click.option("--max-upload-mib", type=click.IntRange(1, 8192), default=256, show_default=True)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes on this machine, each with the gallery in memory: one a core for many clients.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Files that a process works on at the same time. Default: as many as there are cores.",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Uploads at the same time; others are told to come again.",
)
@click.option("--time-limit-s", type=click.FloatRange(min=0.1), default=60.0, show_default=True)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    help="Serve with Ray Serve, by so many replicas, on the cluster of RAY_ADDRESS or here.",
)
@answer_options
def command(
    target: Path | str,
    host: str,
    port: int,
    token_file: Path | None,
    names: tuple[str, ...],
    max_upload_mib: int,
    processes: int,
    workers: int | None,
    at_once: int,
    time_limit_s: float,
    replicas: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Search a run from a browser, or from programs.

    A page takes a LoRA file and shows its format, whose style it has, its neighbours and where
    it falls on the map. POST /search, /compare and /inspect answer the same as JSON, described
    in /openapi.json. Ends with Ctrl-C, when what is under way is finished.
    """

    def body() -> Answer:
        from lorastyle.serving.settings import (
            ServingSettings,
            check_access,
            hosts_for,
            workers_for,
        )

        token = read_token(token_file)
        check_access(host, token)
        settings = ServingSettings(
            max_upload_bytes=max_upload_mib << 20,
            work_s=time_limit_s,
            n_workers=workers or workers_for(processes),
            n_at_once=at_once,
            token=token,
            hosts=hosts_for(host, names),
        )
        document: dict[str, Any] = {"run": str(target), "host": host, "replicas": replicas}
        if replicas is not None and processes > 1:
            raise ConfigError(
                f"--processes {processes} is for this machine alone, --replicas {replicas} for a "
                "cluster; give one of the two"
            )
        if replicas is not None:
            from lorastyle.distributed.serving import serve_replicas

            # On other machines, and in processes of another directory, it must mean the same.
            place = target if isinstance(target, str) else str(target.absolute())
            serve_replicas(place, settings, host, port, replicas, _listening)
            return Answer(document, "ended")
        from lorastyle.serving.app import open_app
        from lorastyle.serving.processes import serve
        from lorastyle.serving.server import listen

        with listen(host, port) as listening:
            serve(partial(open_app, target, settings), listening, processes, _listening)
        return Answer(document, "ended")

    respond(body, as_json=as_json, debug=debug)


def read_token(file: Path | None) -> str | None:
    """The token, from a file or the environment. Never from the command line: others see it."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} holds no token that can be read: {error}") from error


def _listening(address: str) -> None:
    say(f"listening on {address}, Ctrl-C ends it")
