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
        self,
        query: Query,
        ready: ReadyGallery,
        sketch: SketchSet | None,
        sketch_of: Callable[[int], SketchSet],
    ) -> list[tuple[int, str]]:
        """Rows and names of those that may be duplicates, by their sketches where it has one.

        `sketch_of` gives the sketch of a row that the space was not fitted on.
        """
        pairs = list(zip(self.rows.tolist(), self.names, strict=True))
        placer, ours = ready.placer, len(_in_the_run(query).updates)
        # A sketch that leaves out part of the query says too little of the whole.
        if sketch is None or placer is None or int(sketch.present[0].sum()) < ours:
            return pairs
        fitted = placer.number_of
        theirs = [
            placer.sketches.rows([fitted[row]]) if row in fitted else sketch_of(row)
            for row, _ in pairs
        ]
        cosines = sketch.cosine(SketchSet.joined(theirs))[0]
        near = cosines >= _limits(query).same_run - SKETCH_MARGIN
        return [pair for pair, is_near in zip(pairs, near, strict=True) if is_near]


def find_duplicates(
    query: Query,
    suspects: Sequence[tuple[int, str]],
    read: Callable[[int], Adapter],
    sha256: Callable[[], str] | None = None,
) -> tuple[Duplicate, ...]:
    """Those of the suspects that are the query again, the surest first.

    `read` gives an adapter by its row, `sha256` that of the query's file.
    """
    if not suspects:
        return ()
    ours = _in_the_run(query)
    if sha256 is not None and ours.facts.get("sha256") is None:
        ours = Adapter(ours.name, ours.updates, {**ours.facts, "sha256": sha256()})
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
