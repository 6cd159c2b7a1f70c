"""Epochs: which attempt at a run may write, and which are ghosts of an earlier one.

    epochs/00000007.json          who claimed epoch 7: host, process, job, when

A driver claims the next number before it writes; its actors carry the number as a
`Fence`. Once a later number is claimed, whoever wakes up with an earlier one is refused.
Files are only ever added here.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorastyle.errors import FencedError, StoreError
from lorastyle.places.place import Place

EPOCHS = "epochs"
"""Where in a run its epochs are."""
UNNAMED = "somebody"


@dataclass(frozen=True)
class Epoch:
    """One attempt at a run."""

    number: int
    claimed_at: str
    """UTC, as ISO 8601."""
    owner: Mapping[str, Any]
    """`host` and `pid`, and what else the claimant says of itself, such as `job`."""

    def describe(self) -> str:
        """Number and owner, for a message.

        >>> Epoch(7, "2026-11-24T22:00:00Z", {"host": "a", "pid": 12, "job": None}).describe()
        'epoch 7 (host a, pid 12)'
        """
        who = ", ".join(f"{key} {value}" for key, value in self.owner.items() if value is not None)
        return f"epoch {self.number} ({who or UNNAMED})"


@dataclass(frozen=True)
class Fence:
    """The right to write of one epoch. Cheap to pickle: hand it to actors."""

    place: Place
    number: int

    def check(self) -> None:
        """Raise FencedError if a later epoch has been claimed. One look at one file."""
        if self.place.exists(_key(self.number + 1)):
            raise self.refusal()

    def refusal(self) -> FencedError:
        """What to raise where a later epoch was met."""
        try:
            later = EpochLog(self.place).latest()
        except StoreError:  # a claim that cannot be read still counts
            later = None
        taken = f"{later.describe()}, at {later.claimed_at}" if later else "a later one"
        return FencedError(
            f"epoch {self.number} may write no more: it was taken over by {taken}; "
            "leave this process to end, the later one does the rest"
        )


@dataclass(frozen=True)
class EpochLog:
    """The epochs of a run, in the order in which they were claimed."""

    place: Place

    def claim(self, owner: Mapping[str, Any] | None = None) -> Fence:
        """Take over: claim the next number. Of several claimants each gets its own.

        `owner` is plain JSON; host and process are added.
        """
        claim = {
            "claimed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "owner": {"host": socket.gethostname(), "pid": os.getpid(), **(owner or {})},
            # A claim whose answer was lost on the way is recognised as our own.
            "token": uuid.uuid4().hex,
        }
        number = self._last() + 1
        while True:
            content = (json.dumps({"number": number, **claim}, indent=2) + "\n").encode()
            if self.place.create(_key(number), content):
                return Fence(self.place, number)
            if self.place.read(_key(number)) == content:
                return Fence(self.place, number)
            number += 1

    def latest(self) -> Epoch | None:
        """The epoch that may write, or None where none was ever claimed.

        Raises StoreError for a file that is damaged.
        """
        number = self._last()
        return self._read(number) if number else None

    def _last(self) -> int:
        """The highest number claimed, or 0."""
        stems = (name.removesuffix(".json") for name in self.place.names())
        return max((int(stem) for stem in stems if stem.isdecimal()), default=0)

    def _read(self, number: int) -> Epoch:
        try:
            values = json.loads(self.place.read(_key(number)) or b"")
            return Epoch(number, str(values["claimed_at"]), dict(values["owner"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.place.where(_key(number))} is damaged; "
                "keep the file, its name still counts, and start again to claim the next epoch"
            ) from error


def _key(number: int) -> str:
    return f"{number:08d}.json"
