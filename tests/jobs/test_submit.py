"""`lorastyle submit` against a real job server, from another process, as an operator would."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.distributed.submission import run_key
from tests.jobs.conftest import REPOSITORY, Submitter

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(300)]

LINES = [f"line {number}." for number in range(25)] + ["the last line."]


def train(run: Path) -> list[str | Path]:
    return ["train", "--config", "tiny.yaml", "--run", run]


def lines_once(log: str) -> bool:
    return all(len(re.findall(re.escape(line), log)) == 1 for line in LINES)


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def attempts(submit: Submitter, run: Path) -> list[dict[str, Any]]:
    done = submit("train", "--run", run, "--status", "--json")
    return list(json.loads(done.stdout)["attempts"])


def read_until(text: str, process: subprocess.Popen[str]) -> list[str]:
    """The lines of its log up to the one with `text`."""
    assert process.stderr is not None
    lines = []
    while not lines or text not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    return lines


def rest_of(process: subprocess.Popen[str]) -> str:
    """What else is in its log, once it has ended; `communicate` would miss what is buffered."""
    assert process.stderr is not None
    rest = process.stderr.read()
    process.communicate(timeout=30)
    return rest


def python(cluster: LocalCluster, code: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, cluster.jobs_url, *arguments],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_failed_job_gives_its_own_exit_status_and_the_next_attempt_its_own(
    stand_in: Submitter, run: Path
) -> None:
    (run / "exit").write_text("7")
    failed = stand_in(*train(run), "--json")
    assert failed.returncode == 7 and lines_once(failed.stderr)
    document = json.loads(failed.stdout)
    assert document["submission_id"] == f"{run_key(str(run))}-a1"
    assert (document["status"], document["exit_code"]) == ("FAILED", 7)
    (run / "exit").write_text("0")
    assert stand_in(*train(run)).returncode == 0
    assert [(one["submission_id"][-3:], one["exit_code"]) for one in attempts(stand_in, run)] == [
        ("-a1", 7),
        ("-a2", 0),
    ]


def test_of_two_who_submit_at_once_one_starts_the_attempt_and_the_other_joins_it(
    stand_in: Submitter, run: Path
) -> None:
    (run / "go").unlink()
    both = [stand_in.start(*train(run)) for _ in range(2)]
    wait_for(lambda: len(attempts(stand_in, run)) == 1)
    other = stand_in("plan", "--config", "tiny.yaml", "--run", run)
    assert other.returncode == 1 and "works on this run with another command" in other.stderr
    (run / "go").touch()
    logs = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(lines_once(log) for log in logs)
    assert len(attempts(stand_in, run)) == 1
    assert sorted(re.findall(r"^(submitted|joined)", "\n".join(logs), re.M)) == [
        "joined",
        "submitted",
    ]


def test_an_attempt_that_the_list_did_not_show_yet_is_joined(
    stand_in: Submitter, run: Path
) -> None:
    assert stand_in(*train(run)).returncode == 0
    code = """
import pathlib, sys
from lorastyle.distributed.jobs_client import Jobs
from lorastyle.distributed.submission import submit, work_of
from lorastyle.errors import ClusterError
class Late(Jobs):
    def attempts(self, key):
        return []
checkout, run = map(pathlib.Path, sys.argv[2:])
for job in ("train", "plan"):
    work = work_of(job, checkout / "tiny.yaml", run, [], checkout)
    try:
        attempt, started = submit(Late(sys.argv[1]), work, checkout)
        print(attempt.number, started)
    except ClusterError as error:
        print("with another command" in str(error))
"""
    out = python(stand_in.cluster, code, stand_in.checkout, run)
    assert out.split() == ["1", "False", "True"]


def test_leaving_is_not_stopping_and_stopping_ends_all_who_follow(
    stand_in: Submitter, run: Path
) -> None:
    (run / "go").unlink()
    first = stand_in.start(*train(run))
    read_until("line 24.", first)
    first.send_signal(signal.SIGINT)
    rest = rest_of(first)
    assert first.returncode == 130 and "goes on without us" in rest and "--stop" in rest
    assert attempts(stand_in, run)[0]["status"] == "RUNNING"
    left = stand_in(*train(run), "--timeout-s", "0.5")
    assert left.returncode == 124 and "running" in left.stdout

    second = stand_in.start(*train(run))
    began = time.monotonic()
    stopped = stand_in("train", "--run", run, "--stop")
    assert stopped.returncode == 0 and "stopped" in stopped.stdout
    assert time.monotonic() - began < 30
    second.communicate(timeout=30)
    assert second.returncode == 143
    again = stand_in("train", "--run", run, "--stop")
    assert again.returncode == 0 and "no attempt" in again.stdout


def test_a_driver_that_waits_for_ray_ends_in_time_on_sigterm(stand_in: Submitter) -> None:
    code = """
