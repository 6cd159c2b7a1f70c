"""Updates cut to a rank, against the SVD of the updates themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.adapters import truncation
from lorastyle.adapters.truncation import truncated


def factors(rng: np.random.Generator, n: int, out: int, n_in: int, rank: int):
    lora_A = rng.standard_normal((n, rank, n_in)).astype(np.float32)
    return lora_A, rng.standard_normal((n, out, rank)).astype(np.float32)


def product(lora_A, lora_B) -> np.ndarray:
    return lora_B.astype(np.float64) @ lora_A.astype(np.float64)


def cut(updates: np.ndarray, rank: int) -> np.ndarray:
    U, values, V = np.linalg.svd(updates, full_matrices=False)
    return (U[:, :, :rank] * values[:, None, :rank]) @ V[:, :rank]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(6, 12),
    st.integers(6, 12),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_the_best_approximation_is_that_of_the_svd(seed, n, out, n_in, own, rank):
    pair = factors(np.random.default_rng(seed), n, out, n_in, own)
    found = truncated(*pair, rank)
    whole = product(*pair)
    # Where two singular values are close, either direction is a best one: the residual is the same.
    lost = np.linalg.norm(whole - product(*found), axis=(1, 2))
    least = np.linalg.norm(whole - cut(whole, rank), axis=(1, 2))
    np.testing.assert_allclose(lost, least, rtol=1e-5, atol=1e-5 * np.linalg.norm(whole))
    assert found[0].shape == (n, min(rank, own), n_in)
    assert found[1].shape == (n, out, min(rank, own))


def test_a_rank_that_is_not_lower_changes_nothing():
    pair = factors(np.random.default_rng(0), 3, 7, 5, 4)
    for rank in (4, 9):
        assert truncated(*pair, rank) == pair


def test_dependent_and_zero_factors_are_cut_as_their_product_is():
    """Rank 2 in factors of rank 5, padded with zeros or with copies; and an update of zero."""
    rng = np.random.default_rng(1)
    lora_A, lora_B = factors(rng, 4, 9, 8, 5)
    lora_B[0, :, 2:] = 0
    lora_A[1, 2:] = lora_A[1, :1]
    lora_B[2, :, 2:] = lora_B[2, :, :1]
    lora_B[3] = 0
    whole = product(lora_A, lora_B)
    for rank in (1, 2, 4):
        found = product(*truncated(lora_A, lora_B, rank))
        np.testing.assert_allclose(found, cut(whole, rank), atol=2e-6 * np.abs(whole).max())
    assert not truncated(lora_A, lora_B, 2)[0][3].any()


@pytest.mark.parametrize("ratio", [1e-3, 1e-5])
def test_a_lopsided_gauge_does_not_move_the_cut(ratio):
    """Strong rows of lora_A with weak columns of lora_B: the update is an ordinary one."""
    lora_A, lora_B = factors(np.random.default_rng(2), 3, 20, 15, 6)
    weights = np.geomspace(1, ratio, 6).astype(np.float32)
    found = product(*truncated(lora_A / weights[:, None], lora_B * weights, 3))
    expected = cut(product(lora_A, lora_B), 3)
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


def test_batches_do_not_show(monkeypatch):
    pair = factors(np.random.default_rng(3), 7, 12, 9, 5)
    whole = truncated(*pair, 2)
    monkeypatch.setattr(truncation, "BATCH_NUMBERS", 2 * 5 * 21)
    for part, expected in zip(truncated(*pair, 2), whole, strict=True):
        np.testing.assert_array_equal(part, expected)
