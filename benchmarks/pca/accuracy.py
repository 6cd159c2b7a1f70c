"""How far a PCA is from the exact one, computed here in float64 with NumPy and SciPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from threadpoolctl import threadpool_limits

from lorastyle.store.adapter_store import AdapterStore

Matrix = npt.NDArray[np.float64]
Spectra = Mapping[str, tuple[Matrix, Matrix]]

BLOCK_BYTES = 2**27
"""Of the float64 blocks (n, w) that are multiplied, one for each core."""


def exact_spectra(store: AdapterStore, n_rows: int, n_components: int) -> Spectra:
    """Explained variances (k,) and scores (n, k) by sub-network, `full` among them."""
    grams = {name: _exact_gram(store, n_rows, name) for name in store.sub_networks}
    grams["full"] = np.sum(list(grams.values()), axis=0)
    return {name: _spectrum(gram, n_components) for name, gram in grams.items()}


def _exact_gram(store: AdapterStore, n_rows: int, sub_network: str) -> Matrix:
    """Inner products (n, n) about the mean."""
    (columns,) = store.layout.columns(sub_network)
    width = max(1, BLOCK_BYTES // (8 * n_rows))
    starts = range(columns.start, columns.stop, width)
    gram = np.zeros((n_rows, n_rows))

    def product(start: int) -> Matrix:
        part = slice(start, min(start + width, columns.stop))
        block = store.read_columns(range(n_rows), part).astype(np.float64)
        block -= block.mean(axis=0)
        return np.asarray(block @ block.T)

    with threadpool_limits(1), ThreadPoolExecutor(cpu_count() or 1) as pool:
        for part in pool.map(product, starts):
            gram += part
    return gram


def _spectrum(gram: Matrix, n_components: int) -> tuple[Matrix, Matrix]:
    n = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(n - n_components, n - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    return values / (n - 1), vectors * np.sqrt(values)


def errors(found: Spectra, exact: Spectra, ks: Sequence[int]) -> dict[str, dict[str, Any]]:
    """By sub-network: the worst relative error of an explained variance, and subspace angles.

    `angles` has, for each k, the largest principal angle (radians) between the
    spaces that the first k columns of the scores span.
    """
    return {
        name: {
            "variance_error": float(np.abs(variances / exact[name][0] - 1).max()),
            "angles": {str(k): _largest_angle(scores, exact[name][1], k) for k in ks},
        }
        for name, (variances, scores) in found.items()
    }


def _largest_angle(scores: Matrix, exact: Matrix, k: int) -> float:
    angles = scipy.linalg.subspace_angles(scores[:, :k].astype(np.float64), exact[:, :k])
    return float(angles.max())
