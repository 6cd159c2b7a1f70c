"""What a pass over the store has done so far: so that a killed one continues.

    DIRECTORY/identity                what the pass computes; another identity starts over
    DIRECTORY/sums/MARK.NAME.N.npy    the sum of the first N segments of a matrix
    DIRECTORY/receipts/MARK.NAME.json what a finished segment read, and how long it took

MARK tells the identity.

Tasks write here, wherever they run: all of them see the directory. Where they do not, the
ledger lies in a bucket (`bucket_ledger`).
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lorastyle.progress import Progress
from lorastyle.records import digest
from lorastyle.runs import write_array, write_atomically, write_json

Gram = npt.NDArray[np.float64]

SAVE_EVERY_S = 15.0
SAVE_BYTES_PER_S = 20e6
"""A sum of this many bytes is saved one second less often: saving stays under a few percent."""
POLL_S = 0.5


class Ledger(ABC):
    """What has been done of one pass. Cheap to pickle."""

    poll_s = POLL_S

    @abstractmethod
    def begin(self, identity: str) -> Self:
        """Keep what is there if it belongs to the same pass, else start empty.

        Returns the ledger of that pass alone: on a cluster, tasks of another that failed may
        still be saving.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forget the pass."""

    @abstractmethod
    def load(self, name: str) -> tuple[int, Gram] | None:
        """The furthest saved sum of a matrix and how many segments it holds, or None."""

    @abstractmethod
    def n_saved(self, name: str) -> int:
        """How many segments that sum holds, 0 for none: without reading all of it."""

    @abstractmethod
    def save(self, name: str, total: Gram, n_segments: int, *, last: bool) -> None:
        """Save a running sum, if it is the last or enough time has passed."""

    @abstractmethod
    def receive(self, name: str, receipt: Mapping[str, Any]) -> None:
        """Record a finished segment."""

    @abstractmethod
    def receipts(self) -> list[dict[str, Any]]:
        """What finished segments recorded, over all attempts."""

    @contextmanager
    def watched(self, shown: Progress, n_segments: int) -> Iterator[None]:
        """Advance `shown` as receipts come in from wherever tasks run, of `n_segments` in all."""
        before = len(self.receipts())
        stop = threading.Event()
        watcher = threading.Thread(
            target=self._watch, args=(shown, before, n_segments, stop), daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()

    def _watch(self, shown: Progress, n_seen: int, n_segments: int, stop: threading.Event) -> None:
        start, n_first = time.monotonic(), n_seen
        stopped = False
        while not stopped:
            stopped = stop.wait(self.poll_s)
            receipts = self.receipts()
            if len(receipts) > n_seen:
                n_bytes = sum(receipt["bytes"] for receipt in receipts)
                n_done = len(receipts) - n_first
                elapsed = max(time.monotonic() - start, self.poll_s)
                rate = n_done / len(receipts) * n_bytes / elapsed
                left_s = max(0, n_segments - len(receipts)) * elapsed / n_done
                shown.note(f"{rate / 1e6:,.0f} MB/s, {left_s:.0f} s left")
                shown.advance(len(receipts) - n_seen)
                n_seen = len(receipts)


@dataclass(frozen=True)
class DirectoryLedger(Ledger):
    """In a directory."""

    directory: Path
    mark: str = ""
    """What names of files begin with."""

    def begin(self, identity: str) -> Self:
        path = self.directory / "identity"
        if not path.is_file() or path.read_text(encoding="utf-8") != identity:
            self.clear()
            for part in (self._sums, self._receipts):
                part.mkdir(parents=True)
            write_atomically(path, identity)
        return replace(self, mark=mark_of(identity))

    def clear(self) -> None:
        # The identity goes first: without it, what is left is never taken for whole.
        (self.directory / "identity").unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def load(self, name: str) -> tuple[int, Gram] | None:
        saved = self._saved(name)
        for path in reversed(saved):
            try:
                # Mapped, not read: a matrix may be wanted to be copied only.
                return _n_segments(path), np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError):
                continue
        return None

    def n_saved(self, name: str) -> int:
        found = self.load(name)
        return 0 if found is None else found[0]

    def save(self, name: str, total: Gram, n_segments: int, *, last: bool) -> None:
        saved = self._saved(name)
        if saved and not last and not is_due(time.time() - saved[-1].stat().st_mtime, total):
            return
        write_array(self._sums / f"{self.mark}{file_name(name)}.{n_segments:06d}.npy", total)
        for path in saved:
            if _n_segments(path) < n_segments:
                path.unlink(missing_ok=True)

    def receive(self, name: str, receipt: Mapping[str, Any]) -> None:
        path = self._receipts / f"{self.mark}{file_name(name)}.json"
        write_json(path, dict(receipt), durable=False)

    def receipts(self) -> list[dict[str, Any]]:
        paths = sorted(self._receipts.glob(f"{self.mark}[!.]*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def _saved(self, name: str) -> list[Path]:
        return sorted(self._sums.glob(f"{self.mark}{file_name(name)}.[0-9]*.npy"))

    @property
    def _sums(self) -> Path:
        return self.directory / "sums"

    @property
    def _receipts(self) -> Path:
        return self.directory / "receipts"


def is_due(age_s: float, total: Gram) -> bool:
    """Whether a sum that was saved so long ago is to be saved again."""
    return age_s >= SAVE_EVERY_S + total.nbytes / SAVE_BYTES_PER_S


def mark_of(identity: str) -> str:
    """What files of a pass begin with."""
    return f"{digest(identity)[:8]}."


def file_name(name: str) -> str:
    """A matrix's or segment's name without slashes."""
    return name.replace("/", "+")


def _n_segments(path: Path) -> int:
    return int(path.name.split(".")[-2])
