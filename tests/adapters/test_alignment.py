from __future__ import annotations

import numpy as np
import pytest

from lorastyle.adapters.alignment import (
    AlignedStack,
    AlignedSums,
    aligned_similarity,
    aligned_sums,
    stack_sums,
)
from lorastyle.adapters.kernel import FactorStack
from lorastyle.errors import LayoutMismatchError

RNG = np.random.default_rng(11)
OUT, IN = 17, 23
Pair = tuple[np.ndarray, np.ndarray]


def factors(n: int, rank: int, dtype: type = np.float64) -> Pair:
    lora_A = RNG.standard_normal((n, rank, IN)) + 0.7 * RNG.standard_normal((rank, IN))
    return lora_A.astype(dtype), RNG.standard_normal((n, OUT, rank)).astype(dtype)


def by_definition(first: list[np.ndarray], second: list[np.ndarray]) -> AlignedSums:
    """The formula on updates formed in full, projections by SVD."""
    sums = np.zeros((2, len(first), len(second)))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            norms = np.linalg.norm(one), np.linalg.norm(other)
            if min(norms) == 0:
                continue
            cosine = np.vdot(one, other) / (norms[0] * norms[1])
            reach = (
                np.linalg.norm(one @ projection(other)) / norms[0],
                np.linalg.norm(other @ projection(one)) / norms[1],
            )
            sums[:, i, j] = np.sqrt(norms[0] * norms[1]) * np.array([cosine, min(reach)])
    return AlignedSums(*sums)


def projection(update: np.ndarray) -> np.ndarray:
    _, singular, rows = np.linalg.svd(update)
    basis = rows[: int((singular > 1e-4 * singular[0]).sum())]
    return basis.T @ basis


def explicit(pair: Pair, scaling: object = 1.0) -> list[np.ndarray]:
    lora_A, lora_B = (factor.astype(np.float64) for factor in pair)
    scales = np.broadcast_to(np.asarray(scaling, np.float64), len(lora_A))
    return list((lora_B @ lora_A) * scales[:, None, None])


def similarity(*modules: AlignedSums) -> np.ndarray:
    return aligned_similarity(AlignedSums(*map(sum, zip(*modules, strict=True))))


@pytest.mark.parametrize("memory_bytes", [1, 9_000, 2**28])
def test_terms_equal_the_definition_for_every_tiling(memory_bytes):
    pair = factors(9, 4)
    found = aligned_sums(*pair, scaling=0.5, memory_bytes=memory_bytes)
    expected = by_definition(explicit(pair, 0.5), explicit(pair, 0.5))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
        np.testing.assert_array_equal(ours, ours.T)


