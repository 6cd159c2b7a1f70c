"""Which adapters are trained together, decided once for a run.

What is stacked together shows in the last bits, and names a stack's checkpoint. So
the cut must not depend on how many machines an attempt happens to find: the first
attempt writes it down, later ones follow it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lorastyle.distributed.batches import balanced_batches
from lorastyle.distributed.work import Task
from lorastyle.places.place import Place
from lorastyle.records import digest

STACKS_FILE = "stacks.json"


def stacks_of(
    place: Place, tasks: Sequence[Task], size: int, n_workers: int
) -> list[tuple[Task, ...]]:
    """The run's stacks: as written down for these tasks, or cut now for `n_workers`.

    `place` is the run's. A cut made for other tasks, or for another `size`, is replaced.
    """
    key = digest([size, [task.digest for task in tasks]])
    sizes = _read(place, key)
    if sizes is None:
        sizes = [len(stack) for stack in balanced_batches(tasks, size, n_workers)]
        place.write(STACKS_FILE, [json.dumps({"tasks": key, "sizes": sizes}).encode()])
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [tuple(tasks[start : start + n]) for start, n in zip(starts, sizes, strict=True)]


def _read(place: Place, key: str) -> list[int] | None:
    """Sizes of the stacks written down for these tasks, or None."""
    try:
        written = json.loads(place.read(STACKS_FILE) or b"null")
        return [int(n) for n in written["sizes"]] if written["tasks"] == key else None
    except (ValueError, TypeError, KeyError):  # cut short by a full disk: cut anew
        return None
