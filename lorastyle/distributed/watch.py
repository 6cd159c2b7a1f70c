"""What a fleet tells whoever watches it: `Watch`, whose methods do nothing by default.

The dispatcher calls these from one thread, in order, never from an actor. A
watcher must be quick and must not raise: it is not worth an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Loss(StrEnum):
    """Why an actor is no more."""

    APPLICATION = "application"
    """Its work raised: the batch is at fault, or the run."""
    INFRASTRUCTURE = "infrastructure"
    """It died, its node went, memory ran out, it never got a place: the machine is at fault."""
    OVERDUE = "overdue"
    """It took longer than its deadline."""
    SURPLUS = "surplus"
    """There was nothing left for it to do: its node may go."""


class Watch(Generic[Item]):
    """Told of everything that happens to actors and batches of items."""

    def hired(self, worker: str) -> None:
        """An actor was asked for; until `ready` it is pending."""

    def ready(self, worker: str, facts: Mapping[str, Any]) -> None:
        """An actor has loaded what it needs; `facts` (node, devices, capacity) are its own."""

    def assigned(self, worker: str, items: Sequence[Item], *, duplicate: bool) -> None:
        """An actor works on these items; `duplicate` where another one does already."""

    def delivered(self, worker: str, items: Sequence[Item], result: Any) -> None:
        """A batch is done; not called again where a duplicate finishes later."""

    def failed(self, worker: str, reason: str) -> None:
        """A batch raised, and its actor goes on with another."""

    def lost(self, worker: str, loss: Loss, reason: str) -> None:
        """An actor is gone, with or without a batch."""

    def gave_up(self, item: Item, reason: str) -> None:
        """An item failed by itself and is recorded as such; the others go on."""

    def tick(self) -> None:
        """Called about once a second while the fleet works."""
