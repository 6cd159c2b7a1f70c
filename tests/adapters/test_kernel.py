from __future__ import annotations

import numpy as np
import pytest

from lorastyle.adapters.kernel import cosine_of, delta_gram
from lorastyle.errors import LayoutMismatchError

RNG = np.random.default_rng(5)
OUT, IN = 30, 21


def factors(n: int, rank: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    lora_A = RNG.standard_normal((n, rank, IN)).astype(dtype)
    return lora_A, RNG.standard_normal((n, OUT, rank)).astype(dtype)


def explicit(lora_A: np.ndarray, lora_B: np.ndarray, scaling: object = 1.0) -> np.ndarray:
    """Every update formed, in float64, and flattened: (n, out in)."""
    deltas = lora_B.astype(np.float64) @ lora_A.astype(np.float64)
    scales = np.broadcast_to(np.asarray(scaling, np.float64), len(lora_A))
    return (deltas * scales[:, None, None]).reshape(len(lora_A), -1)


@pytest.mark.parametrize("memory_bytes", [1, 5_000, 20_000, 2**28])
def test_the_kernel_equals_explicit_updates_for_every_tiling(memory_bytes):
    lora_A, lora_B = factors(13, 4)
    deltas = explicit(lora_A, lora_B, 0.5)
    gram = delta_gram(lora_A, lora_B, scaling=0.5, memory_bytes=memory_bytes)
    np.testing.assert_allclose(gram, deltas @ deltas.T, rtol=2e-6, atol=2e-6 * gram.max())
    np.testing.assert_array_equal(gram, gram.T)


def test_double_precision_factors_give_double_precision_products():
    lora_A, lora_B = factors(9, 3, np.float64)
    deltas = explicit(lora_A, lora_B)
    np.testing.assert_allclose(delta_gram(lora_A, lora_B), deltas @ deltas.T, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("memory_bytes", [1, 6_000, 2**28])
def test_adapters_of_different_rank_and_scaling_compare(memory_bytes):
    first, second = factors(7, 4), factors(5, 2)
    scales = RNG.uniform(0.5, 2, 7)
    gram = delta_gram(
        *first, *second, scaling=scales, other_scaling=0.25, memory_bytes=memory_bytes
    )
    expected = explicit(*first, scales) @ explicit(*second, 0.25).T
    np.testing.assert_allclose(gram, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


def test_no_change_of_basis_inside_an_adapter_is_noticed():
    lora_A, lora_B = factors(6, 4, np.float64)
    basis = RNG.standard_normal((6, 4, 4)) + 3 * np.eye(4)
    turned_A, turned_B = np.linalg.inv(basis) @ lora_A, lora_B @ basis
    expected = delta_gram(lora_A, lora_B)
    np.testing.assert_allclose(delta_gram(turned_A, turned_B), expected, rtol=1e-9, atol=1e-9)
    mixed = delta_gram(turned_A, turned_B, lora_A, lora_B, other_scaling=1.0)
    np.testing.assert_allclose(mixed, expected, rtol=1e-9, atol=1e-9)


def test_a_rank_one_pair_worked_by_hand():
    """deltas [[1, 2], [0, 0]] and [[3, 0], [3, 0]]: squares 5 and 18, product 3."""
    lora_A = np.array([[[1.0, 2.0]], [[3.0, 0.0]]])
    lora_B = np.array([[[1.0], [0.0]], [[1.0], [1.0]]])
    np.testing.assert_allclose(delta_gram(lora_A, lora_B), [[5, 3], [3, 18]])
    np.testing.assert_allclose(delta_gram(lora_A, lora_B, scaling=2), [[20, 12], [12, 72]])


def test_the_cosine_of_a_zero_update_is_zero_not_nan():
    gram = np.array([[4.0, 0.0, 6.0], [0.0, 0.0, 0.0], [6.0, 0.0, 9.0]])
    np.testing.assert_allclose(cosine_of(gram), [[1, 0, 1], [0, 0, 0], [1, 0, 1]])


def test_the_cosine_ignores_how_strong_an_adapter_is():
    lora_A, lora_B = factors(5, 3, np.float64)
    weak = delta_gram(lora_A, lora_B, scaling=np.array([1, 1e-3, 50, 2, 7.0]))
    np.testing.assert_allclose(cosine_of(weak), cosine_of(delta_gram(lora_A, lora_B)), atol=1e-12)


def test_scalings_of_each_adapter_leave_the_matrix_symmetric():
    gram = delta_gram(*factors(9, 3), scaling=RNG.uniform(0.1, 3, 9))
    np.testing.assert_array_equal(gram, gram.T)


def test_factors_of_different_modules_are_refused():
    lora_A, lora_B = factors(3, 2)
    with pytest.raises(LayoutMismatchError, match="different modules"):
        delta_gram(lora_A, lora_B, lora_A[:, :, 1:], lora_B)
    with pytest.raises(LayoutMismatchError, match="do not belong together"):
        delta_gram(lora_A, lora_B[:2])
