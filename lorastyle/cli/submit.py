"""`lorastyle submit`: stages of a run as a job on a Ray cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.ablate import ablation_options, check_options
from lorastyle.cli.answer import INTERRUPTED, Answer, answer_options, respond, say
from lorastyle.errors import ConfigError

if TYPE_CHECKING:
    from lorastyle.distributed.jobs_client import Attempt, Jobs
    from lorastyle.distributed.submission import Work

# As in lorastyle.distributed.submission, which `--help` need not load.
_JOBS = ("plan", "train", "embed", "sweep", "evaluate", "report", "run", "ablate")

_OF_ABLATE = {
    "values": "--values",
    "representations": "--representation",
    "sub_network": "--subnetwork",
    "n_draws": "--draws",
}
"""Options that only an ablation has."""

_STOP_S = 30.0

_LEFT = 124
"""Exit status when we left before the end, as of timeout(1)."""


@click.command(name="submit")
@click.argument("job", type=click.Choice(_JOBS), metavar="JOB")
@click.argument("words", nargs=-1, metavar="[key=value ... | RUN FACTOR]")
@click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    required=True,
    help="The cluster's job server, as in http://HOST:8265. Default: RAY_API_SERVER_ADDRESS.",
)
@click.option(
    "--run", "run", help="Where the run lies: an absolute path that all nodes see, or a URL."
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML of the experiment, in this checkout.",
)
@click.option(
    "--train-missing",
    is_flag=True,
    help="With sweep and run: train the adapters of ranks in sweep.ranks that are missing.",
)
@ablation_options("With ablate: ")
@click.option("--stop", is_flag=True, help="Stop the run's attempt that is under way.")
@click.option("--status", is_flag=True, help="Say how the run's attempts are doing.")
@click.option("--no-follow", is_flag=True, help="Leave once the job is submitted.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Leave the job to itself after so long, with status {_LEFT}; with --stop: give up "
    f"({_STOP_S:.0f} s).",
)
@answer_options
def command(as_json: bool, debug: bool, **chosen: Any) -> None:
    """Run JOB (plan, train, embed, sweep, evaluate, report, or run for all) on a Ray cluster.

    `submit ablate RUN FACTOR` is `lorastyle ablate RUN FACTOR` there, by the config that the run
    has. The other jobs take --run and --config.

    Called from a checkout, which the job takes along. The log is shown until the job has ended, and
    its exit status is this command's. An attempt of the same run that is under way is joined, not
    started again; after a failure the next attempt goes on where the last one stopped.
    Ctrl-C leaves the job running. The cluster's token is read from RAY_AUTH_TOKEN or from
    the file RAY_AUTH_TOKEN_PATH.
    """
    status = [0]

    def body() -> Answer:
        answer, status[0] = _carry_out(**chosen)
        return answer

    respond(body, as_json=as_json, debug=debug)
    raise SystemExit(status[0])


def _carry_out(
    job: str,
    words: tuple[str, ...],
    address: str,
    run: str | None,
    stop: bool,
    status: bool,
    no_follow: bool,
    timeout_s: float | None,
    **told: Any,
) -> tuple[Answer, int]:
    """What was asked for: an answer, and the exit status."""
    from lorastyle.distributed.jobs_client import Jobs
    from lorastyle.distributed.submission import run_text, submit
    from lorastyle.runs import location

    if run is None and job == "ablate":
        run, words = (words or [None])[0], words[1:]
    if run is None:
        raise click.UsageError("the run is missing: --run RUN, or ablate RUN FACTOR")
    place = location(run)
    if status:
        return _status(Jobs(address), run_text(place)), 0
    if stop:
        return _stop(Jobs(address), run_text(place), timeout_s or _STOP_S), 0
    work = _ablation(place, words, **told) if job == "ablate" else _job(job, place, words, **told)
    jobs = Jobs(address)
    attempt, started = submit(jobs, work, Path.cwd())
    say(f"{'submitted' if started else 'joined'} {attempt.submission_id}: {attempt.entrypoint}")
    if no_follow:
        return _answer(attempt, started=started), attempt.exit_code or 0
    return _follow(jobs, attempt, started, timeout_s)


def _job(
    job: str,
    place: Path | str,
    overrides: tuple[str, ...],
    *,
    config: Path | None,
    train_missing: bool,
    **ablation: Any,
) -> Work:
    from lorastyle.distributed.submission import work_of

    if given := [option for name, option in _OF_ABLATE.items() if ablation[name]]:
        raise click.UsageError(f"{given[0]} goes with ablate, not with {job}")
    if config is None:
        raise ConfigError("a job needs its experiment: --config configs/NAME.yaml")
    return work_of(job, config, place, overrides, Path.cwd(), train_missing=train_missing)


def _ablation(
    place: Path | str,
    words: tuple[str, ...],
    *,
    config: Path | None,
    train_missing: bool,
    **ablation: Any,
) -> Work:
    from lorastyle.distributed.submission import ablation_of

    if config is not None:
        raise click.UsageError("ablate goes by the config that the run has; leave --config out")
    if train_missing:
        raise click.UsageError("ablate trains what is missing; leave --train-missing out")
    if len(words) != 1:
        raise click.UsageError(f"ablate takes RUN and one FACTOR, and was given {len(words)}")
    check_options(words[0], ablation["sub_network"], ablation["n_draws"])
    return ablation_of(place, words[0], **ablation)


def _follow(
    jobs: Jobs, attempt: Attempt, started: bool, timeout_s: float | None
) -> tuple[Answer, int]:
    from lorastyle.distributed.following import follow

    again = shlex.join(["lorastyle", *sys.argv[1:]])
    try:
        now = follow(
            jobs,
            attempt.submission_id,
            lambda text: click.echo(text, nl=False, err=True),
            timeout_s=timeout_s,
        )
    except KeyboardInterrupt:
        say(f"\n{attempt.submission_id} goes on without us; to see it again: {again}")
        say(f"to stop it: {again} --stop")
        raise SystemExit(INTERRUPTED) from None
    if not now.ended:
        say(f"{attempt.submission_id} goes on without us; to see it again: {again}")
        return _answer(now, started=started), _LEFT
    return _answer(now, started=started), now.exit_code or 0


def _stop(jobs: Jobs, run: str, timeout_s: float) -> Answer:
    from lorastyle.distributed.submission import active, stop

    attempt = active(jobs, run)
    if attempt is None or attempt.ended:
        last = f"; the last, {attempt.submission_id}, {_state(attempt)}" if attempt else ""
        return Answer({"run": run, "stopped": None}, f"no attempt of {run} is under way{last}")
    now = stop(jobs, attempt, timeout_s)
    return Answer({"run": run, "stopped": now.submission_id}, f"{now.submission_id} {_state(now)}")


def _status(jobs: Jobs, run: str) -> Answer:
    from lorastyle.distributed.submission import run_key

    attempts = jobs.attempts(run_key(run))
    lines = [f"{one.submission_id}  {_state(one)}  {one.entrypoint}" for one in attempts]
    document = {"run": run, "attempts": [_document(one) for one in attempts]}
    return Answer(document, "\n".join(lines) or f"this cluster has seen no attempt of {run}")


def _answer(attempt: Attempt, *, started: bool) -> Answer:
    text = f"{attempt.submission_id} {_state(attempt)}"
    if attempt.exit_code:
        text += f" ({attempt.message})"
    return Answer({**_document(attempt), "started": started}, text)


def _document(attempt: Attempt) -> dict[str, Any]:
    return {
        "submission_id": attempt.submission_id,
        "status": attempt.status,
        "exit_code": attempt.exit_code,
        "entrypoint": attempt.entrypoint,
        "message": attempt.message,
    }


def _state(attempt: Attempt) -> str:
    code = f" with exit status {attempt.exit_code}" if attempt.exit_code else ""
    return f"{attempt.status.lower()}{code}"
