"""A few thousand numbers for an adapter, whose inner products estimate those of its updates.

Each module's update is sketched by TensorSketch: every row i of `dW` gets a random
bucket h(i) and sign, every column j a bucket g(j) and sign, and entry (i, j) is added
to bucket h(i) + g(j) mod s. That is the circular convolution of a count sketch of B's
columns with one of A's rows, so `dW` is never formed:

    y = s sum_k irfft(rfft(C_out b_k) * rfft(C_in a_k)),   dW = s sum_k b_k a_k'

    E <y1, y2> = <dW1, dW2>
    Var <y1, y2> = (|X|^2 |Y|^2 + <X, Y>^2 + |X'Y|^2 + |XY'|^2 + 2 tr (XY')^2) / s

to leading order, for X = dW1 and Y = dW2 in which no entry dominates. The last three terms
are at most 4 |X|^2 |Y|^2, at rank one, and vanish as effective ranks grow.
The sketch is linear in `dW`: rank, gauge, alpha and file format leave it as it is.
What else was tried, and measured errors: docs/delta-kernel.md.
Source: Pham and Pagh 2013, "Fast and scalable polynomial kernels via explicit feature maps".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len

from lorastyle.adapters.count_sketch import CountSketches, SketchedModule
from lorastyle.adapters.kernel import Gram
from lorastyle.adapters.naming import part_of
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LayoutMismatchError

Matrix = npt.NDArray[np.float32]
Wanted = Callable[[ModuleKey], bool]

LEAST_SIZE = 16
"""Numbers of the least module: what matters little in most adapters may matter in one."""
DEFAULT_NUMBERS = 2**15
"""128 KiB an adapter: a standard error of the cosine of about 0.006."""


@dataclass(frozen=True)
class SketchPlan:
    """Which modules are sketched, in how many numbers each, and by which hash functions.

    Everything random follows from the seed, the module's name, its shape and size: the
    same plan gives the same sketch on every machine, up to rounding.
    Raises LayoutMismatchError where there is nothing to sketch, or a module comes twice.
    """

    modules: tuple[SketchedModule, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        names = {module.key for module in self.modules}
        if not names or len(names) != len(self.modules):
            raise LayoutMismatchError(
                f"{len(self.modules)} modules with {len(names)} names cannot be sketched; "
                "name each module of the base model once"
            )
        if any(min(module.shape) < 1 or module.size < 1 for module in self.modules):
            raise LayoutMismatchError(
                "a module of a sketch has no size; give each at least one row, column and number"
            )

    @classmethod
    def of_shares(
        cls,
        shapes: Mapping[ModuleKey, tuple[int, int]],
        shares: Mapping[ModuleKey, float],
        n_numbers: int = DEFAULT_NUMBERS,
        seed: int = 0,
    ) -> SketchPlan:
        """About `n_numbers` together, spread by the share of the energy that a module has.

        Sizes in proportion to shares make the error of the whole least. Half the
        numbers go that way; the other half gives every part of the base model the
        same, so that a sub-network with little energy can still be told apart by itself.
        """
        parts = {key: part_of(*key) for key in shapes}
        of_part = dict.fromkeys(parts.values(), 0.0)
        for key, part in parts.items():
            of_part[part] += shares[key]
        total = sum(of_part.values())
        n_live = sum(share > 0 for share in of_part.values())
        if not n_live:
            return cls.of_shares(shapes, dict.fromkeys(shapes, 1.0), n_numbers, seed)
        modules = []
        for key, shape in sorted(shapes.items()):
            share, within = shares[key], of_part[parts[key]]
            weight = (share / total + share / within / n_live) / 2 if share > 0 else 0.0
            size = next_fast_len(max(LEAST_SIZE, round(weight * n_numbers)), real=True)
            modules.append(SketchedModule(key, shape, size))
        return cls(tuple(modules), seed)

    @classmethod
    def fitted(
        cls, adapters: Iterable[Adapter], n_numbers: int = DEFAULT_NUMBERS, seed: int = 0
    ) -> SketchPlan:
        """A plan for all modules that these adapters have, sizes after where their energy is.

        A few dozen do. Root mean square shares: the mean error over pairs is then least.
        """
        shapes: dict[ModuleKey, tuple[int, int]] = {}
        squares: dict[ModuleKey, float] = {}
        for adapter in adapters:
            energies = {key: update.energy() for key, update in adapter.updates.items()}
            total = sum(energies.values())
            for key, update in adapter.updates.items():
                shapes.setdefault(key, update.shape)
                share = energies[key] / total if total > 0 else 0.0
                squares[key] = squares.get(key, 0.0) + share**2
        return cls.of_shares(
            shapes, {key: square**0.5 for key, square in squares.items()}, n_numbers, seed
        )

    @property
    def n_numbers(self) -> int:
        """Of an adapter's sketch."""
        return sum(module.size for module in self.modules)

    @property
    def n_bytes(self) -> int:
        """Of an adapter's sketch, in float32. float16 halves it and adds no error that shows."""
        return 4 * self.n_numbers

    @cached_property
    def columns(self) -> dict[ModuleKey, slice]:
        """Where each module's numbers are in a sketch."""
        stops = np.cumsum([module.size for module in self.modules])
        return {
            module.key: slice(int(stop) - module.size, int(stop))
            for module, stop in zip(self.modules, stops, strict=True)
        }

    def sketch(self, adapter: Adapter) -> Matrix:
        """The sketch (n_numbers,) of one adapter; zero where it has no update.

        Modules that the plan does not have are left out. Raises LayoutMismatchError
        where one has another shape, or none is in the plan.
        """
        values = np.zeros(self.n_numbers, np.float32)
        found = [key for key in self.columns if key in adapter.updates]
        if not found:
            raise LayoutMismatchError(
                f"none of the {len(adapter)} modules of {adapter.name!r} is among the "
                f"{len(self.modules)} of the sketch; make a plan for its base model"
            )
        for rank, updates in _by_rank(adapter.updates[key] for key in found).items():
            if 2 * len(updates) >= len(self.modules):
                values += self._together(updates, rank)
                continue
            for update in updates:
                values[self.columns[update.key]] = self.sketch_stack(
                    update.lora_A[None], update.lora_B[None], update.key, update.scaling
                )[0]
        return values

    def _together(self, updates: Sequence[ModuleUpdate], rank: int) -> Matrix:
        """The sketch (n_numbers,) of updates of one rank, as if the other modules were zero."""
        sketches, given = self._sketches, {update.key: update for update in updates}
        rows, columns, scalings = [], [], []
        for key, (n_out, n_in), _ in sketches.modules:
            update = given.get(key)
            if update is None:
                rows.append(np.zeros((n_in, rank), np.float32))
                columns.append(np.zeros((n_out, rank), np.float32))
            else:
                _check_factors(key, (n_out, n_in), update.lora_A[None], update.lora_B[None])
                rows.append(update.lora_A.T)
                columns.append(update.lora_B)
            scalings.append(0.0 if update is None else update.scaling)
        found = sketches.convolved(np.concatenate(rows), np.concatenate(columns), rank)[0]
        values = np.empty(self.n_numbers, np.float32)
        sizes = [module.size for module in sketches.modules]
        values[self._order] = found * np.repeat(np.array(scalings, np.float32), sizes)
        return values

    def sketch_all(self, adapters: Sequence[Adapter]) -> SketchSet:
        """The sketches of many, one adapter in memory at a time if the sequence loads them."""
        values = np.empty((len(adapters), self.n_numbers), np.float32)
        present = np.empty((len(adapters), len(self.modules)), bool)
        for row in range(len(adapters)):
            adapter = adapters[row]
            values[row] = self.sketch(adapter)
            present[row] = [module.key in adapter.updates for module in self.modules]
        return SketchSet(self, values, present)

    def sketch_stack(
        self,
        lora_A: Matrix,
        lora_B: Matrix,
        key: ModuleKey,
        scaling: float | npt.ArrayLike = 1.0,
    ) -> Matrix:
        """One module of n adapters of one rank: (n, r, in) and (n, out, r) to (n, size).

        `scaling` is alpha / rank, one number or one an adapter.
        Raises LayoutMismatchError where the factors are not of this module.
        """
        sketches = self._sketches_of.get(key)
        if sketches is None:
            raise LayoutMismatchError(
                f"module '{key}' is not in the sketch's plan; make a plan for this base model"
            )
        _check_factors(key, sketches.modules[0].shape, lora_A, lora_B)
        n, rank = lora_A.shape[:2]
        columns = _columns(np.swapaxes(lora_B, 1, 2))
        values = sketches.convolved(_columns(lora_A), columns, rank)
        values *= np.broadcast_to(np.asarray(scaling, np.float32), n)[:, None]
        return values

    def prepare(self) -> None:
        """Draw what the first sketch would have to wait for."""
        _ = self._sketches, self._order

    @cached_property
    def _sketches_of(self) -> dict[ModuleKey, CountSketches]:
        """Of each module by itself."""
        return {module.key: CountSketches.of([module], self.seed) for module in self.modules}

    @cached_property
    def _sketches(self) -> CountSketches:
        """Of all modules together."""
        return CountSketches.of(self.modules, self.seed)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        """Of each number that all modules' sketches give together, where it belongs."""
        columns = [self.columns[module.key] for module in self._sketches.modules]
        return np.concatenate([np.arange(one.start, one.stop) for one in columns])


