"""`Searcher`: one run, searched again and again from memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.formats.opening import FileInMemory, Limits
from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.sketch import SketchSet
from lorastyle.adapters.updates import Adapter
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import REPRESENTATIONS
from lorastyle.embedding.stage import open_source
from lorastyle.embedding.style_space import StyleSpace
from lorastyle.embedding.wanted import wanted_products
from lorastyle.errors import StageError
from lorastyle.ingest.family import base_weights
from lorastyle.runs import Run
from lorastyle.search import gallery as galleries
from lorastyle.search.duplicates import N_COMPARED, Suspects, find_duplicates
from lorastyle.search.found import Found, SearchResult, vote
from lorastyle.search.index import Neighbours
from lorastyle.search.query import Place, Query, Room
from lorastyle.search.ready import ReadyGallery
from lorastyle.search.settings import SpaceChoice, choose_setting, default_components
from lorastyle.search.sketches import SketchPlacer, run_sketches
from lorastyle.store.cohorts import bytes_of
from lorastyle.store.members import read_member
from lorastyle.sub_networks import check

MOST_PLACED = 2048
"""Sketches, 128 KiB each, of adapters that a space was not fitted on."""
MOST_CHOICES = 256
"""Of style spaces that are remembered: reasons have numbers in them, so there is no end of them."""


@dataclass(frozen=True)
class Wishes:
    """What a search may be asked for; None leaves it to the run."""

    top_k: int = 24
    representation: str | None = None
    sub_network: str | None = None
    n_components: int | None = None

    def checked(self) -> Wishes:
        """With the sub-network in its plain form. Raises ConfigError for no expression."""
        if self.sub_network is None:
            return self
        return replace(self, sub_network=check(self.sub_network))


@dataclass(frozen=True)
class Finding:
    """What a search found, and where."""

    result: SearchResult
    point: npt.NDArray[np.float64]
    """(k,): the query's scores on all components of the space."""
    ready: ReadyGallery


