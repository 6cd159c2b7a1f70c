"""PCA of more adapters than a Gram matrix can be made for: block Krylov, Rayleigh-Ritz.

For 100,000 adapters the n x n matrix is 80 GB and n^2 p operations are out of reach.
Its leading eigenvectors lie nearly in the space that a random block V and the products
G V, G G V, ... span; each product is one pass over the vectors. Of all that lies in that
space the best approximation is taken (Rayleigh-Ritz), and what it leaves of
G u - theta u is known without another pass: the error is computed, not hoped for.
Sources: Golub and Underwood 1977, "The block Lanczos method"; Musco and Musco 2015,
"Randomized block Krylov methods"; Parlett 1998, "The symmetric eigenvalue problem".
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from lorastyle.embedding.krylov_pass import (
    SUM_COLUMNS,
    GramProduct,
    Scheduler,
    Vectors,
    as_vectors,
    gram_times,
    project,
)
from lorastyle.embedding.spectrum import Spectrum, with_signs
from lorastyle.errors import TooFewAdaptersError
from lorastyle.progress import Progress, Silent

Columns = npt.NDArray[np.float64]


@dataclass(frozen=True)
class KrylovSpectrum:
    """Leading principal components of n adapters, with k proven to an error each.

    `error_bounds_` (k,) is in the units of `explained_variance_`: the norm of
    G u - theta u, and what float32 may round. For a symmetric matrix it proves that an
    eigenvalue lies within the bound of each one given; and Rayleigh-Ritz values never
    exceed, in their order, the true ones. The true error is mostly far smaller, about
    the square of the bound over the distance to the next eigenvalue.
    What it does not prove is that none between was missed. That needs a direction
    nearly at right angles to all l columns of the random start: the part of a
    direction in the start is the root of a chi-square of l degrees, and less than a
    tenth of the usual with a probability of 3e-25 at l = 30. For another opinion, fit
    with another seed. Nor does a bound on an eigenvalue bound its vector: where
    neighbours are nearer than it, they may be mixed, and their plane is what counts.
    """

    spectrum: Spectrum
    """Scores, variances and weights, as from the Gram matrix itself."""
    error_bounds_: Columns
    n_passes_: int
    converged_: bool
    """Whether all bounds are within the tolerance."""
    _vectors: Vectors = field(repr=False)

    @property
    def scores_(self) -> Columns:
        """Scores of the fit adapters: (n, k)."""
        return self.spectrum.scores_

    @property
    def explained_variance_(self) -> Columns:
        """Variance along each component: (k,)."""
        return self.spectrum.explained_variance_

    @property
    def explained_variance_ratio_(self) -> Columns:
        """Its share of the whole variance, which the first pass measures exactly: (k,)."""
        return self.spectrum.explained_variance_ratio_

    def transform(
        self, others: Any, *, memory_gib: float = 1.0, scheduler: Scheduler | None = None
    ) -> Columns:
        """Scores (m, k) of adapters (m, p) that the fit has not seen.

        `others` are AdapterVectors or an array. One pass over them and the fit adapters.
        """
        return project(
            self._vectors,
            as_vectors(others),
            self.spectrum.weights_,
            memory_gib=memory_gib,
            scheduler=scheduler,
        )


def krylov_spectrum(
    vectors: Any,
    n_components: int,
    *,
    n_oversamples: int | None = None,
    tolerance: float = 1e-4,
    max_passes: int = 8,
    seed: int = 0,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
    shown: Progress | None = None,
) -> KrylovSpectrum:
    """Principal components of vectors (n, p) without their Gram matrix.

    `vectors` are AdapterVectors or a float array. Makes passes until every bound is
    at most `tolerance` of its eigenvalue, warns where `max_passes` were not enough.
    A pass multiplies with `n_components + n_oversamples` columns (default: twice the
    components), which costs 4 n p operations each and saves passes. Components that
    rounding hides are left out: below 1e-7 of the first in float32. The same seed,
    vectors and memory give the same result. `memory_gib` is shared by four tasks; the
    calling process holds 16 bytes for each adapter, column and pass, and some sums.
    Raises TooFewAdaptersError below two adapters, or where all are the same, and
    StageError where the memory is too little.
    """
    source, shown = as_vectors(vectors), shown or Silent()
    n = source.shape[0]
    if n < 2 or n_components < 1:
        raise TooFewAdaptersError(
            f"PCA needs at least 2 adapters and 1 component, not {n} and {n_components}"
        )
    k = min(n_components, n - 1)
    width = min(n - 1, 2 * k if n_oversamples is None else k + n_oversamples)
    space = KrylovSpace(n, source.dtype)
    block = _orthonormal(np.random.default_rng(seed).standard_normal((n, width)))
    for _ in range(max(1, max_passes)):
        block = block.astype(source.dtype)
        made = gram_times(source, block, memory_gib=memory_gib, scheduler=scheduler)
        space.extend(block, made.product)
        pairs = space.ritz(k)
        shown.note(f"worst relative error bound {pairs.worst:.1e}")
        shown.advance()
        block = space.next_block()
        if pairs.cannot_improve(tolerance) or block.shape[1] == 0:
            break
    if pairs.worst > tolerance:
        _warn(pairs, tolerance, space.n_blocks)
    return KrylovSpectrum(
        _spectrum(pairs, made),
        pairs.bounds / (n - 1),
        space.n_blocks,
        pairs.worst <= tolerance,
        source,
    )


class RitzPairs(NamedTuple):
    """The best approximations in a space to the k largest eigenvalues, largest first."""

    values: Columns
    """(k,)."""
    vectors: Columns
    """Of unit length: (n, k)."""
    residuals: Columns
    """Length of G u - theta u: (k,)."""
    rounding: Columns
    """What rounding may have done to each value, see KrylovSpace: (k,)."""

    @property
    def bounds(self) -> Columns:
        """There is an eigenvalue this near to each value: (k,)."""
        return np.asarray(self.residuals + self.rounding)

    @property
    def worst(self) -> float:
        """The largest bound relative to its value."""
        return float((self.bounds / self.values).max())

    def cannot_improve(self, tolerance: float) -> bool:
        """Whether every value is known to the tolerance, or to rounding."""
        wanted = np.maximum(tolerance * self.values - self.rounding, self.rounding)
        return bool((self.residuals <= wanted).all())


class KrylovSpace:
    """An almost orthonormal basis (n, s), made of all blocks so far, and G times it.

    G is the centred Gram matrix. A block counts as it was multiplied, rounded to
    float32: so rounding it costs no accuracy, only that the basis is not quite
    orthonormal, which its own products (s, s) set right.

    A value is a sum of products of each row with the component: sums of `SUM_COLUMNS` = m
    terms in float32, with a rounding unit of u = eps / 2. With roundings that do not
    conspire their relative error is within sqrt(m) u, in any order that BLAS may take
    (m u is certain, and useless); and a row that lies in the component is as long as the
    largest singular value, at most. Source: Higham and Mary 2019, "A new approach to
    probabilistic rounding error analysis".
    """

    def __init__(self, n: int, dtype: np.dtype[Any]) -> None:
        self._exact_eps = n * float(np.finfo(np.float64).eps)
        self._eps = max(float(np.finfo(dtype).eps), self._exact_eps)
        self._sum_eps = max(float(np.finfo(dtype).eps) / 2 * SUM_COLUMNS**0.5, self._exact_eps)
        self._bases: list[Columns] = []
        self._products: list[Columns] = []
        self._overlap: Columns = np.empty((0, 0))
        self._form: Columns = np.empty((0, 0))

    @property
    def n_blocks(self) -> int:
        """Blocks added, each of which cost a pass."""
        return len(self._bases)

    def extend(self, block: npt.NDArray[Any], product: Columns) -> None:
        """Add a block (n, l) and the centred Gram matrix times it."""
        basis = block.astype(np.float64)
        # Centring the matrix from both sides was the same as centring the block.
        basis -= basis.mean(axis=0)
        self._bases.append(basis)
        self._products.append(product)
        self._overlap = _grown(self._overlap, [each.T @ basis for each in self._bases])
        self._form = _grown(self._form, [each.T @ product for each in self._bases])

    def ritz(self, k: int) -> RitzPairs:
        """Approximations to the k largest eigenvalues, fewer where rounding hides them.

        Raises TooFewAdaptersError where it hides all: the adapters are the same.
        """
        size = len(self._form)
        few = (max(0, size - k), size - 1)
        values, weights = scipy.linalg.eigh(self._form, self._overlap, subset_by_index=few)
        values, weights = values[::-1], weights[:, ::-1]
        real = values > self._eps * max(values[0], 0.0)
        if not real.any():
            raise TooFewAdaptersError(
                f"all {len(self._bases[0])} adapters are the same, there is nothing to analyse; "
                "train them on different images"
            )
        values, weights = values[real], weights[:, real]
        vectors = _combined(self._bases, weights)
        left = _combined(self._products, weights) - vectors * values
        rounding = self._sum_eps * np.sqrt(values[0] * values)
        return RitzPairs(values, vectors, np.linalg.norm(left, axis=0), rounding)

    def next_block(self) -> Columns:
        """What G made of the last block and the basis lacks: (n, <= l), orthonormal."""
        made = self._products[-1]
        lacking = self._beside(self._beside(made))
        orthonormal, upper, _ = scipy.linalg.qr(lacking, mode="economic", pivoting=True)
        # Of a space that is complete nothing is left but rounding.
        least = self._exact_eps * np.linalg.norm(made)
        block = orthonormal[:, np.abs(np.diagonal(upper)) > least]
        return _orthonormal(self._beside(block)) if block.shape[1] else block

    def _beside(self, block: Columns) -> Columns:
        for basis in self._bases:
            block = block - basis @ (basis.T @ block)
        return block


def _grown(matrix: Columns, parts: list[Columns]) -> Columns:
    """A symmetric (s, s) matrix with new last columns, in parts, and rows: (s + l, s + l)."""
    columns, old = np.vstack(parts), len(matrix)
    grown = np.empty((len(columns), len(columns)))
    grown[:old, :old] = matrix
    grown[:, old:] = columns
    grown[old:] = columns.T
    # Rounding told the two halves of the last block apart.
    grown[old:, old:] = (columns[old:] + columns[old:].T) / 2
    return grown


def _combined(blocks: list[Columns], weights: Columns) -> Columns:
    """All blocks side by side (n, s), times weights (s, k)."""
    edges = np.cumsum([block.shape[1] for block in blocks])[:-1]
    parts = np.split(weights, edges)
    return np.asarray(sum(block @ part for block, part in zip(blocks, parts, strict=True)))


def _orthonormal(block: Columns) -> Columns:
    """The centred block (n, l), orthonormalised."""
    return np.asarray(np.linalg.qr(block - block.mean(axis=0))[0])


def _spectrum(pairs: RitzPairs, made: GramProduct) -> Spectrum:
    return Spectrum.from_arrays(
        {
            "eigenvalues": pairs.values,
            "eigenvectors": with_signs(pairs.vectors),
            "means": made.means,
            "total": np.array(made.total),
            "negative_share": np.array(0.0),
            "centre": np.array(True),
        }
    )


def _warn(pairs: RitzPairs, tolerance: float, n_passes: int) -> None:
    # Imported late: scikit-learn takes a second, and all went well mostly.
    from sklearn.exceptions import ConvergenceWarning

    relative = pairs.bounds / pairs.values
    late = relative > tolerance
    warnings.warn(
        f"{int(late.sum())} of {len(late)} components are known to {relative.max():.1e} only, "
        f"not to {tolerance:.1e}, after {n_passes} passes; raise max_passes or n_oversamples, "
        "or ask for fewer components",
        ConvergenceWarning,
        stacklevel=3,
    )
