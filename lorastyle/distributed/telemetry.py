"""What a fleet did, for people, for Prometheus, and for the log: `Telemetry` is a `Watch`.

a line or a bar    done/total, adapters an hour, time left, actors, failures, cost
metrics            lorastyle_* through ray.util.metrics, on the cluster's metrics ports
logs/*.jsonl       every event, with the adapters' ids
a summary          the same sums at the end, as text and as JSON
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from lorastyle.distributed.metrics import FleetMetrics
from lorastyle.distributed.tally import Tally
from lorastyle.distributed.watch import Loss, Watch
from lorastyle.distributed.work import Done, Task
from lorastyle.progress import Progress
from lorastyle.report.words import duration

BRIEF = 97
"""Characters of a reason in a line for people."""


class Telemetry(Watch[Task]):
    """Shows, counts and records. `counted` are the rows that were missing at the start."""

    def __init__(
        self,
        counted: set[int],
        shown: Progress,
        *,
        log: Path | None = None,
        metrics: FleetMetrics | None = None,
        gpus_per_actor: float = 0.0,
        price_per_hour: float | None = None,
    ) -> None:
        self.tally = Tally(len(counted))
        self._counted, self._shown, self._log = counted, shown, log
        self._metrics, self._gpus, self._price = metrics, gpus_per_actor, price_per_hour
        self._begun: set[int] = set()
        self._start = time.monotonic()

    def hired(self, worker: str) -> None:
        self.tally.pending.add(worker)
        self._write("hired", worker)

    def ready(self, worker: str, facts: Mapping[str, Any]) -> None:
        self.tally.ready(worker)
        self._write("ready", worker, **facts)

    def assigned(self, worker: str, items: Sequence[Task], *, duplicate: bool) -> None:
        rows = {task.spec.row for task in items}
        self.tally.n_repeated += len(rows & self._begun)
        self._begun |= rows
        self._write("assigned", worker, adapters=_ids(items), duplicate=duplicate)

    def delivered(self, worker: str, items: Sequence[Task], result: Any) -> None:
        self._write("delivered", worker, adapters=_ids(items))

    def failed(self, worker: str, reason: str) -> None:
        self._write("failed", worker, reason=reason)
        self._shown.say(f"train: a stack of {worker} failed ({brief(reason)}); it is tried again")

    def lost(self, worker: str, loss: Loss, reason: str) -> None:
        self.tally.lost(worker, loss)
        self._write("lost", worker, loss=str(loss), reason=reason)
        if loss is not Loss.SURPLUS:
            self._shown.say(f"train: {worker} lost ({loss}, {brief(reason)}); others take over")

    def gave_up(self, item: Task, reason: str) -> None:
        self._write("gave_up", None, adapters=_ids([item]), reason=reason)
        self._shown.say(f"train: adapter {item.spec.adapter_id} given up: {reason}")

    def count(self, dones: Sequence[Done]) -> None:
        """These adapters are done, one way or another."""
        new = [done for done in dones if done.row in self._counted]
        self.tally.statuses.update(done.status for done in new)
        for done in new:
            self._write("done", None, adapters=[done.adapter_id], status=done.status)
        self._show(len(new))

    def tick(self) -> None:
        self._show(0)

    def _show(self, n: int) -> None:
        self._shown.note(self.line())
        self._shown.advance(n)
        if self._metrics is not None:
            self._metrics.update(self.tally, self._gpus, self.cost())

    def line(self) -> str:
        """How it goes: pace, time left, actors, failures, cost."""
        tally = self.tally
        rate, left_s, cost = tally.per_hour(), tally.left_s(), self.cost()
        each, what = (self._gpus, "GPU") if self._gpus else (1.0, "actor")
        parts = [
            "" if rate is None else f"{rate:,.0f} an hour",
            "" if left_s is None or tally.n_done >= tally.total else f"{duration(left_s)} left",
            _counted(each * len(tally.live), what, "live"),
            _counted(each * len(tally.pending), what, "pending"),
            f"{tally.n_unusable} unusable" if tally.n_unusable else "",
            _counted(tally.n_machines_lost, "actor", "lost"),
            "" if cost is None else f"cost {cost:,.2f}",
        ]
        return ", ".join(part for part in parts if part)

    def cost(self) -> float | None:
        """What the actors' time has cost, if a price is known."""
        return None if self._price is None else self._price * self.tally.actor_hours()

    def summary(self) -> dict[str, Any]:
        """The sums of the whole."""
        tally = self.tally
        return {
            "n_adapters": tally.n_done,
            "by_status": dict(sorted(tally.statuses.items())),
            "n_repeated": tally.n_repeated,
            "losses": {str(loss): n for loss, n in sorted(tally.losses.items())},
            "wall_s": round(time.monotonic() - self._start, 1),
            "actor_hours": round(tally.actor_hours(), 4),
            "adapters_per_hour": round(tally.per_hour() or 0.0, 1),
            "cost": self.cost(),
        }

    def finish(self) -> None:
        """Write the summary to the log, and say it."""
        summary = self.summary()
        self._write("summary", None, **summary)
        self._shown.say(
            f"train: {summary['n_adapters']} adapters in {duration(summary['wall_s'])}"
            f" ({self.line() or 'nothing to do'}); {summary['n_repeated']} begun again"
        )

    def _write(self, event: str, worker: str | None, **values: Any) -> None:
        if self._log is None:
            return
        line = {"at": round(time.time(), 3), "event": event, "worker": worker, **values}
        text = json.dumps({key: value for key, value in line.items() if value is not None})
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:  # a full disk: adapters are worth more than their log
            self._shown.say(f"train: {self._log} cannot be written ({error.strerror}); no more log")
            self._log = None


def _ids(tasks: Sequence[Task]) -> list[str]:
    return [task.spec.adapter_id for task in tasks]


def brief(reason: str) -> str:
    """As much of a reason as a line for people has room for; the log has all of it.

    >>> brief("NodeDiedError: " + "it is gone " * 20)
    'NodeDiedError: it is gone it is gone it is gone it is gone it is gone it is gone it is gone...'
    """
    return shorten(reason, BRIEF, placeholder="...")


def _counted(n: float, what: str, state: str) -> str:
    return f"{n:g} {what}{'' if n == 1 else 's'} {state}" if n else ""
