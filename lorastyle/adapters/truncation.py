"""The updates of many adapters cut to their best approximation of a lower rank.

Of one module `dW = lora_B @ lora_A = U S V'`, and the best approximation of rank k is
`U_k U_k' dW` (Eckart and Young 1936). With `G = lora_B' lora_B`, the left singular vectors are
`lora_B G^-1/2 P`, where P are the eigenvectors of `G^1/2 (lora_A lora_A') G^1/2`, r x r, so

    dW_k = (lora_B G^-1/2 P_k) (P_k' G^1/2 lora_A).

Nothing larger than r x r is decomposed. A QR of both factors gives the same (`factorisation`,
for one adapter), but a batch of those takes several times as long.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Factors = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]

BATCH_NUMBERS = 2**22
"""Numbers of the factors that are held in float64 at once: 32 MiB."""
DEPENDENT = 1e-7
"""Singular values of a factor below this share of its largest are rounding of float32."""


def truncated(lora_A: Factors, lora_B: Factors, rank: int) -> tuple[Factors, Factors]:
    """Factors of the updates cut to `rank`; where they have no more, the factors as they are.

    Shapes: lora_A (n, r, in) and lora_B (n, out, r); the result (n, rank, in) and
    (n, out, rank), float32, computed in float64. The new `lora_B` has orthonormal columns.
    An update of zero stays zero. The scaling is the caller's: it does not move the cut.
    """
    n, own, n_in = lora_A.shape
    n_out = lora_B.shape[1]
    if own <= rank:
        return lora_A, lora_B
    down, up = np.empty((n, rank, n_in), np.float32), np.empty((n, n_out, rank), np.float32)
    step = max(1, BATCH_NUMBERS // (own * (n_in + n_out)))
    for first in range(0, n, step):
        part = slice(first, first + step)
        down[part], up[part] = _cut(lora_A[part], lora_B[part], rank)
    return down, up


def _cut(lora_A: Factors, lora_B: Factors, rank: int) -> tuple[Double, Double]:
    A, B = lora_A.astype(np.float64), lora_B.astype(np.float64)
    root, inverse = _roots(B.mT @ B)
    # In rising order: the leading directions are the last ones.
    _, vectors = np.linalg.eigh(root @ (A @ A.mT) @ root)
    leading = vectors[:, :, : -rank - 1 : -1]
    return (leading.mT @ root) @ A, B @ (inverse @ leading)


def _roots(squares: Double) -> tuple[Double, Double]:
    """G^1/2 and the pseudo-inverse of it, of G (n, r, r)."""
    values, vectors = np.linalg.eigh(squares)
    roots = np.sqrt(np.maximum(values, 0.0))
    real = roots > DEPENDENT * roots[:, -1:]
    inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=real)
    kept = np.where(real, roots, 0.0)
    return (vectors * kept[:, None, :]) @ vectors.mT, (vectors * inverse[:, None, :]) @ vectors.mT
