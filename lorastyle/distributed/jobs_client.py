"""`Jobs`: what we ask of a cluster's job server, each with a bound and its errors as sentences."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lorastyle.errors import ClusterError, ConfigError

ANSWER_S = 15.0
UPLOAD_S = 60.0
"""How long the server may be silent: when asked, and when given something."""

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""Ray's states that do not change any more; before them a job is PENDING, then RUNNING."""

_STOPPED_STATUS = 143  # as a shell has it after SIGTERM

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """A job of a run on a cluster, at one moment. `exit_code` is None until it has ended."""

    submission_id: str
    status: str
    entrypoint: str
    message: str
    exit_code: int | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def number(self) -> int:
        """N of the submission id `...-aN`; 0 where it has none."""
        found = re.search(r"-a(\d+)$", self.submission_id)
        return int(found[1]) if found else 0


class TakenError(ClusterError):
    """A submission id that another attempt has."""


class Jobs:
    """The job server of a cluster at `address` (`http://HOST:8265`).

    The token is Ray's: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, or `~/.ray/auth_token` with
    RAY_AUTH_MODE=token. Raises ConfigError for an address of another kind, ClusterError where
    none answers or the server refuses.
    """

    def __init__(self, address: str) -> None:
        if not re.match(r"https?://[^/]+/?$", address):
            raise ConfigError(
                f"{address!r} is no address of a job server; it looks like http://HOST:8265"
            )
        self.address = address.rstrip("/")
        _send_the_token()
        self._client = self._asked(lambda: _client(self.address))

    def attempts(self, key: str) -> list[Attempt]:
        """All attempts whose id is `key-aN`, by N."""
        listed = self._asked(self._client.list_jobs)
        ours = [
            _attempt(one)
            for one in listed
            if re.fullmatch(re.escape(key) + r"-a\d+", one.submission_id or "")
        ]
        return sorted(ours, key=lambda attempt: attempt.number)

    def attempt(self, submission_id: str) -> Attempt:
        """How an attempt is doing."""
        return _attempt(self._asked(lambda: self._client.get_job_info(submission_id)))

    def start(self, submission_id: str, entrypoint: str, package: Path) -> None:
        """Submit a job that runs in the packed directory. Raises TakenError if the id is taken.

        It asks for no resources: then Ray keeps the driver on the head, which outlives the nodes.
        """
        self._asked(
            lambda: self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission_id,
                runtime_env={"working_dir": str(package)},
            )
        )

    def stop(self, submission_id: str) -> None:
        """Ask for a job's end: SIGTERM, and SIGKILL 3 s later. Does not wait for it."""
        self._asked(lambda: self._client.stop_job(submission_id))

    def log(self, submission_id: str) -> str:
        """All that a job has written until now."""
        return str(self._asked(lambda: self._client.get_job_logs(submission_id)))

    def tail(self, submission_id: str) -> AsyncIterator[str]:
        """What a job has written, from the beginning, then what it writes. Raises anything."""
        stream: AsyncIterator[str] = self._client.tail_job_logs(submission_id)
        return stream

    def _asked(self, request: Callable[[], T]) -> T:
        import requests
        from ray.exceptions import AuthenticationError

        try:
            return request()
        except AuthenticationError as error:
            raise ClusterError(self._refusal(str(error))) from error
        except (ConnectionError, requests.exceptions.RequestException) as error:
            raise ClusterError(
                f"no job server answers at {self.address} ({type(error).__name__}); check that the "
                "cluster is up and that its port reaches this machine"
            ) from error
        except RuntimeError as error:
            if "already exists" in str(error):
                raise TakenError(f"the job server at {self.address} has that id already") from error
            last = str(error).rstrip(" .\n").splitlines()[-1][:300]
            raise ClusterError(f"the job server at {self.address} says: {last}") from error

    def _refusal(self, said: str) -> str:
        if said.startswith("Authentication failed"):
            return (
                f"the cluster at {self.address} refuses this token (403); "
                "RAY_AUTH_TOKEN_PATH must name the file with the cluster's own"
            )
        return (
            f"the cluster at {self.address} wants a token (401); put it into a file "
            "and set RAY_AUTH_TOKEN_PATH to that file's path"
        )


def _send_the_token() -> None:
    """Ray sends a token that it finds only if the mode says so; an explicit mode stands."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _client(address: str) -> Any:
    import logging

    from ray.job_submission import JobSubmissionClient

    # They tell of every package and connection, between the lines of the job's own log.
    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)

    class Bounded(JobSubmissionClient):  # type: ignore[misc]
        """Ray's client waits for an answer for ever."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            options.setdefault("timeout", ANSWER_S if method == "GET" else UPLOAD_S)
            return super()._do_request(method, endpoint, **options)

    return Bounded(address)


def _attempt(details: Any) -> Attempt:
    status = str(details.status)
    return Attempt(
        submission_id=details.submission_id,
        status=status,
        entrypoint=details.entrypoint,
        # Ray appends the end of the log.
        message=" ".join((details.message or "").split(", last available logs")[0].split()),
        exit_code=_exit_code(status, details.driver_exit_code),
    )


def _exit_code(status: str, reported: int | None) -> int | None:
    """The exit code as a shell would give it.

    >>> [_exit_code("FAILED", code) for code in (7, -9, None)]
    [7, 137, 1]
    >>> [_exit_code(status, None) for status in ("SUCCEEDED", "STOPPED", "RUNNING")]
    [0, 143, None]
    """
    if status not in ENDED:
        return None
    if reported is not None and (reported or status == "SUCCEEDED"):
        return 128 - reported if reported < 0 else reported
    return {"SUCCEEDED": 0, "STOPPED": _STOPPED_STATUS}.get(status, 1)
