"""The next step's numbers, drawn while a GPU is busy with this one's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Drawn = TypeVar("Drawn")


class Ahead(Generic[Drawn]):
    """Calls `draw(step)`, and begins `draw(step + 1)` on a thread at the same time.

    NumPy lets go of the interpreter while it draws. Which steps are asked for does not change
    what they are.
    """

    def __init__(self, draw: Callable[[int], Drawn]) -> None:
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="draws")
        self._begun: tuple[int, Future[Drawn]] | None = None

    def __call__(self, step: int) -> Drawn:
        begun, self._begun = self._begun, None
        drawn = begun[1].result() if begun and begun[0] == step else self._draw(step)
        self._begun = (step + 1, self._thread.submit(self._draw, step + 1))
        return drawn
