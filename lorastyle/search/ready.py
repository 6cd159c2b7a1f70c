"""A gallery with all that follows from it alone: what queries share is made once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.search.gallery import Gallery
from lorastyle.search.index import StyleIndex
from lorastyle.search.sketches import SketchPlacer

MOST_KEPT = 4
"""Numbers of components whose indexes are kept: somebody may ask for each in turn."""


@dataclass(frozen=True)
class Indexes:
    """A gallery's adapters on its first components."""

    ranked: StyleIndex
    """Of the adapters that a search ranks."""
    positions: npt.NDArray[np.intp]
    """Of those, where they are in the gallery's table."""
    everyone: StyleIndex
    """Of all of them, in the table's order: duplicates may be any."""
    usual_distance: float
    """Median distance of a ranked adapter to its own nearest neighbour."""


class ReadyGallery:
    """A gallery in memory; several threads may ask it at once.

    `placer` places queries by sketches; None where they are compared with the adapters
    themselves.
    """

    def __init__(self, gallery: Gallery, placer: SketchPlacer | None = None) -> None:
        self.gallery, self.placer = gallery, placer
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Indexes] = OrderedDict()

    def on(self, n_components: int) -> Indexes:
        """Its indexes on so many components, from memory where they were asked for lately."""
        with self._lock:
            if n_components not in self._kept:
                self._kept[n_components] = self._made(n_components)
            self._kept.move_to_end(n_components)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[n_components]

    def _made(self, n_components: int) -> Indexes:
        scores = self.gallery.scores[:, :n_components]
        is_ranked = self.gallery.is_ranked
        everyone = StyleIndex(scores)
        ranked = everyone if is_ranked.all() else StyleIndex(scores[is_ranked])
        return Indexes(ranked, np.flatnonzero(is_ranked), everyone, ranked.spacing())
