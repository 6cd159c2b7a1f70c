"""What every verb does with its result: stdout is the answer, all else goes to stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click

from lorastyle.errors import ConfigError, LorastyleError

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Answer:
    """What a verb found or did: a JSON document, and the same for people."""

    document: Mapping[str, Any]
    text: str


def answer_options(command: Command) -> Command:
    """The options that every verb has."""
    command = click.option("--debug", is_flag=True, help="Show the traceback of an error.")(command)
    return click.option(
        "--json", "as_json", is_flag=True, help="Put one JSON document on stdout, all else aside."
    )(command)


def respond(body: Callable[[], Answer], *, as_json: bool, debug: bool) -> None:
    """Run a verb and print its answer; an error becomes one sentence and an exit status.

    Status 0 done, 1 failed, 2 wrong use (130 interrupted, as shells have it).
    """
    try:
        with _stdout_aside():
            answer = body()
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped")
        raise SystemExit(INTERRUPTED) from None
    except click.UsageError:
        raise
    except Exception as error:
        _fail(error, as_json=as_json, debug=debug)
    click.echo(_json(answer.document) if as_json else answer.text)


def say(text: str) -> None:
    """A line for the person watching: stderr."""
    click.echo(text, err=True)


def _fail(error: Exception, *, as_json: bool, debug: bool) -> NoReturn:
    kind = type(error).__name__
    if isinstance(error, LorastyleError):
        sentence = str(error)
    else:
        message = " ".join(str(error).split()) or "no message"
        sentence = f"unexpected {kind}: {message}; --debug shows where"
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    say(f"{click.style('error:', fg='red', bold=True)} {sentence}")
    if as_json:
        click.echo(_json({"error": {"kind": kind, "message": sentence}}))
    raise SystemExit(WRONG_USE if isinstance(error, ConfigError) else FAILED)


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, allow_nan=False)


@contextmanager
def _stdout_aside() -> Iterator[None]:
    """Send what libraries print, and the processes they start, to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
