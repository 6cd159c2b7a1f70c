"""`Spectrum`: PCA of adapters known only by their inner products.

The centred n x n Gram matrix has the same non-zero spectrum as the p x p
covariance, which is therefore never built. Only inner products are needed, so
any kernel will do: a representation without vectors has a PCA too.
Source: Turk and Pentland 1991, "Eigenfaces for Recognition"; Schoelkopf et al.
1998, "Nonlinear component analysis as a kernel eigenvalue problem".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from lorastyle.errors import TooFewAdaptersError

Matrix = npt.NDArray[np.float64]

TIE = 1e-4
"""Scores this near the largest one, relatively, count as equal when a sign is chosen."""
ONE_THREAD = 3000
PART = 4
"""Fewer than a quarter of the eigenvectors are computed alone; more cost as much as all."""


class Spectrum:
    """Principal components of adapters known by their inner products.

    `centre=False` analyses them about the origin of the products instead of about
    their mean. Fitted attributes, with k components: `explained_variance_` (k,),
    the eigenvalue over n_fit - 1 (uncentred: over n_fit), and
    `explained_variance_ratio_` (k,), its share of the positive spectrum;
    `singular_values_` (k,), of the matrix of fit vectors; `scores_` (n_fit, k);
    `negative_share_`, the part of the absolute spectrum that is negative: 0 but
    for rounding where the inner products come from vectors. All eigenvalues are
    computed whatever `max_components` is, so ratio and share are of the whole.
    A component's sign makes its largest score by magnitude positive, the first of
    them where several are as large: it depends neither on chunking nor on the solver.
    """

    explained_variance_: Matrix
    explained_variance_ratio_: Matrix
    singular_values_: Matrix
    scores_: Matrix
    negative_share_: float

    def __init__(self, max_components: int | None = None, *, centre: bool = True) -> None:
        self.max_components = max_components
        self.centre = centre

    def fit(self, gram: Matrix) -> Self:
        """Fit on the inner products (n_fit, n_fit) of the fit adapters.

        Centred, they may be taken about any origin, and at most n_fit - 1 components
        are kept, since centring costs a rank. None is kept whose eigenvalue is lost
        in rounding, n_fit times float64's of the largest. Raises TooFewAdaptersError
        below two adapters (uncentred: one), or where all are the same (zero).
        """
        gram = np.asarray(gram, dtype=np.float64)
        n_fit, needed = len(gram), 2 if self.centre else 1
        if n_fit < needed:
            raise TooFewAdaptersError(
                f"PCA needs at least {needed} adapters, not {n_fit}; train more"
            )
        means = gram.mean(axis=0)
        most = n_fit - 1 if self.centre else n_fit
        limit = most if self.max_components is None else min(most, self.max_components)
        spectrum, eigenvectors = _decompose(centred(gram) if self.centre else gram, limit)
        kept = min(limit, self._n_real(spectrum, gram))
        positive, negative = spectrum[spectrum > 0].sum(), -spectrum[spectrum < 0].sum()
        share = float(negative / (positive + negative))
        eigenvectors = with_signs(eigenvectors[:, :kept])
        return self._keep(spectrum[:kept], eigenvectors, means, float(positive), share)

    @property
    def n_components_(self) -> int:
        """How many components were kept."""
        return len(self._eigenvalues)

    @property
    def n_fit_(self) -> int:
        """How many adapters were fitted on."""
        return len(self._eigenvectors)

    @property
    def weights_(self) -> Matrix:
        """Weights (n_fit, k): `weights_.T @ (fit vectors - mean)` are the components."""
        return np.asarray(self._eigenvectors / np.sqrt(self._eigenvalues))

    def transform(self, cross: Matrix, means: Matrix | None = None) -> Matrix:
        """Scores (m, k) from the inner products (m, n_fit) with the fit adapters.

        Both sides must be taken about the origin that the fitted Gram matrix was. Where
        a centred spectrum meets products about another one, `means` (n_fit,) are the mean
        products of the fit adapters with each of them about that origin: zeros where it
        is their own mean.
        """
        cross = np.asarray(cross, dtype=np.float64)
        if self.centre:
            cross = centred_cross(cross, self._means if means is None else means)
        return np.asarray(cross @ self.weights_)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All that `from_arrays` needs to place unseen adapters, bit for bit."""
        return {
            "eigenvalues": self._eigenvalues,
            "eigenvectors": self._eigenvectors,
            "means": self._means,
            "total": np.array(self._total),
            "negative_share": np.array(self.negative_share_),
            "centre": np.array(self.centre),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """A fitted spectrum. Raises ValueError or KeyError for arrays that are not one's."""
        eigenvalues, eigenvectors, means = (
            np.ascontiguousarray(arrays[name], np.float64)
            for name in ("eigenvalues", "eigenvectors", "means")
        )
        fits = eigenvectors.shape == (len(means), len(eigenvalues)) and means.ndim == 1
        finite = all(np.isfinite(part).all() for part in (eigenvalues, eigenvectors, means))
        total, share = float(arrays["total"]), float(arrays["negative_share"])
        if not (fits and finite and (eigenvalues > 0).all() and total > 0 and 0 <= share < 1):
            raise ValueError("the arrays are not those of a spectrum")
        spectrum = cls(len(eigenvalues), centre=bool(arrays["centre"]))
        return spectrum._keep(eigenvalues, eigenvectors, means, total, share)

    def _n_real(self, spectrum: Matrix, gram: Matrix) -> int:
        n_fit = len(gram)
        # Rounding is relative to the uncentred entries, which may be far larger.
        largest = max(float(spectrum[0]), float(np.abs(np.diagonal(gram)).max()))
        real = int(np.sum(spectrum > n_fit * np.finfo(np.float64).eps * largest))
        if real == 0:
            what = "the same" if self.centre else "zero"
            raise TooFewAdaptersError(
                f"all {n_fit} adapters are {what}, there is nothing to analyse; train them "
                "on different images"
            )
        return real

    def _keep(
        self, eigenvalues: Matrix, eigenvectors: Matrix, means: Matrix, total: float, share: float
    ) -> Self:
        self._eigenvalues, self._eigenvectors = eigenvalues, eigenvectors
        self._means, self._total, self.negative_share_ = means, total, share
        self.singular_values_ = np.sqrt(eigenvalues)
        self.scores_ = eigenvectors * self.singular_values_
        self.explained_variance_ = eigenvalues / (len(means) - 1 if self.centre else len(means))
        self.explained_variance_ratio_ = eigenvalues / total
        return self


def centred(gram: Matrix) -> Matrix:
    """Inner products (n, n) about the mean, exactly symmetric.

    >>> centred(np.array([[1.0, 1.0], [1.0, 9.0]]))
    array([[ 2., -2.],
           [-2.,  2.]])
    """
    result = centred_cross(gram, gram.mean(axis=0))
    return np.asarray((result + result.T) / 2)


def centred_cross(cross: Matrix, means: Matrix) -> Matrix:
    """Inner products (m, n) of others with n adapters, moved to the n adapters' mean.

    `means` (n,) are the mean products of the n adapters with each of them, about the
    same origin as `cross`.
    """
    return np.asarray(cross - cross.mean(axis=1, keepdims=True) - means[None, :] + means.mean())


def _decompose(matrix: Matrix, limit: int) -> tuple[Matrix, Matrix]:
    """All n eigenvalues, largest first, and the eigenvectors (n, >= limit) of the first."""
    # Threads pay for large matrices only; for small ones, on a busy machine, they cost tenfold.
    with threadpool_limits(1 if len(matrix) <= ONE_THREAD else None):
        return _decompose_now(np.asarray_chkfinite(matrix), max(limit, 1))


def _decompose_now(matrix: Matrix, limit: int) -> tuple[Matrix, Matrix]:
    if limit * PART >= len(matrix):
        eigenvalues, eigenvectors = scipy.linalg.eigh(matrix, check_finite=False)
        return eigenvalues[::-1], eigenvectors[:, ::-1]
    return _decompose_part(matrix, limit)


def _decompose_part(matrix: Matrix, limit: int) -> tuple[Matrix, Matrix]:
    # What eigh does, step by step: from the tridiagonal form, where the work is, every
    # eigenvalue comes almost for nothing, which eigh with a subset does not give.
    n = len(matrix)
    work, _ = lapack.dsytrd_lwork(n, lower=1)
    reflectors, diagonal, beside, tau, _ = lapack.dsytrd(matrix, lower=1, lwork=int(work))
    eigenvalues, _ = lapack.dsterf(diagonal, beside)
    _, vectors = scipy.linalg.eigh_tridiagonal(
        diagonal, beside, select="i", select_range=(n - limit, n - 1)
    )
    vectors = np.asfortranarray(vectors)
    below, turned = np.asfortranarray(reflectors[1:, :-1]), np.asfortranarray(vectors[1:])
    vectors[1:], _, _ = lapack.dormqr("L", "N", below, tau, turned, 64 * limit)
    return eigenvalues[::-1], vectors[:, ::-1]


def with_signs(eigenvectors: Matrix) -> Matrix:
    """The same vectors (n, k), each with the largest of its entries positive."""
    sizes = np.abs(eigenvectors)
    # Of two adapters, or of any symmetric set, scores come in pairs that only rounding tells
    # apart: the first of those as large as the largest decides.
    first = (sizes >= (1 - TIE) * sizes.max(axis=0)).argmax(axis=0)
    signs = np.sign(eigenvectors[first, np.arange(eigenvectors.shape[1])])
    return np.ascontiguousarray(eigenvectors * signs)
