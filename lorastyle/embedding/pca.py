"""`GramPCA`: PCA for few adapters (n) with very long vectors (p >> n).

The centred n x n Gram matrix has the same non-zero spectrum as the p x p
covariance, which is therefore never built. Only inner products are needed, so
any kernel will do: a representation without vectors has a PCA too.
Source: Turk and Pentland 1991, "Eigenfaces for Recognition"; Schoelkopf et al.
1998, "Nonlinear component analysis as a kernel eigenvalue problem".
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg

from lorastyle.embedding.products import products
from lorastyle.errors import TooFewAdaptersError

Matrix = npt.NDArray[np.float64]


class GramPCA:
    """Principal components of adapters known by their inner products.

    Fitted attributes, with k components: `explained_variance_` (k,) and
    `explained_variance_ratio_` (k,); `scores_` (n_fit, k);
    `negative_share_`, the part of the absolute spectrum that is negative: 0 but
    for rounding where the inner products come from vectors.
    Each component's largest score by magnitude is positive, so signs depend
    neither on chunking nor on the eigensolver.
    """

    explained_variance_: Matrix
    explained_variance_ratio_: Matrix
    scores_: Matrix
    negative_share_: float

    def __init__(self, max_components: int | None = None) -> None:
        self.max_components = max_components

    def fit(self, gram: Matrix) -> Self:
        """Fit on the inner products (n_fit, n_fit) of the fit adapters.

        They may be taken about any origin: centring removes it. Keeps at most
        n_fit - 1 components, since centring costs a rank, and none whose
        eigenvalue is lost in rounding. Raises TooFewAdaptersError below two
        adapters, or where all are the same.
        """
        gram = np.asarray(gram, dtype=np.float64)
        n_fit = len(gram)
        if n_fit < 2:
            raise TooFewAdaptersError(f"PCA needs at least 2 adapters, not {n_fit}; train more")
        self._means = gram.mean(axis=0)
        eigenvalues, eigenvectors = scipy.linalg.eigh(centred(gram), check_finite=True)
        eigenvalues, eigenvectors = eigenvalues[::-1], eigenvectors[:, ::-1]
        kept = self._n_kept(eigenvalues, gram)
        self._eigenvalues = eigenvalues[:kept]
        self._eigenvectors = _with_signs(eigenvectors[:, :kept])
        self._measure(eigenvalues, n_fit)
        return self

    def fit_vectors(self, vectors: Any) -> Self:
        """Fit on the vectors (n_fit, p) themselves, NumPy or Dask in any chunks.

        Held-out vectors are then projected with
        `transform(products(vectors, held_out))`.
        """
        return self.fit(products(vectors))

    @property
    def n_components_(self) -> int:
        """How many components were kept."""
        return len(self._eigenvalues)

    def transform(self, cross: Matrix) -> Matrix:
        """Scores (m, k) from the inner products (m, n_fit) with the fit adapters.

        Both sides must be taken about the origin that the fitted Gram matrix was.
        """
        cross = np.asarray(cross, dtype=np.float64)
        about_mean = (
            cross - cross.mean(axis=1, keepdims=True) - self._means[None, :] + self._means.mean()
        )
        return np.asarray(about_mean @ (self._eigenvectors / np.sqrt(self._eigenvalues)))

    def components(self, vectors: Any) -> Any:
        """The components (k, p) themselves, from the fit vectors (n_fit, p).

        NumPy gives NumPy and a Dask array stays lazy: only who asks pays for k x p.
        """
        weights = self._eigenvectors / np.sqrt(self._eigenvalues)
        # Columns of `weights` sum to zero, so the mean drops out by itself; taking it
        # away first keeps float32 vectors with a large mean exact.
        return weights.T @ (vectors - vectors.mean(axis=0))

    def _n_kept(self, eigenvalues: Matrix, gram: Matrix) -> int:
        n_fit = len(gram)
        # Rounding is relative to the uncentred entries, which may be far larger.
        largest = max(float(eigenvalues[0]), float(np.abs(np.diagonal(gram)).max()))
        real = int(np.sum(eigenvalues > n_fit * np.finfo(np.float64).eps * largest))
        if real == 0:
            raise TooFewAdaptersError(
                f"all {n_fit} adapters are the same, there is nothing to analyse; train them "
                "on different images"
            )
        limit = n_fit - 1 if self.max_components is None else self.max_components
        return min(real, n_fit - 1, limit)

    def _measure(self, eigenvalues: Matrix, n_fit: int) -> None:
        kept = self._eigenvalues
        self.scores_ = self._eigenvectors * np.sqrt(kept)
        self.explained_variance_ = kept / (n_fit - 1)
        positive = eigenvalues[eigenvalues > 0].sum()
        self.explained_variance_ratio_ = kept / positive
        self.negative_share_ = float(
            -eigenvalues[eigenvalues < 0].sum() / np.abs(eigenvalues).sum()
        )


def centred(gram: Matrix) -> Matrix:
    """Inner products (n, n) about the mean, exactly symmetric.

    >>> centred(np.array([[1.0, 1.0], [1.0, 9.0]]))
    array([[ 2., -2.],
           [-2.,  2.]])
    """
    means = gram.mean(axis=0)
    result = gram - means[None, :] - means[:, None] + means.mean()
    return np.asarray((result + result.T) / 2)


def _with_signs(eigenvectors: Matrix) -> Matrix:
    largest = np.abs(eigenvectors).argmax(axis=0)
    signs = np.sign(eigenvectors[largest, np.arange(eigenvectors.shape[1])])
    return np.asarray(eigenvectors * signs)
