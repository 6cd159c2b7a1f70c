"""Trials of a sweep: what one does, where it leaves its scores, and how all of them come along."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorastyle.evaluation.swept import SweptSetting
from lorastyle.places.place import Place
from lorastyle.progress import Progress, progress
from lorastyle.report.words import duration
from lorastyle.runs import Run

POLL_S = 1.0
SHOWN = {"ari": "ARI", "map": "mAP"}
"""Objectives whose best so far is shown."""


@dataclass(frozen=True)
class Trials:
    """The settings of a grid, and the place where their scores lie. Cheap to pickle."""

    location: Path | str
    """Of the run."""
    scores: Place
    settings: Sequence[SweptSetting]

    def carry_out(self, number: int) -> dict[str, float]:
        """Score a setting, unless an earlier attempt has; the largest score of each objective."""
        found = self.read(number)
        if found is None:
            found = score_setting(Run.open(self.location), self.settings[number])
            content = json.dumps(found, indent=1, allow_nan=False).encode()
            self.scores.write(self.file(number), [content])
        return dict(found["largest"])

    def read(self, number: int) -> dict[str, Any] | None:
        """What a finished trial found, as `score_setting` returns it; None before."""
        content = self.scores.read(self.file(number))
        return None if content is None else dict(json.loads(content))

    def file(self, number: int) -> str:
        """Where a trial's scores lie. The grid never changes, so numbers are names."""
        return f"{number:05d}.json"

    def finished(self) -> list[int]:
        """The numbers of trials whose scores are there."""
        there = set(self.scores.names())
        return [number for number in range(len(self.settings)) if self.file(number) in there]


def score_setting(run: Run, setting: SweptSetting) -> dict[str, Any]:
    """The body of a trial: validation scores of one setting, as plain values.

    `{"key", "share", "curves": {FORM: [point, ...]}, "largest": {OBJECTIVE: score}}`; share (of d)
    is None where it is not known. The test adapters are not looked at.
    """
    from lorastyle.evaluation.chosen import grams_of
    from lorastyle.evaluation.selection import OBJECTIVES, evaluate_setting

    grams = grams_of(run, setting)
    found = evaluate_setting(grams, None, setting.embedded_as, setting.sub_network, run.experiment)
    points = [point for curve in found["curves"].values() for point in curve]
    scores = {
        name: [point[objective.column] for point in points if objective.column in point]
        for name, objective in OBJECTIVES.items()
    }
    share = grams.share(setting.sub_network)
    return {
        "key": setting.key,
        "share": None if math.isnan(share) else share,
        "curves": found["curves"],
        "largest": {name: max(values) for name, values in scores.items() if values},
    }


@contextmanager
def shown(trials: Trials) -> Iterator[None]:
    """Show how many trials are done, the best so far and how long the others will take."""
    with progress("sweep", len(trials.settings), "trials") as bar:
        watcher = _Watcher(trials, bar)
        watcher.look()
        stop = threading.Event()
        thread = threading.Thread(target=watcher.watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@dataclass
class _Watcher:
    """Looks for scores that were not there before, wherever they come from."""

    trials: Trials
    bar: Progress
    begun: float = field(default_factory=time.monotonic)
    n_before: int | None = None
    """Trials that an earlier attempt had finished."""
    best: dict[str, tuple[float, str]] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def watch(self, stop: threading.Event) -> None:
        stopped = False
        while not stopped:
            stopped = stop.wait(POLL_S)
            self.look()

    def look(self) -> None:
        new = [number for number in self.trials.finished() if number not in self._seen]
        for number in new:
            self._take(self.trials.read(number) or {})
        self._seen.update(new)
        if self.n_before is None:
            self.n_before = len(new)
        if new:
            self.bar.note(self._text())
            self.bar.advance(len(new))

    def _take(self, found: Mapping[str, Any]) -> None:
        for name, score in found.get("largest", {}).items():
            if name not in self.best or score > self.best[name][0]:
                self.best[name] = score, found["key"]

    def _text(self) -> str:
        parts = [
            f"{title} {self.best[name][0]:.3f} {self.best[name][1]}"
            for name, title in SHOWN.items()
            if name in self.best
        ]
        n_new = len(self._seen) - (self.n_before or 0)
        n_left = len(self.trials.settings) - len(self._seen)
        if n_new and n_left:
            seconds = (time.monotonic() - self.begun) / n_new * n_left
            parts.append(f"{duration(seconds)} left")
        return ", ".join(parts)
