"""Adapters of a run that a query is again: the same file, weights, or training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.sketch import SketchSet
from lorastyle.adapters.updates import Adapter
from lorastyle.search.found import Duplicate
from lorastyle.search.index import Neighbours
from lorastyle.search.query import Query
from lorastyle.search.ready import ReadyGallery
from lorastyle.search.verdicts import COMMON_START, Thresholds, compare_adapters

N_COMPARED = 8
"""Nearest adapters that are compared with the query itself, to find duplicates."""
DUPLICATES = ("identical_bytes", "same_weights", "same_run")
SKETCH_MARGIN = 0.1
"""A duplicate's cosine is `Thresholds.same_run` at least; a sketch's is off by 0.006, and an
adapter whose sketch is this much below needs no reading."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """The adapters nearest to a query, ranked or not: the same again has the same place."""

    rows: npt.NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(cls, ready: ReadyGallery, near: Neighbours) -> Suspects:
        table = ready.gallery.table.iloc[near.positions]
        return cls(table["row"].to_numpy(np.int64), [str(name) for name in table["adapter_id"]])

    def likely(
        self, query: Query, ready: ReadyGallery, sketch: SketchSet | None
    ) -> list[tuple[int, str]]:
        """Rows and names of those that may be duplicates, by their sketches where there are any."""
        cosines = {} if sketch is None else _cosines(query, ready, sketch, self.rows)
        least = _limits(query).same_run - SKETCH_MARGIN
        pairs = zip(self.rows.tolist(), self.names, strict=True)
        return [(row, name) for row, name in pairs if cosines.get(row, 1.0) >= least]


def find_duplicates(
    query: Query, suspects: Sequence[tuple[int, str]], read: Callable[[int], Adapter]
) -> tuple[Duplicate, ...]:
    """Those of the suspects that are the query again, the surest first.

    `read` gives an adapter by its row.
    """
    ours = _in_the_run(query)
    found = []
    for row, name in suspects:
        comparison = compare_adapters(ours, read(row), _limits(query))
        if comparison.verdict in DUPLICATES:
            cosine = float(comparison.scores.get("cosine", 1.0))
            found.append(Duplicate(name, row, comparison.verdict, cosine, comparison.evidence))
    order = {verdict: place for place, verdict in enumerate(DUPLICATES)}
    return tuple(sorted(found, key=lambda one: (order[one.verdict], -one.cosine, one.row)))


def _limits(query: Query) -> Thresholds:
    return COMMON_START if query.began_with_the_run else Thresholds()


def _in_the_run(query: Query) -> Adapter:
    """The query without what rows have no room for, which is no difference to them."""
    room = query.room.modules()
    same = {key: value for key, value in query.adapter.updates.items() if key in room}
    return Adapter(query.adapter.name, same, query.adapter.facts)


def _cosines(
    query: Query, ready: ReadyGallery, sketch: SketchSet, rows: npt.NDArray[np.int64]
) -> dict[int, float]:
    """By row, of those that have sketches; none where a sketch leaves out part of the query."""
    placer = ready.placer
    if placer is None or int(sketch.present[0].sum()) < len(_in_the_run(query)):
        return {}
    number_of = placer.number_of
    known = [row for row in rows.tolist() if row in number_of]
    if not known:
        return {}
    theirs = placer.sketches.rows([number_of[row] for row in known])
    return dict(zip(known, sketch.cosine(theirs)[0].tolist(), strict=True))
