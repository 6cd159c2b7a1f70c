from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorastyle.distributed.tally import Tally
from lorastyle.distributed.telemetry import Telemetry
from lorastyle.distributed.watch import Loss
from lorastyle.distributed.work import Done
from tests.distributed.tasks import make_tasks


class Shown:
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        self.done, self.notes, self.lines = 0, [""], [""]

    def advance(self, n: int = 1) -> None:
        self.done += n

    def note(self, text: str) -> None:
        self.notes.append(text)

    def say(self, text: str) -> None:
        self.lines.append(text)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def done(*rows: int, status: str = "ok") -> list[Done]:
    return [Done(row, f"one-{row}", status) for row in rows]


def test_pace_and_time_left_count_from_the_first_actor_that_is_ready() -> None:
    clock = Clock()
    tally = Tally(total=30, clock=clock)
    tally.pending.add("actor-1")
    clock.now = 500.0  # until the machine is there
    tally.ready("actor-1")
    assert tally.per_hour() is None and tally.left_s() is None
    clock.now = 536.0
    tally.statuses.update({"ok": 10})
    assert tally.per_hour() == 1000.0 and tally.left_s() == 72.0


def test_actor_hours_are_those_between_ready_and_lost_of_each() -> None:
    clock = Clock()
    tally = Tally(total=1, clock=clock)
    tally.ready("actor-1")
    clock.now = 3600.0
    tally.ready("actor-2")
    tally.lost("actor-1", Loss.INFRASTRUCTURE)
    tally.lost("actor-3", Loss.SURPLUS)  # was never ready
    clock.now = 2 * 3600.0
    assert tally.actor_hours() == 2.0
    assert tally.n_machines_lost == 1


def test_a_line_says_pace_actors_failures_and_cost() -> None:
    shown, clock = Shown(), Clock()
    telemetry = Telemetry(set(range(8)), shown, gpus_per_actor=0.5, price_per_hour=3.0)
    telemetry.tally.clock = clock
    for number in range(3):
        telemetry.hired(f"actor-{number}")
    telemetry.ready("actor-0", {})
    telemetry.ready("actor-1", {})
    clock.now = 1800.0
    telemetry.lost("actor-1", Loss.INFRASTRUCTURE, "NodeDiedError: gone")
    telemetry.count([*done(0, 1, 2), *done(3, status="failed"), *done(99)])
    assert shown.done == 4  # row 99 was there before
    assert shown.notes[-1] == (
        "8 an hour, 30 min 0 s left, 0.5 GPUs live, 0.5 GPUs pending, 1 unusable, 1 actor lost, "
        "cost 3.00"
    )
    assert "actor-1 lost (infrastructure, NodeDiedError: gone)" in shown.lines[-1]


def test_the_log_holds_every_event_with_the_adapters_it_is_about(tmp_path: Path) -> None:
    log, shown = tmp_path / "logs" / "train.jsonl", Shown()
    telemetry = Telemetry({0, 1}, shown, log=log)
    tasks = make_tasks(2)
    telemetry.hired("actor-1")
    telemetry.ready("actor-1", {"node": "here", "pid": 7})
    telemetry.assigned("actor-1", tasks, duplicate=False)
    telemetry.lost("actor-1", Loss.OVERDUE, "no result after 9 s")
    telemetry.assigned("actor-2", tasks, duplicate=False)
    telemetry.delivered("actor-2", tasks, None)
    telemetry.count(done(0, 1))
    telemetry.gave_up(tasks[0], "ValueError: bad")
    telemetry.finish()
    written = events(log)
    assert [event["event"] for event in written] == [
        "hired", "ready", "assigned", "lost", "assigned", "delivered", "done", "done",
        "gave_up", "summary",
    ]  # fmt: skip
    assert written[1]["node"] == "here" and written[3]["loss"] == "overdue"
    assert written[2]["adapters"] == ["one-0", "one-1"] == written[4]["adapters"]
    summary = written[-1]
    assert summary["by_status"] == {"ok": 2} and summary["n_repeated"] == 2
    assert summary["losses"] == {"overdue": 1} and "cost" not in summary


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a directory should be")
    shown = Shown()
    telemetry = Telemetry({0}, shown, log=tmp_path / "logs" / "train.jsonl")
    telemetry.hired("actor-1")
    telemetry.count(done(0))
    assert shown.done == 1
    assert sum("cannot be written" in line for line in shown.lines) == 1
