"""How the working memory of a pass is divided among its tasks."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lorastyle.embedding.blocks import ORIGIN_ROWS, PANEL
from lorastyle.errors import StageError

ROWS_BESIDES = 2 * ORIGIN_ROWS + 2
"""Rows that a task holds besides a block's: the origin's, their sorted copy, a chunk being read."""
LEAST_WIDTH = 256
"""Narrower blocks would read each inner chunk more than a hundred times."""
TASKS_ELSEWHERE = 4
"""Tasks among which memory is shared where another scheduler decides how many run at once."""


@dataclass(frozen=True)
class Share:
    """How many tasks run at once, and the working memory each may take."""

    n_workers: int
    memory_bytes: int

    @classmethod
    def of(
        cls,
        n_left: int,
        n_right: int,
        memory_gib: float,
        *,
        threads: bool,
        n_held: int = 1,
        n_parts: int = 1,
    ) -> Share:
        """Divide the memory. Raises StageError where it does not hold the sums alone.

        `n_held` sums are in memory at once; a task returns `n_parts`.
        """
        total = int(memory_gib * 2**30)
        # The sums, one's successor and a part that waits; each task has a sum and a product.
        gram = 8 * n_left * n_right
        fixed, own = (n_held + 2 * n_parts) * gram, n_parts * (gram + gram // 2)
        column = 4 * (n_right + ROWS_BESIDES)
        least, panel = column * LEAST_WIDTH, column * PANEL
        if total < fixed + own + least:
            raise StageError(
                f"{memory_gib:g} GiB are too little for the products of {n_right} adapters; "
                f"give at least --memory {1.05 * (fixed + own + least) / 2**30:.2g}GiB"
            )
        # More tasks than cores: one reads and one waits for the disk while the others compute.
        wanted = 2 + (os.cpu_count() or 1) if threads else TASKS_ELSEWHERE
        room = total - fixed
        # Rather every core with narrow blocks, whose chunks are read more than once, than few.
        n_workers = max(1, min(wanted, room // (own + panel)))
        return cls(n_workers if threads else TASKS_ELSEWHERE, room // n_workers - own)

    def width(self, n_rows: int, chunk: int) -> int:
        """Columns of these rows to hold at once: an inner chunk, or whole panels, or less."""
        width = max(1, self.memory_bytes // (4 * (n_rows + ROWS_BESIDES)))
        if width >= chunk:
            return chunk
        return width // PANEL * PANEL if width >= PANEL else width