class Searcher:
    """Searches an embedded run. What queries share is read once, when first needed, and kept.

    Threads may share one. `exact_bytes`: fit adapters of more weights than this are compared by
    their sketches, which stay in memory. What changes in the run afterwards is not seen.
    Raises StageError before embedding.
    """

    def __init__(self, run: Run, *, exact_bytes: int | None = None) -> None:
        run.pull("embed", "sweep")
        self.run = run
        self._exact_bytes = galleries.EXACT_BYTES if exact_bytes is None else exact_bytes
        self._lock = threading.RLock()
        self._room = Room(open_source(run))
        self._weights = base_weights(run)
        self._choices: dict[tuple[object, ...], SpaceChoice] = {}
        self._ready: dict[tuple[object, ...], ReadyGallery] = {}
        self._sketches: dict[bytes, SketchSet] = {}
        self._defaults: dict[int, int] = {}
        self._placed: OrderedDict[tuple[int, int], SketchSet] = OrderedDict()
        self._is_large_run = self._is_large(GramSet.load(run.embedding_path).rows)
        wanted = wanted_products(run.experiment, self._room.targets)
        self.sub_networks: tuple[str, ...] = tuple(wanted.expressions)
        """Expressions that the run was embedded or swept by."""

    def read(
        self, path: Path | FileInMemory, limits: Limits | None = None, *, hashed: bool = True
    ) -> Adapter:
        """A LoRA file as a query. Raises AdapterFileError."""
        return read_adapter(path, limits=limits, base_weights=self._weights, hashed=hashed)

    def find(
        self,
        adapter: Adapter,
        wishes: Wishes | None = None,
        sha256: Callable[[], str] | None = None,
    ) -> Finding:
        """The adapters whose style is nearest to this one's.

        `sha256` gives that of the file where it was read without: it is asked for only where
        the file may be one of the run's.
        Raises LayoutMismatchError for one of another base model, StageError for one that changes
        nothing, or where no style space fits the wishes.
        """
        wishes = wishes or Wishes()
        if adapter.facts.get("empty"):
            raise StageError(
                f"{adapter.name!r} changes nothing: all its updates are zero; there is no style"
            )
        query = Query.of(adapter, self._room)
        setting = self._setting(query, wishes)
        ready = self._ready_gallery(setting)
        count = self._count(ready, setting, wishes.n_components)
        place, sketch = self._place(query, ready)
        indexes = ready.on(count)
        point = place.scores[:count]
        near = indexes.ranked.nearest(point, wishes.top_k)
        near_it = Suspects.of(ready, indexes.everyone.nearest(point, N_COMPARED))
        suspects = near_it.likely(query, ready, sketch, partial(self._sketch_of, ready))
        neighbours = _named(ready, indexes.positions, near)
        result = SearchResult(
            query=adapter.name,
            representation=setting.representation,
            sub_network=setting.sub_network,
            n_components=count,
            why=setting.why,
            method=place.method,
            coverage=place.coverage,
            n_gallery=len(indexes.ranked),
            neighbours=neighbours,
            artists=vote(neighbours, indexes.usual_distance),
            duplicates=find_duplicates(query, suspects, self.member, sha256),
            nearest_distance=float(near.distances[0]),
            usual_distance=indexes.usual_distance,
            notes=tuple(adapter.facts.get("notes", ())),
        )
        return Finding(result, place.scores, ready)

    def member(self, row: int) -> Adapter:
        """An adapter of the run. Raises StoreError for one that is damaged."""
        return read_member(self.run, row)

    def warm(self) -> ReadyGallery:
        """Read what a file of another trainer will be compared with, before the first one comes.

        Raises StageError where there is no style space that such a file can be placed in.
        """
        setting = self._choice(("delta-aligned", "delta"), self.sub_networks, Wishes(), "")
        ready = self._ready_gallery(setting)
        ready.on(self._count(ready, setting, None))
        if ready.placer is not None:
            ready.placer.prepare()
        return ready

    def gallery_of(self, key: str) -> ReadyGallery | None:
        """The gallery of a space `REPRESENTATION/SUB_NETWORK`, or None where the run has none
        of this name. One that has been searched is in memory.
        """
        for ready in list(self._ready.values()):
            space = ready.gallery.space
            if f"{space.representation}/{space.sub_network}" == key:
                return ready
        representation, _, sub_network = key.partition("/")
        if representation not in REPRESENTATIONS or sub_network not in self.sub_networks:
            return None
        wishes = Wishes(representation=representation, sub_network=sub_network)
        return self._ready_gallery(self._choice((representation,), (sub_network,), wishes, ""))

    def _setting(self, query: Query, wishes: Wishes) -> SpaceChoice:
        possible, reason = query.possible()
        asked = dict.fromkeys([*self.sub_networks, *filter(None, [wishes.sub_network])])
        there = tuple(expression for expression in asked if query.changes(expression))
        return self._choice(possible, there, wishes, reason)

    def _choice(
        self,
        possible: tuple[str, ...],
        sub_networks: tuple[str, ...],
        wishes: Wishes,
        reason: str,
    ) -> SpaceChoice:
        if wishes.representation is None and self._is_large_run:
            possible = tuple(name for name in possible if name != "delta-aligned")
        key = (possible, sub_networks, wishes.representation, wishes.sub_network, reason)
        if key not in self._choices:
            chosen = choose_setting(
                self.run,
                representations=possible,
                sub_networks=sub_networks,
                representation=wishes.representation,
                sub_network=wishes.sub_network,
                reason=reason,
            )
            if len(self._choices) >= MOST_CHOICES:
                self._choices.clear()
            self._choices[key] = chosen
        return self._choices[key]

    def _ready_gallery(self, setting: SpaceChoice) -> ReadyGallery:
        key = (setting.representation, setting.sub_network, setting.calibration)
        with self._lock:
            if key not in self._ready:
                gallery = galleries.open_gallery(self.run, *key)
                self._ready[key] = ReadyGallery(gallery, self._placer(gallery.space))
            return self._ready[key]

    def _placer(self, space: StyleSpace) -> SketchPlacer | None:
        if space.representation != "delta" or not self._is_large(space.fit_rows):
            return None
        rows = space.fit_rows
        identity = rows.tobytes()
        if identity not in self._sketches:
            self._sketches[identity] = run_sketches(self.run, rows)
        return SketchPlacer(space, self._sketches[identity], self._room.targets)

    def _place(self, query: Query, ready: ReadyGallery) -> tuple[Place, SketchSet | None]:
        if ready.placer is None:
            return query.place(self.run, ready.gallery), None
        # From memory: exact cosines would read every adapter.
        sketch = ready.placer.sketch(query.adapter)
        scores, share = ready.placer.place_sketch(sketch)
        return Place(scores, share, "sketch"), sketch

    def _sketch_of(self, ready: ReadyGallery, row: int) -> SketchSet:
        """Of an adapter that was placed, not fitted: made when it is first near a query."""
        assert ready.placer is not None
        key = (id(ready.placer.sketches.plan), row)
        with self._lock:
            if key in self._placed:
                self._placed.move_to_end(key)
                return self._placed[key]
        made = ready.placer.sketch(self.member(row))
        with self._lock:
            self._placed[key] = made
            while len(self._placed) > MOST_PLACED:
                self._placed.popitem(last=False)
        return made

    def _count(self, ready: ReadyGallery, setting: SpaceChoice, wanted: int | None) -> int:
        most = ready.gallery.space.n_components
        if wanted is not None and wanted > most:
            raise StageError(
                f"the space {setting.key} has {most} components, not {wanted}; ask for fewer"
            )
        return min(wanted or setting.n_components or self._default(most), most)

    def _default(self, most: int) -> int:
        if most not in self._defaults:
            self._defaults[most] = default_components(self.run, most)
        return self._defaults[most]

    def _is_large(self, rows: npt.NDArray[np.int64]) -> bool:
        return bytes_of(self._room.source, rows) > self._exact_bytes


def _named(
    ready: ReadyGallery, positions: npt.NDArray[np.intp], near: Neighbours
) -> tuple[Found, ...]:
    """Neighbours among the ranked adapters, by name."""
    lines = ready.gallery.table.iloc[positions[near.positions]].to_dict("records")
    return tuple(
        Found(
            adapter_id=str(line["adapter_id"]),
            artist=str(line["artist"]),
            genre=str(line["genre"]),
            role=str(line["role"]),
            distance=float(distance),
            row=int(line["row"]),
        )
        for line, distance in zip(lines, near.distances, strict=True)
    )
