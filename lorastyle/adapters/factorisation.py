"""Low-rank factors of updates that a file parametrises otherwise: LoHa, LoKr, full, DoRA.

Each function gives `lora_B @ lora_A` equal to the update, or its best approximation of
rank `max_rank` with the share of the squared norm that was cut off. Products of singular
values are never formed densely where the factors suffice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating]
Double = npt.NDArray[np.float64]

_NEGLIGIBLE = 1e-8
"""Singular values below this share of the largest are rounding of float32."""


class LowRank(NamedTuple):
    """An update as two factors: lora_B (out, r), lora_A (r, in), float32."""

    lora_B: npt.NDArray[np.float32]
    lora_A: npt.NDArray[np.float32]
    lost_energy: float
    """Share of the squared norm cut off, in [0, 1]; 0 where nothing was."""


class _SVD(NamedTuple):
    """left (m, k), values (k,), right (k, n), float64, in falling order."""

    left: Double
    values: Double
    right: Double


def of_product(lora_B: Matrix, lora_A: Matrix, max_rank: int) -> LowRank:
    """`lora_B @ lora_A` as it stands, or truncated: QR of both factors, SVD of an r x r core.

    Shapes: lora_B (out, r), lora_A (r, in).
    """
    if len(lora_A) <= max_rank:
        return LowRank(single(lora_B), single(lora_A), 0.0)
    return _truncated(_svd_of_product(lora_B, lora_A), max_rank)


def of_dense(update: Matrix, max_rank: int) -> LowRank:
    """A full difference (out, in). Cost: one product with its transpose and the leading
    eigenvectors on the smaller side, in float64.
    """
    return _truncated(_svd_of_dense(update, max_rank), max_rank, _energy(update))


def of_hadamard(
    first: tuple[Matrix, Matrix], second: tuple[Matrix, Matrix], max_rank: int
) -> LowRank:
    """LoHa: `(B1 @ A1) * (B2 @ A2)`, whose factors are row-wise products of rank r1 r2.

    Shapes: of each pair (out, r_i) and (r_i, in).
    Source: Hyeon-Woo et al. 2022, "FedPara".
    """
    (B1, A1), (B2, A2) = first, second
    rank = B1.shape[1] * B2.shape[1]
    lora_B = (_double(B1)[:, :, None] * _double(B2)[:, None, :]).reshape(-1, rank)
    lora_A = (_double(A1)[:, None, :] * _double(A2)[None, :, :]).reshape(rank, -1)
    return of_product(lora_B, lora_A, max_rank)


def of_kronecker(
    first: tuple[Matrix, Matrix] | Matrix, second: tuple[Matrix, Matrix] | Matrix, max_rank: int
) -> LowRank:
    """LoKr: `kron(W1, W2)`. Its singular values are the products of the two's, so the best
    approximation of any rank is found without forming it.

    Each W is a matrix or a pair of its factors (m, r) and (r, n).
    """
    one, two = _svd(first), _svd(second)
    products = np.multiply.outer(one.values, two.values).reshape(-1)
    n_kept = min(max_rank, max(1, int((products > _NEGLIGIBLE * products.max()).sum())))
    order = np.argsort(-products, kind="stable")[:n_kept]
    i, j = np.divmod(order, len(two.values))
    root = np.sqrt(products[order])
    # In single precision only now: the products are as large as the factors of the update.
    with np.errstate(over="ignore", invalid="ignore"):
        left = single(one.left[:, i] * root)[:, None, :] * single(two.left[:, j])[None]
        right = single(one.right[i] * root[:, None])[:, :, None] * single(two.right[j])[:, None]
    return LowRank(
        left.reshape(-1, n_kept),
        right.reshape(n_kept, -1),
        _lost(float((products[order] ** 2).sum()), float((products**2).sum())),
    )


def of_tucker(core: Matrix, down: Matrix) -> Matrix:
    """The `lora_A` of a Tucker (CP) convolution: core (r, s, kh, kw) after down (s, in).

    Returns (r, in * kh * kw), flattened as a convolution's weight is.
    """
    whole = np.einsum("rs...,si->ri...", _double(core), _double(down))
    return np.asarray(whole.reshape(len(core), -1))


def dora_update(
    weight: Matrix,
    lora_A: Matrix,
    lora_B: Matrix,
    scaling: float,
    magnitude: Matrix,
    max_rank: int,
    *,
    per_input: int = 0,
) -> LowRank:
    """DoRA with the base weights at hand: `m * V / ||V|| - W`, with `V = W + scaling * B @ A`.

    Norms and magnitude (out,) are those of output rows, as in PEFT. With `per_input`, the
    number of input channels, magnitude (per_input,) and norms are those of the columns of
    each channel, as LyCORIS with `wd_on_out=False` and OneTrainer write it.
    Shapes: weight (out, in), lora_A (r, in), lora_B (out, r). The update has full rank: it
    is truncated, and the cut reported.
    Source: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation".
    """
    base = _double(weight)
    moved = base + scaling * (_double(lora_B) @ _double(lora_A))
    m = _double(magnitude).reshape(-1)
    if per_input:
        channels = moved.reshape(len(moved), per_input, -1)
        norms = np.sqrt((channels**2).sum(axis=(0, 2)))
        update = (channels * _ratio(m, norms)[None, :, None]).reshape(base.shape) - base
    else:
        norms = np.linalg.norm(moved, axis=1)
        update = moved * _ratio(m, norms)[:, None] - base
    return of_dense(update, max_rank)


def _ratio(magnitude: Double, norms: Double) -> Double:
    """Of a row that is zero nothing is left, whatever its magnitude."""
    return np.divide(magnitude, norms, out=np.zeros_like(norms), where=norms > 0)


def _svd(value: tuple[Matrix, Matrix] | Matrix) -> _SVD:
    if isinstance(value, tuple):
        return _svd_of_product(*value)
    return _SVD(*np.linalg.svd(_double(value), full_matrices=False))


def _svd_of_product(lora_B: Matrix, lora_A: Matrix) -> _SVD:
    left, R = np.linalg.qr(_double(lora_B))
    right, L = np.linalg.qr(_double(lora_A).T)
    U, values, V = np.linalg.svd(R @ L.T, full_matrices=False)
    return _SVD(left @ U, values, V @ right.T)


def _svd_of_dense(update: Matrix, max_rank: int) -> _SVD:
    """Leading components only, from the Gram matrix of the smaller side."""
    from scipy.linalg import eigh

    D = _double(update)
    wide = D.shape[0] <= D.shape[1]
    gram = D @ D.T if wide else D.T @ D
    n = len(gram)
    n_kept = min(max_rank, n)
    _, vectors = eigh(gram, subset_by_index=(n - n_kept, n - 1))
    basis = vectors[:, ::-1]
    # The other side by projection: exact for the basis found, however small the value.
    other = basis.T @ D if wide else (D @ basis).T
    lengths = np.linalg.norm(other, axis=1)
    unit = np.divide(other, lengths[:, None], out=np.zeros_like(other), where=lengths[:, None] > 0)
    return _SVD(basis, lengths, unit) if wide else _SVD(unit.T, lengths, basis.T)


def _truncated(svd: _SVD, max_rank: int, total: float | None = None) -> LowRank:
    """The leading components, each factor with half of the singular value."""
    values = svd.values
    if total is None:
        total = float((values**2).sum())
    n_kept = min(max_rank, max(1, int((values > _NEGLIGIBLE * values.max()).sum())))
    root = np.sqrt(values[:n_kept])
    return LowRank(
        single(svd.left[:, :n_kept] * root),
        single(svd.right[:n_kept] * root[:, None]),
        _lost(float((values[:n_kept] ** 2).sum()), total),
    )


def _lost(kept: float, total: float) -> float:
    """In [0, 1]; what rounding alone explains counts as nothing."""
    share = 1.0 - kept / total if total > 0 else 0.0
    return share if share > 1e-12 else 0.0


def _energy(update: Matrix) -> float:
    return float((_double(update) ** 2).sum())


def _double(values: Matrix) -> Double:
    return np.asarray(values, np.float64)


def single(values: Matrix) -> npt.NDArray[np.float32]:
    """In float32, one row after another; infinite where float32 ends: callers look for that."""
    if values.dtype == np.float32:
        return np.ascontiguousarray(values)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def is_finite(values: npt.NDArray[np.float32]) -> bool:
    """Whether all numbers of an array are.

    By the sum of their squares, which takes one pass and no copy; number by number only where
    that overflows.
    """
    flat = values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.dot(flat, flat)
    return math.isfinite(squares) or bool(np.isfinite(flat).all())
