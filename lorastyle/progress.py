"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never, Protocol

from tqdm import tqdm

LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Told how much is done."""

    def advance(self, n: int = 1) -> None:
        """`n` more items are done."""

    def note(self, text: str) -> None:
        """A few words beside the bar."""

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""


class Silent:
    """Shows nothing: the default of library functions."""

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None: ...

    def say(self, text: str) -> None: ...


class _Bar:
    def __init__(self, bar: tqdm[Never]) -> None:
        self._bar = bar

    def advance(self, n: int = 1) -> None:
        self._bar.update(n)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text)

    def say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)


class _Lines:
    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._note = 0, ""
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S or self._done >= self._total:
            self._last = now
            note = f", {self._note}" if self._note else ""
            elapsed = now - self._start
            print(
                f"{self._title}: {self._done}/{self._total} {self._unit} in {elapsed:.0f} s{note}",
                file=sys.stderr,
                flush=True,
            )

    def note(self, text: str) -> None:
        self._note = text

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Progress]:
    """Show the progress of one long piece of work while the block runs."""
    if not sys.stderr.isatty():
        yield _Lines(title, total, unit)
        return
    with tqdm(total=total, desc=title, unit=f" {unit}", dynamic_ncols=True, file=sys.stderr) as bar:
        yield _Bar(bar)