@dataclass(frozen=True, eq=False)
class SketchSet:
    """Sketches of n adapters, and estimates from them."""

    plan: SketchPlan
    values: Matrix
    """(n, n_numbers)."""
    present: npt.NDArray[np.bool_]
    """(n, modules): which of the plan's modules an adapter has."""

    @classmethod
    def joined(cls, parts: Sequence[SketchSet]) -> SketchSet:
        """The adapters of several sets, at least one, of one plan."""
        first = parts[0]
        values = np.concatenate([first._checked(part).values for part in parts])
        return cls(first.plan, values, np.concatenate([part.present for part in parts]))

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, chosen: Sequence[int] | npt.NDArray[np.intp] | slice) -> SketchSet:
        """Some of the adapters."""
        return SketchSet(self.plan, self.values[chosen], self.present[chosen])

    def inner(self, other: SketchSet | None = None, wanted: Wanted | None = None) -> Gram:
        """Unbiased estimates (n, m) of inner products, over the modules both have and `wanted`."""
        other = self._checked(other)
        chosen = self._numbers(wanted)
        return np.asarray(self.values[:, chosen] @ other.values[:, chosen].T, np.float64)

    def energy(self) -> Gram:
        """Estimates (n, modules) of each update's squared norm."""
        starts = [columns.start for columns in self.plan.columns.values()]
        squares = np.square(self.values, dtype=np.float64)
        return np.asarray(np.add.reduceat(squares, starts, axis=1))

    def cosine(self, other: SketchSet | None = None, wanted: Wanted | None = None) -> Gram:
        """Cosines (n, m) on the modules both have, 0 where nothing is shared or known.

        The cosines of the sketches themselves, with a standard error of about
        (1 - c^2) / sqrt(effective size). Exact norms would leave the estimate unbiased
        and make it worse, sqrt(1 + c^2): what a norm's estimate is off by, the inner product's is
        too. The bias is of the order of 1 / effective size.
        """
        there = self._checked(other)
        left, right = self._shared_energy(there, wanted)
        norms = np.sqrt(left * right)
        inner = self.inner(other, wanted)
        cosines = np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0)
        return np.clip(cosines, -1.0, 1.0)

    def coverage(
        self, other: SketchSet | None = None, wanted: Wanted | None = None
    ) -> npt.NDArray[np.int64]:
        """Number of the plan's modules that both have, (n, m)."""
        there, mask = self._checked(other), self._mask(wanted)
        left, right = self.present[:, mask], there.present[:, mask]
        return left.astype(np.int64) @ right.T.astype(np.int64)

    def effective_size(self, wanted: Wanted | None = None) -> npt.NDArray[np.float64]:
        """Of each adapter (n,): numbers of a sketch without modules that would err as much.

        `1 / sum of share^2 / size` over modules; n_numbers where sizes are in proportion
        to shares of the energy. 0 for a zero adapter.
        """
        mask = self._mask(wanted)
        sizes = np.array([module.size for module in self.plan.modules])[mask]
        energy = self.energy()[:, mask]
        error = (energy**2 / sizes).sum(axis=1)
        whole = energy.sum(axis=1) ** 2
        return np.asarray(np.divide(whole, error, out=np.zeros_like(whole), where=error > 0))

    def _shared_energy(self, there: SketchSet, wanted: Wanted | None) -> tuple[Gram, Gram]:
        mask = self._mask(wanted)
        left, right = self.present[:, mask], there.present[:, mask]
        return (
            self.energy()[:, mask] @ right.T.astype(np.float64),
            left.astype(np.float64) @ there.energy()[:, mask].T,
        )

    def _mask(self, wanted: Wanted | None) -> npt.NDArray[np.bool_]:
        return np.array([wanted is None or wanted(one.key) for one in self.plan.modules], bool)

    def _numbers(self, wanted: Wanted | None) -> slice | npt.NDArray[np.bool_]:
        if wanted is None:
            return slice(None)
        return np.repeat(self._mask(wanted), [module.size for module in self.plan.modules])

    def _checked(self, other: SketchSet | None) -> SketchSet:
        if other is not None and other.plan != self.plan:
            raise LayoutMismatchError(
                f"sketches of {self.plan.n_numbers} numbers with seed {self.plan.seed} and of "
                f"{other.plan.n_numbers} with seed {other.plan.seed} are of different plans; "
                "sketch both with one plan"
            )
        return self if other is None else other


def _by_rank(updates: Iterable[ModuleUpdate]) -> dict[int, list[ModuleUpdate]]:
    found: dict[int, list[ModuleUpdate]] = {}
    for update in updates:
        found.setdefault(update.rank, []).append(update)
    return found


def _columns(factors: Matrix) -> Matrix:
    """(n, r, width) as (width, n r)."""
    n, rank, width = factors.shape
    return np.ascontiguousarray(factors.reshape(n * rank, width).T, np.float32)


def _check_factors(key: ModuleKey, shape: tuple[int, int], lora_A: Matrix, lora_B: Matrix) -> None:
    n_out, n_in = shape
    belong = lora_A.ndim == lora_B.ndim == 3 and lora_A.shape[:2] == lora_B.shape[::2]
    if not belong or (lora_B.shape[1], lora_A.shape[2]) != (n_out, n_in):
        raise LayoutMismatchError(
            f"lora_A {lora_A.shape} and lora_B {lora_B.shape} are not of module '{key}', whose "
            f"update is {(n_out, n_in)}; make a plan for their base model"
        )