import sys, time
import ray
from jobs._stopping import STOPPED, Stopped, stoppable
from lorastyle.distributed.session import Session
try:
    with stoppable(), Session() as session:
        session.start()
        print("connected", flush=True)
        ray.get(ray.remote(lambda: time.sleep(100)).remote())
except Stopped:
    print("cleaned up", ray.is_initialized())
    sys.exit(STOPPED)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=stand_in.cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "connected\n"
    time.sleep(0.5)
    process.terminate()
    # Ray's job server kills it after 3 s.
    assert process.communicate(timeout=3)[0] == "cleaned up False\n"
    assert process.returncode == 143


def test_a_connection_that_drops_neither_ends_the_following_nor_repeats_a_line(
    stand_in: Submitter, run: Path
) -> None:
    (run / "go").unlink()
    with forwarded(stand_in.cluster.jobs_url) as (url, cut):
        process = stand_in.start(*train(run), url=url)
        log = read_until("line 24.", process)
        assert cut() > 0
        (run / "more").touch()
        # Seen while the job runs: over another connection.
        log += read_until("more.", process)
        (run / "go").touch()
        log.append(rest_of(process))
    assert process.returncode == 0 and lines_once("".join(log))


def test_stopping_a_job_that_waits_for_a_machine_gives_up_in_time_and_says_what_it_leaves(
    stand_in: Submitter, run: Path
) -> None:
    code = """
import sys
from ray.job_submission import JobSubmissionClient
JobSubmissionClient(sys.argv[1]).submit_job(
    entrypoint="true", submission_id=sys.argv[2], entrypoint_resources={"never": 1}
)
"""
    python(stand_in.cluster, code, f"{run_key(str(run))}-a1")
    began = time.monotonic()
    stopped = stand_in("train", "--run", run, "--stop", "--timeout-s", "2")
    assert time.monotonic() - began < 20
    assert stopped.returncode == 1 and "is still PENDING after 2 s" in stopped.stderr


def test_without_the_clusters_token_the_job_server_refuses(
    stand_in: Submitter, run: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    refused = stand_in(*train(run), RAY_AUTH_TOKEN_PATH=None, RAY_AUTH_MODE="disabled")
    assert refused.returncode == 1 and "wants a token (401)" in refused.stderr
    refused = stand_in(*train(run), RAY_AUTH_TOKEN_PATH=str(wrong), RAY_AUTH_MODE=None)
    assert refused.returncode == 1 and "refuses this token (403)" in refused.stderr
    assert not attempts(stand_in, run)


def test_a_cluster_that_is_not_there_is_one_sentence(stand_in: Submitter, run: Path) -> None:
    done = stand_in(*train(run), url="http://127.0.0.1:9")
    assert done.returncode == 1 and "no job server answers at http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert stand_in(*train(run), url="127.0.0.1:9").returncode == 2


def test_the_whole_pipeline_as_a_submitted_job_and_then_a_stage(
    cluster: LocalCluster, checkout: Path, tmp_path: Path
) -> None:
    submit = Submitter(cluster, checkout)
    run, settings = tmp_path / "run", ("--config", "tiny.yaml")
    done = submit("run", *settings, "--run", run, "compute.n_actors=1")
    assert done.returncode == 0, done.stdout + done.stderr
    train_manifest = json.loads((run / "manifests" / "train.json").read_text())
    assert train_manifest["outputs"]["by_status"] == {"ok": 12}
    assert (run / "report" / "index.html").is_file()

    # The next job joins the same cluster and finds nothing to do.
    again = submit("train", *settings, "--run", run, "compute.n_actors=1")
    assert again.returncode == 0 and "train: was done already" in again.stderr

    ablated = submit("ablate", run, "initialisation", "--values", "shared,independent")
    assert ablated.returncode == 0, ablated.stdout + ablated.stderr
    levels = json.loads((run / "ablations" / "initialisation.json").read_text())["levels"]
    assert {level["value"] for level in levels} == {"shared", "independent"}
    assert "jobs.ablate" in attempts(submit, run)[-1]["entrypoint"]
    refused = submit("ablate", run, "images", "--values", "400")
    assert refused.returncode == 2 and "reserved_val" in refused.stderr

    failed = submit("train", *settings, "--run", tmp_path / "unplanned")
    assert failed.returncode == 1 and "no finished 'plan' stage" in failed.stderr


@contextmanager
def forwarded(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Another port for a server, and what cuts all its connections (and says how many)."""
    target = urlsplit(url)
    open_sockets: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((target.hostname, target.port))
                open_sockets.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    def cut() -> int:
        n_open = sum(one.fileno() >= 0 for one in open_sockets)
        while open_sockets:
            with suppress(OSError):
                open_sockets[-1].shutdown(socket.SHUT_RDWR)
            open_sockets.pop().close()
        return n_open

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.callback(cut)
        # Else `accept` sleeps on in the closed socket.
        stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", cut
