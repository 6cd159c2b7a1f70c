"""All contestants in turn, round after round, within a limit of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.train_throughput.processes import Crew, Failure
from benchmarks.train_throughput.records import Contestant, Entry, Measured, Timing

COMPILE_S = 90.0
"""What compiling is expected to take before any has been seen."""
PATIENCE = 4.0
"""A measurement that takes so many times what is expected, and a minute, is stopped."""


@dataclass
class Contest:
    """Measures in rounds, every second one backwards: what a noisy neighbour takes, all give."""

    crews: Sequence[Crew]
    timing: Timing
    n_rounds: int
    deadline: float
    """Of `clock`; nothing is begun that is not expected to end by then."""
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    measured: dict[Entry, list[list[Measured]]] = field(default_factory=dict)
    """By entry, its rounds; of each round all processes."""
    missing: dict[Entry, str] = field(default_factory=dict)
    """Why an entry was not measured, or not in all rounds."""
    _too_large: list[Entry] = field(default_factory=list)
    _taken: dict[Entry, float] = field(default_factory=dict)
    """Seconds of each entry's last round, compiling left out."""
    _compiled: list[float] = field(default_factory=list)
    """Seconds of the rounds in which something was compiled."""

    def run(self, contestants: Sequence[Contestant]) -> None:
        """Measure all that there is time for."""
        entries = [(each, crew) for each in contestants for crew in self.crews]
        for index in range(self.n_rounds):
            for contestant, crew in entries[:: -1 if index % 2 else 1]:
                entry = (contestant, crew.arrangement)
                if entry in self.missing:
                    continue
                if why := self._hopeless(entry):
                    self.missing[entry] = why
                else:
                    self._measure(entry, crew, f"round {index + 1}, {self._name(entry)}")

    def _measure(self, entry: Entry, crew: Crew, name: str) -> None:
        start = self.clock()
        patient = PATIENCE * self._expected(entry)
        limit_s = 60.0 + min(patient, max(0.0, self.deadline - start))
        try:
            found = crew.do("measuring:measure", entry[0], self.timing, limit_s=limit_s)
        except Failure as failure:
            self.missing[entry] = str(failure)
            if failure.is_memory:
                self._too_large.append(entry)
            self.say(f"{name}: {failure}")
            return
        self._taken[entry] = self.clock() - start
        if entry[0].compiled and entry not in self.measured:
            self._compiled.append(self._taken[entry])
            self._taken[entry] = 2 * self.timing.seconds  # the next time it is compiled already
        self.measured.setdefault(entry, []).append(found)
        self.say(f"{name}: {sum(each.samples_per_s for each in found):,.1f} samples/s")

    def _expected(self, entry: Entry) -> float:
        """Seconds that the next round of it will take."""
        if entry in self._taken:
            return self._taken[entry]
        return max(self._compiled, default=COMPILE_S) if entry[0].compiled else self.timing.seconds

    def _hopeless(self, entry: Entry) -> str:
        """Why it cannot be measured; empty where it can."""
        for other, arrangement in self._too_large:
            if arrangement == entry[1] and entry[0].outgrows(other):
                return f"larger than {other.name}, which is out of memory"
        needed = self._expected(entry)
        if entry not in self._taken:
            # What is measured already comes first: it is to have all its rounds.
            needed += (self.n_rounds - 1) * sum(self._taken.values())
        return "no time left" if self.clock() + needed > self.deadline else ""

    @staticmethod
    def _name(entry: Entry) -> str:
        return f"{entry[0].name}, {entry[1].name} threads"