@pytest.mark.parametrize("memory_bytes", [1, 9_000, 2**28])
def test_two_sets_of_different_rank_and_scaling_compare(memory_bytes):
    first, second = factors(6, 4), factors(5, 2)
    scales = RNG.uniform(0.5, 2, 6) * np.array([1, -1, 1, 1, -1, 1])
    found = aligned_sums(
        *first, *second, scaling=scales, other_scaling=3.0, memory_bytes=memory_bytes
    )
    expected = by_definition(explicit(first, scales), explicit(second, 3.0))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_stack_of_mixed_ranks_equals_the_definition():
    pairs = [tuple(part[0] for part in factors(1, rank)) for rank in (4, 1, 8, 4, 2)]
    stack = AlignedStack.of(FactorStack.of_pairs(pairs))
    deltas = [lora_B @ lora_A for lora_A, lora_B in pairs]
    for memory_bytes in (1, 2**20):
        found = stack_sums(stack, memory_bytes=memory_bytes)
        for ours, theirs in zip(found, by_definition(deltas, deltas), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_float32_factors_are_as_good_as_float32():
    pair = factors(8, 4, np.float32)
    found = aligned_similarity(aligned_sums(*pair))
    expected = aligned_similarity(by_definition(explicit(pair), explicit(pair)))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_gauge_padding_and_strength_do_not_matter():
    modules = [factors(6, 4), factors(6, 4)]
    expected = similarity(*(aligned_sums(*pair) for pair in modules))
    turned = []
    for lora_A, lora_B in modules:
        basis = RNG.standard_normal((6, 4, 4)) + 3 * np.eye(4)
        # Padding on one side only: what the other side holds there changes no update.
        padded_A = np.concatenate([np.linalg.inv(basis) @ lora_A, RNG.random((6, 2, IN))], axis=1)
        padded_B = np.concatenate([lora_B @ basis, np.zeros((6, OUT, 2))], axis=2)
        turned.append((padded_A, padded_B))
    strength = RNG.uniform(0.1, 10, 6)
    found = similarity(*(aligned_sums(*pair, scaling=strength) for pair in turned))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    across = similarity(
        *(aligned_sums(*one, *two) for one, two in zip(turned, modules, strict=True))
    )
    np.testing.assert_allclose(across, expected, atol=1e-9)


def test_it_is_the_cosine_where_all_adapters_share_their_row_space():
    shared = RNG.standard_normal((4, IN))
    lora_A = RNG.standard_normal((7, 4, 4)) @ shared
    lora_B = RNG.standard_normal((7, OUT, 4))
    deltas = np.stack(explicit((lora_A, lora_B))).reshape(7, -1)
    unit = deltas / np.linalg.norm(deltas, axis=1, keepdims=True)
    np.testing.assert_allclose(
        aligned_similarity(aligned_sums(lora_A, lora_B)), unit @ unit.T, atol=1e-9
    )


def test_no_update_in_the_others_row_space_is_more_alike_than_the_limit_says():
    one, (row_space, _) = factors(1, 3), factors(1, 5)
    wanted = explicit(one)[0]
    best = wanted @ projection(row_space[0])  # the nearest point of the space has the best angle
    limit = np.linalg.norm(best) / np.linalg.norm(wanted)
    directions = RNG.standard_normal((2_000, OUT, 5)) @ row_space[0]
    cosines = (directions * wanted).sum((1, 2)) / np.linalg.norm(directions, axis=(1, 2))
    assert (cosines / np.linalg.norm(wanted)).max() < limit
    assert np.vdot(best, wanted) / np.linalg.norm(best) / np.linalg.norm(wanted) == (
        pytest.approx(limit)
    )


def test_similarities_stay_within_one_and_are_one_with_itself():
    lora_A, lora_B = factors(12, 2, np.float32)
    lora_B[3] = 0
    found = aligned_similarity(aligned_sums(lora_A, lora_B))
    assert np.abs(found).max() <= 1
    expected = np.ones(12)
    expected[3] = 0
    np.testing.assert_array_equal(np.diagonal(found), expected)
    assert not found[3].any()


def test_a_module_that_one_of_two_leaves_alone_does_not_count():
    (first_A, first_B), second = factors(4, 3), factors(4, 3)
    alone = aligned_similarity(aligned_sums(*second))
    first_B[0] = 0
    both = similarity(aligned_sums(first_A, first_B), aligned_sums(*second))
    np.testing.assert_allclose(both[0], alone[0], atol=1e-12)
    assert np.abs(both[1, 2:] - alone[1, 2:]).min() > 1e-3


def test_modules_of_different_shape_are_refused():
    lora_A, lora_B = factors(2, 3)
    with pytest.raises(LayoutMismatchError, match="different modules"):
        aligned_sums(lora_A, lora_B, lora_A[:, :, 1:], lora_B)


def planted(n: int, rank: int, tilt: float, seeds: np.ndarray) -> Pair:
    """Pairs of gradients with cosine 0.6, in input directions tilted by what the seed drew.

    Each of `rank` common input directions mu_k is learned as cos(tilt) mu_k + sin(tilt) xi_k,
    where xi_k belongs to the seed. Shapes: n updates for each of two styles, (2, n, ...).
    """
    rng = np.random.default_rng(3)
    width = 400
    common = np.linalg.qr(rng.standard_normal((width, width)))[0][:rank]
    drawn = np.stack(
        [np.random.default_rng(int(seed)).standard_normal((rank, width)) for seed in seeds]
    )
    drawn -= drawn @ common.T @ common
    drawn = np.swapaxes(np.linalg.qr(np.swapaxes(drawn, -1, -2))[0], -1, -2)
    lora_A = np.cos(tilt) * common + np.sin(tilt) * drawn
    style, other = rng.standard_normal((2, 1, 50, rank))
    other = 0.6 * style + 0.8 * other
    return np.stack([lora_A, lora_A]), np.stack(
        [np.broadcast_to(one, (n, 50, rank)) for one in (style, other)]
    )


@pytest.mark.parametrize("tilt", [0.5, 0.9])
def test_on_tilted_input_directions_it_finds_the_gradients_cosine_for_any_seeds(tilt):
    n = 24
    seeds = np.arange(n)
    lora_A, lora_B = planted(n, 2, tilt, seeds)
    true = np.vdot(lora_B[0, 0], lora_B[1, 0]) / (
        np.linalg.norm(lora_B[0, 0]) * np.linalg.norm(lora_B[1, 0])
    )
    sums = aligned_sums(lora_A[0], lora_B[0], lora_A[1], lora_B[1])
    different = ~np.eye(n, dtype=bool)
    aligned = aligned_similarity(sums)
    # Not exactly: two random tilts in 400 dimensions are a little alike.
    assert aligned[different].mean() == pytest.approx(true, abs=0.003)
    np.testing.assert_allclose(np.diagonal(aligned), true, atol=1e-9)  # the same seed
    first, second = (np.stack(explicit((lora_A[k], lora_B[k]))).reshape(n, -1) for k in (0, 1))
    norms = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    plain = (first @ second.T / norms)[different].mean()
    assert plain == pytest.approx(true * np.cos(tilt) ** 2, rel=0.03)
