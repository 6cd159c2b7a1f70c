"""Submitting a stage of a run to a cluster: one attempt at a time, whoever asks.

Attempts of a run are `NAME-DIGEST-a1`, `-a2`, ...: the digest tells runs of the same name in
different places apart. The job server takes an id once, so of two who submit at the same
moment one starts the attempt and the other joins it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorastyle.distributed.jobs_client import Attempt, Jobs, TakenError
from lorastyle.distributed.upload import inside, pack
from lorastyle.errors import ClusterError, ConfigError
from lorastyle.runs import STAGES

JOBS = (*STAGES, "run", "ablate")
"""What can be submitted: each is a module in `jobs/`."""

PENDING_NOTE = (
    "Ray stops a job only once it has started; it starts when the cluster has room, "
    "or fails by itself 15 minutes after it was submitted"
)


@dataclass(frozen=True)
class Work:
    """What is to be done: a job of `JOBS` for a run."""

    job: str
    config: str | None
    """In the checkout. None for what goes by the config that the run has."""
    run: str
    arguments: tuple[str, ...] = ()
    """What else the job is told."""

    @property
    def entrypoint(self) -> str:
        """The command, as a shell takes it."""
        place = [self.run] if self.config is None else ["--config", self.config, "--run", self.run]
        return shlex.join(["python", "-m", f"jobs.{self.job}", *place, *self.arguments])


def run_text(run: Path | str) -> str:
    """A run's place as every node will understand it. Raises ConfigError for a relative path."""
    if isinstance(run, Path) and not run.is_absolute():
        raise ConfigError(
            f"run '{run}' means another directory on each machine; give an absolute path that "
            f"every node sees ({run.absolute()}, if they share it), or s3://... or gs://..."
        )
    return str(run)


def run_key(run: str) -> str:
    """What the ids of a run's attempts begin with.

    >>> run_key("s3://bucket/runs/Art 2")
    'Art-2-4c441a04'
    """
    place = run.rstrip("/")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", place.rsplit("/", 1)[-1]).strip("-.")[:40]
    return f"{name or 'run'}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def work_of(
    job: str,
    config: Path,
    run: Path | str,
    overrides: Sequence[str],
    directory: Path,
    *,
    train_missing: bool = False,
) -> Work:
    """The work that a command line means. Raises ConfigError for what a job would refuse.

    With `train_missing`, `sweep` and `run` train adapters of other ranks too.
    """
    from lorastyle.config import load_experiment

    if train_missing and job not in ("sweep", "run"):
        raise ConfigError(f"--train-missing goes with the jobs sweep and run, not with {job}")
    place = run_text(run)
    options = ["--train-missing"] if train_missing else []
    work = Work(job, inside(config, directory), place, (*options, *overrides))
    load_experiment(config, overrides)
    return work


def ablation_of(
    run: Path | str,
    factor: str,
    *,
    values: str | None = None,
    representations: Sequence[str] = (),
    sub_network: str | None = None,
    n_draws: int | None = None,
) -> Work:
    """The ablation that a command line means. Raises ConfigError for what a job would refuse."""
    from lorastyle.ablation.factors import FACTORS

    if factor not in FACTORS:
        raise ConfigError(f"{factor!r} is no factor of a run; take one of {', '.join(FACTORS)}")
    if values is not None:
        values = ",".join(FACTORS[factor].read_values(values))
    options = [
        ("--values", values),
        *(("--representation", name) for name in representations),
        ("--subnetwork", sub_network),
        ("--draws", n_draws),
    ]
    told = [str(part) for option in options if option[1] is not None for part in option]
    return Work("ablate", None, run_text(run), (factor, *told))


def submit(jobs: Jobs, work: Work, directory: Path) -> tuple[Attempt, bool]:
    """Start the next attempt of a run, or join the one that is under way.

    Returns it, and whether it was started here. `directory` is the checkout to take along.
    Raises ClusterError if another command works on this run, or the checkout is too large.
    """
    key = run_key(work.run)
    known = jobs.attempts(key)
    for attempt in known:
        if not attempt.ended:
            return _joined(attempt, work), False
    submission_id = f"{key}-a{known[-1].number + 1 if known else 1}"
    with tempfile.TemporaryDirectory(prefix="lorastyle-upload-") as place:
        package = pack(directory, Path(place) / "checkout.zip")
        if work.config is not None and work.config not in package.names:
            raise ConfigError(f"{work.config} is kept out of the upload by .rayignore; move it")
        try:
            jobs.start(submission_id, work.entrypoint, package.path)
        except TakenError:
            return _joined(jobs.attempt(submission_id), work), False
    return jobs.attempt(submission_id), True


def active(jobs: Jobs, run: str) -> Attempt | None:
    """The attempt of a run that is under way, else the last one, else None."""
    known = jobs.attempts(run_key(run))
    under_way = [attempt for attempt in known if not attempt.ended]
    return next(iter([*under_way, *reversed(known)]), None)


def stop(jobs: Jobs, attempt: Attempt, timeout_s: float = 30.0) -> Attempt:
    """Stop an attempt, and wait for its end.

    Raises ClusterError if it has not ended after `timeout_s`; that says in which state it is.
    """
    if attempt.ended:
        return attempt
    jobs.stop(attempt.submission_id)
    deadline = time.monotonic() + timeout_s
    while not (now := jobs.attempt(attempt.submission_id)).ended:
        if time.monotonic() > deadline:
            note = f" ({PENDING_NOTE})" if now.status == "PENDING" else "; ask again"
            raise ClusterError(
                f"{now.submission_id} was told to stop and is still {now.status} after "
                f"{timeout_s:.0f} s{note}"
            )
        time.sleep(0.5)
    return now


def _joined(attempt: Attempt, work: Work) -> Attempt:
    if attempt.entrypoint != work.entrypoint:
        raise ClusterError(
            f"{attempt.submission_id} works on this run with another command "
            f"({attempt.entrypoint}) and is {attempt.status}; wait for it, or end it with --stop"
        )
    return attempt
