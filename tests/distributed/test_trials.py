"""Trials, without Ray: what one leaves, and what is shown of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorastyle.distributed import trials as module
from lorastyle.distributed.trials import Trials, _Watcher
from lorastyle.evaluation.swept import TRAINED, SweptSetting
from lorastyle.places.place import place_of

SETTINGS = [SweptSetting("delta", name, 2, TRAINED, True) for name in ("full", "up", "mid")]


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path / "run", place_of(tmp_path / "scores"), SETTINGS)


def leave(trials: Trials, number: int, **largest: float) -> None:
    import json

    found = {"key": trials.settings[number].key, "share": 1.0, "curves": {}, "largest": largest}
    trials.scores.write(trials.file(number), [json.dumps(found).encode()])


def test_what_an_earlier_attempt_finished_is_read_not_computed(trials: Trials) -> None:
    leave(trials, 1, map=0.5)
    assert trials.finished() == [1]
    # There is no run: computing would fail.
    assert trials.carry_out(1) == {"map": 0.5}
    assert trials.read(0) is None


def test_other_files_are_no_trials(trials: Trials) -> None:
    trials.scores.write("test-clustering-abc.json", [b"{}"])
    assert trials.finished() == []


class Bar:
    def __init__(self) -> None:
        self.n, self.text = 0, ""

    def advance(self, n: int = 1) -> None:
        self.n += n

    def note(self, text: str) -> None:
        self.text = text

    def say(self, text: str) -> None:
        raise AssertionError


def test_the_line_says_how_many_the_best_so_far_and_how_long(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    leave(trials, 2, map=0.25, ari=0.5, nmi=0.9)
    bar: Any = Bar()
    watcher = _Watcher(trials, bar, begun=now)
    watcher.look()
    # One was done before: nothing is known yet of how long one takes.
    assert (bar.n, bar.text) == (1, "ARI 0.500 delta/mid, mAP 0.250 delta/mid")
    now = 130.0
    leave(trials, 0, map=0.75, ari=0.25)
    watcher.look()
    assert (bar.n, bar.text) == (2, "ARI 0.500 delta/mid, mAP 0.750 delta/full, 30.0 s left")
    leave(trials, 1, map=0.1)
    watcher.look()
    assert bar.n == 3
    assert "left" not in bar.text
