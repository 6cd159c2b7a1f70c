"""A pass's ledger in a bucket, for tasks on machines that share no directory.

    PREFIX/identity                               as in a directory
    PREFIX/sums/MARK.NAME.N.SECONDS.npy           SECONDS: when it was saved
    PREFIX/receipts/MARK.NAME@BYTES@READ@PRODUCT  empty: one listing tells all of them

What tasks have read is shown from the receipts, so they must be cheap to look at.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lorastyle.embedding.ledger import Gram, Ledger, file_name, is_due, mark_of
from lorastyle.places.place import Place

IDENTITY = "identity"
HEADER_BYTES = 4096
"""More than a saved matrix's header has."""


@dataclass(frozen=True)
class BucketLedger(Ledger):
    """In a prefix of a bucket."""

    place: Place
    mark: str = ""
    """What names of files begin with."""

    poll_s = 2.0

    def begin(self, identity: str) -> Self:
        if self.place.read(IDENTITY) != identity.encode():
            self.clear()
            self.place.write(IDENTITY, [identity.encode()])
        return replace(self, mark=mark_of(identity))

    def clear(self) -> None:
        # The identity goes first: without it, what is left is never taken for whole.
        self.place.delete(IDENTITY)
        self.place.clear()

    def load(self, name: str) -> tuple[int, Gram] | None:
        for saved in reversed(self._saved(name)):
            content = self._sums.read(saved)
            try:
                total = np.load(io.BytesIO(content or b""), allow_pickle=False)
            except (ValueError, EOFError):
                continue
            return _n_segments(saved), total
        return None

    def n_saved(self, name: str) -> int:
        saved = reversed(self._saved(name))
        return next((_n_segments(one) for one in saved if self._is_whole(one)), 0)

    def _is_whole(self, saved: str) -> bool:
        """Whether a saved sum is as long as its header says."""
        try:
            with self._sums.open(saved) as file:
                n_last = len(file.tail(HEADER_BYTES))
                file.expect(0, HEADER_BYTES)
                start = io.BytesIO(file.at(HEADER_BYTES, 0))
                np.lib.format.read_magic(start)
                shape, _, dtype = np.lib.format.read_array_header_1_0(start)
                stop = start.tell() + math.prod(shape) * dtype.itemsize
                if stop <= HEADER_BYTES:
                    return n_last == stop
                file.expect(stop - 1, stop)
                return len(file.at(1, stop - 1)) == 1
        except (OSError, ValueError):
            return False

    def save(self, name: str, total: Gram, n_segments: int, *, last: bool) -> None:
        saved = self._saved(name)
        now = int(time.time())
        if saved and not last and not is_due(now - _saved_at(saved[-1]), total):
            return
        content = io.BytesIO()
        np.save(content, total, allow_pickle=False)
        parts = [content.getvalue()]
        self._sums.write(f"{self.mark}{file_name(name)}.{n_segments:06d}.{now}.npy", parts)
        for old in saved:
            if _n_segments(old) < n_segments:
                self._sums.delete(old)

    def receive(self, name: str, receipt: Mapping[str, Any]) -> None:
        said = (receipt[key] for key in ("bytes", "read_s", "product_s"))
        self._receipts.write("@".join([self.mark + file_name(name), *map(str, said)]), [b""])

    def receipts(self) -> list[dict[str, Any]]:
        # From the end: a truncated representation has an @ of its own.
        names = (name for name in self._receipts.names() if name.startswith(self.mark))
        said = (name.rsplit("@", 3) for name in names)
        # By segment: one that was begun again has left two.
        found = {
            segment: {"bytes": int(n_bytes), "read_s": float(read_s), "product_s": float(product_s)}
            for segment, n_bytes, read_s, product_s in said
        }
        return list(found.values())

    def _saved(self, name: str) -> list[str]:
        before = f"{self.mark}{file_name(name)}."
        names = (one for one in self._sums.names() if one.startswith(before))
        return [one for one in names if one.removeprefix(before)[:1].isdigit()]

    @property
    def _sums(self) -> Place:
        return self.place.child("sums")

    @property
    def _receipts(self) -> Place:
        return self.place.child("receipts")


def _n_segments(saved: str) -> int:
    return int(saved.split(".")[-3])


def _saved_at(saved: str) -> int:
    return int(saved.split(".")[-2])
