"""Sketches of a run's adapters: what a query is compared with where the weights are too many.

A query's exact products with 1,500 adapters of Stable Diffusion read 36 GB. Their sketches are
200 MB that stay in memory, and their cosines are off by about 0.006.

    search/sketches.npz      of the fit adapters, made when first needed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.count_sketch import VERSION, SketchedModule
from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.module_sets import modules_of
from lorastyle.adapters.naming import part_of
from lorastyle.adapters.sketch import SketchPlan, SketchSet
from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.embedding.coverage import coverage
from lorastyle.embedding.space_file import Arrays, read_kept, write_archive
from lorastyle.embedding.style_space import Scores, StyleSpace
from lorastyle.progress import Progress, progress
from lorastyle.records import digest
from lorastyle.runs import Run
from lorastyle.store.members import read_member

Rows = npt.NDArray[np.int64]

N_PROBED = 24
"""Adapters that the plan's sizes are fitted to."""
FILE = "sketches.npz"


@dataclass(frozen=True, eq=False)
class Members(Sequence[Adapter]):
    """Adapters of a run that are read when they are asked for."""

    run: Run
    rows: Rows
    shown: Progress

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Adapter: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Adapter]: ...
    def __getitem__(self, index: int | slice) -> Adapter | Sequence[Adapter]:
        if isinstance(index, slice):
            return Members(self.run, self.rows[index], self.shown)
        # Indexing first: iteration ends with an index too many, which is no adapter.
        adapter = read_member(self.run, int(self.rows[index]))
        self.shown.advance()
        return adapter


def run_sketches(run: Run, rows: Rows) -> SketchSet:
    """Sketches of these rows, in their order; kept in the run while its embedding stands."""
    path = run.search_path / FILE
    identity = digest([VERSION, run.upstream_hash("embed"), rows.tolist()])
    kept = read_kept(path, identity, _parse)
    if kept is not None:
        return kept
    probed = rows[np.unique(np.linspace(0, len(rows) - 1, N_PROBED).astype(np.int64))]
    with progress("sketch", len(rows) + len(probed), "adapters") as shown:
        plan = SketchPlan.fitted(Members(run, probed, shown))
        found = plan.sketch_all(Members(run, rows, shown))
    _save(path, found, identity)
    return found


@dataclass(frozen=True, eq=False)
class SketchPlacer:
    """Places adapters in a `delta` space by their sketches; ready for many queries.

    `sketches` are those of the space's fit adapters, in their order. `targets` are all modules
    of the layout, by which the space's sub-network is told; by default those that are sketched.
    """

    space: StyleSpace
    sketches: SketchSet
    targets: Sequence[TargetModule] = ()

    def place(self, adapter: Adapter) -> tuple[Scores, float]:
        """Calibrated scores (k,), and the share of the updates that was compared.

        Raises LayoutMismatchError for an adapter that has none of the sketched modules.
        """
        return self.place_sketch(self.sketch(adapter))

    def sketch(self, adapter: Adapter) -> SketchSet:
        """A query's sketch: a set of one. Raises LayoutMismatchError as `place` does."""
        return self.sketches.plan.sketch_all([adapter])

    def place_sketch(self, query: SketchSet) -> tuple[Scores, float]:
        """The same as `place`, of a sketch."""
        if self._is_whole and query.present[0, self._modules].all():
            return self._projected(query.values[0, self._numbers]), 1.0
        cosines = query.cosine(self.sketches, self._wanted)
        ours, theirs = (each.energy()[:, self._modules] for each in (query, self.sketches))
        return self.space.project(cosines)[0], float(coverage(ours, theirs).mean())

    def prepare(self) -> None:
        """Make what the first query would have to wait for."""
        self.sketches.plan.prepare()
        _ = self.number_of, self._projection, self._offset

    @cached_property
    def number_of(self) -> dict[int, int]:
        """By row, the place of a fit adapter's sketch."""
        return {int(row): number for number, row in enumerate(self.space.fit_rows)}

    def _projected(self, values: npt.NDArray[np.float32]) -> Scores:
        """All change the same modules: then scores are linear in the sketch, but for its norm."""
        norm = float(np.linalg.norm(values.astype(np.float64)))
        raw = values @ self._projection / (norm or 1.0) + self._offset
        return np.asarray(self.space.calibration.apply(raw[None])[0])

    @cached_property
    def _projection(self) -> npt.NDArray[np.float32]:
        """(numbers, k): of a sketch of unit norm, its scores less the offset.

        The weights of a component add up to zero, so nothing else depends on the query.
        """
        values = self.sketches.values[:, self._numbers]
        norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        weights = inverse[:, None] * self.space.pca.weights_
        return np.asarray(values.T @ weights.astype(np.float32))

    @cached_property
    def _offset(self) -> Scores:
        """Scores of an adapter that is like none of the fit ones: (k,)."""
        nothing = np.zeros((1, len(self.space.fit_rows)))
        return np.asarray(self.space.pca.transform(nothing)[0])

    @cached_property
    def _modules(self) -> npt.NDArray[np.bool_]:
        """(modules,): the plan's that are in the space's sub-network."""
        return np.array([self._wanted(module.key) for module in self.sketches.plan.modules])

    @cached_property
    def _numbers(self) -> npt.NDArray[np.intp]:
        """(numbers,): where they are in a sketch."""
        sizes = [module.size for module in self.sketches.plan.modules]
        return np.flatnonzero(np.repeat(self._modules, sizes))

    @cached_property
    def _is_whole(self) -> bool:
        return bool(self.sketches.present[:, self._modules].all())

    def _wanted(self, key: ModuleKey) -> bool:
        if self.space.sub_network == "full":
            return True
        return key.network == "unet" and key.module in self._chosen

    @cached_property
    def _chosen(self) -> frozenset[str]:
        sketched = [
            TargetModule(module.key.module, part_of(*module.key), *module.shape)
            for module in self.sketches.plan.modules
        ]
        return frozenset(modules_of(self.space.sub_network, self.targets or sketched))


def _save(path: Path, sketches: SketchSet, identity: str) -> None:
    modules = [
        [module.key.network, module.key.module, list(module.shape), module.size]
        for module in sketches.plan.modules
    ]
    facts = {"identity": identity, "modules": modules, "seed": sketches.plan.seed}
    write_archive(path, {"values": sketches.values, "present": sketches.present}, facts)


def _parse(arrays: Arrays, facts: Mapping[str, Any]) -> SketchSet:
    modules = tuple(
        SketchedModule(ModuleKey(network, name), (shape[0], shape[1]), int(size))
        for network, name, shape, size in facts["modules"]
    )
    plan = SketchPlan(modules, int(facts["seed"]))
    return SketchSet(plan, arrays["values"], arrays["present"])
