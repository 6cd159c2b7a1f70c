"""A query: an adapter as a file holds it, placed in a run's style space."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.layout import FactorKey, TargetModule
from lorastyle.adapters.module_sets import column_ranges, modules_of
from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.embedding.energies import energies_of
from lorastyle.embedding.placing import Others, place_updates
from lorastyle.embedding.projection import project_adapters
from lorastyle.errors import LayoutMismatchError
from lorastyle.runs import Run
from lorastyle.search.gallery import Gallery, by_sketch
from lorastyle.search.sketches import SketchPlacer, run_sketches
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Source, cohorts_of
from lorastyle.store.ingested import IngestedStore

SAME_START = 0.5
"""Cosine of a query's lora_A with the run's initial one, from which both began with it: training
moves it (to 0.8 on the miniature), and independent ones have 0."""


@dataclass(frozen=True)
class Place:
    """Where a query lies."""

    scores: npt.NDArray[np.float64]
    """(k,)."""
    coverage: float
    """Share of the query and of the fit adapters that was compared; 1 where all of it."""
    method: str = "exact"
    """`exact`, or `sketch` where cosines with the fit adapters are estimates."""


class Room:
    """What a run's rows have room for, read once: it takes longer than placing a query."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.targets: tuple[TargetModule, ...] = tuple(source.layout.targets)
        self._modules: dict[str, frozenset[ModuleKey]] = {}
        self._base: Any = (
            source.attributes["base"] if isinstance(source, AdapterStore) else source.base
        )

    def modules(self, sub_network: str = "full") -> frozenset[ModuleKey]:
        """Those of an expression."""
        if sub_network not in self._modules:
            names = modules_of(sub_network, self.targets)
            self._modules[sub_network] = frozenset(ModuleKey("unet", name) for name in names)
        return self._modules[sub_network]

    def store_for(self, adapter: Adapter, directory: Path) -> IngestedStore:
        """A store with room for what the source compares; refuses an adapter that does not fit."""
        store = IngestedStore(directory, self.targets, self._base)
        store.kept(adapter)
        return store


@dataclass(frozen=True)
class Query:
    """An adapter that fits a run's base model."""

    adapter: Adapter
    room: Room

    @classmethod
    def of(cls, adapter: Adapter, room: Room) -> Query:
        """Raises LayoutMismatchError where it belongs to another base model."""
        room.store_for(adapter, Path())
        return cls(adapter, room)

    @property
    def source(self) -> Source:
        return self.room.source

    @property
    def began_with_the_run(self) -> bool:
        """Whether its factors began where the run's trained adapters did, and are as long."""
        return self._why_no_factors is None

    def possible(self) -> tuple[tuple[str, ...], str]:
        """Representations it can be placed in, best first by principle, and why."""
        reason = self._why_no_factors
        if reason is None:
            return ("factors", "delta-aligned", "delta"), ""
        return ("delta-aligned", "delta"), reason

    def changes(self, sub_network: str) -> bool:
        """Whether it changes a module of an expression: else it has no place in its space."""
        return not self.room.modules(sub_network).isdisjoint(self.adapter.updates)

    def place(self, run: Run, gallery: Gallery) -> Place:
        """Its scores in the gallery's space, calibrated as for retrieval: one pass over the
        adapters that it was fitted on, or over their sketches where they are large.
        """
        memory_gib = run.experiment.compute.memory_gib
        if gallery.space.representation == "factors":
            assert isinstance(self.source, AdapterStore)
            vector = self._vector(self.source, gallery.space.sub_network)
            scores = project_adapters(
                self.source, gallery.space, vector[None], memory_gib=memory_gib
            )
            return Place(scores[0], 1.0)
        if by_sketch(self.source, gallery.space):
            return self._place_by_sketch(run, gallery)
        assert gallery.fit_energies is not None
        with tempfile.TemporaryDirectory(prefix="lorastyle-") as aside:
            store = self.room.store_for(self.adapter, Path(aside))
            with store.writing() as writer:
                row = writer.add(self.adapter, {}, {}).row
            others = Others(cohorts_of(store, [row]), energies_of(store, [row]))
            placed = place_updates(
                self.source, gallery.space, gallery.fit_energies, others, memory_gib=memory_gib
            )
        return Place(placed.scores[0], float(placed.coverage[0]))

    def _place_by_sketch(self, run: Run, gallery: Gallery) -> Place:
        """With estimated cosines, from memory: the exact ones would read every adapter."""
        sketches = run_sketches(run, gallery.space.fit_rows)
        placer = SketchPlacer(gallery.space, sketches, self.room.targets)
        scores, share = placer.place(self.adapter)
        return Place(scores, share, "sketch")

    @cached_property
    def _why_no_factors(self) -> str | None:
        """Why its factors cannot be compared with the run's, or None where they can."""
        if not isinstance(self.source, AdapterStore):
            return "the database is of mixed origin, so updates are compared"
        layout = self.source.layout
        try:
            factors = _factors(self.source, self.adapter)
        except LayoutMismatchError:
            return "the query differs from the database in rank or modules, so updates are compared"
        initial = self.source.initial
        if initial is None:
            return "the database has no common initial lora_A, so updates are compared"
        start = layout.unflatten(initial)
        cosine = _cosine([(factors[key], start[key]) for key in factors if key[1] == "A"])
        if cosine < SAME_START:
            return (
                f"the query began with another lora_A (cosine {cosine:.2f}), "
                "so updates are compared"
            )
        return None

    def _vector(self, store: AdapterStore, sub_network: str) -> npt.NDArray[np.float32]:
        layout = store.layout
        vector = layout.flatten(_factors(store, self.adapter), self.adapter.name)
        return np.concatenate([vector[part] for part in column_ranges(sub_network, layout)])


def _factors(store: AdapterStore, adapter: Adapter) -> dict[FactorKey, npt.NDArray[np.float32]]:
    """The adapter's factors as the store would hold them, whatever its file's alpha.

    Raises LayoutMismatchError where they are of other modules or another rank.
    """
    factors = {}
    for module in store.layout.modules:
        update = adapter.updates.get(ModuleKey("unet", module))
        if update is None or update.rank != store.rank:
            raise LayoutMismatchError(f"{adapter.name!r} has no {module!r} of rank {store.rank}")
        factors[module, "A"] = update.lora_A
        factors[module, "B"] = update.lora_B * np.float32(update.scaling / store.scaling)
    return factors


def _cosine(pairs: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> float:
    product = sum(float((a * b).sum(dtype=np.float64)) for a, b in pairs)
    ours = sum(float((a * a).sum(dtype=np.float64)) for a, _ in pairs)
    theirs = sum(float((b * b).sum(dtype=np.float64)) for _, b in pairs)
    return product / (ours * theirs) ** 0.5 if ours > 0 and theirs > 0 else 0.0
