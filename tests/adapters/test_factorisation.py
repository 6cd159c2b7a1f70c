"""Low-rank factors of other parametrisations, against the matrices themselves and PEFT's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from lorastyle.adapters import factorisation as fac


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def product(found):
    return found.lora_B.astype(np.float64) @ found.lora_A.astype(np.float64)


def best(matrix, rank):
    """The best approximation and the share of the squared norm it misses, by a full SVD."""
    U, s, V = np.linalg.svd(matrix, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ V[:rank], 1 - (s[:rank] ** 2).sum() / (s**2).sum()


def close(found, wanted, tolerance=2e-6):
    return np.linalg.norm(found - wanted) <= tolerance * max(np.linalg.norm(wanted), 1e-30)


def test_a_product_within_the_rank_stays_as_it_is():
    B, A = random(9, 3), random(3, 7)
    found = fac.of_product(B, A, 3)
    np.testing.assert_array_equal(found.lora_B, B.astype(np.float32))
    np.testing.assert_array_equal(found.lora_A, A.astype(np.float32))
    assert found.lost_energy == 0


@given(st.integers(1, 12), st.integers(1, 12), st.integers(2, 12), st.integers(1, 11))
def test_a_truncated_product_is_the_best_of_its_rank(out, into, rank, kept):
    B, A = random(out, rank), random(rank, into, seed=1)
    found = fac.of_product(B, A, kept)
    wanted, lost = best(B @ A, kept) if kept < rank else (B @ A, 0.0)
    assert close(product(found), wanted, 1e-5)
    assert found.lost_energy == pytest.approx(lost, abs=1e-9)
    assert len(found.lora_A) <= max(kept, 1)


@given(*(st.integers(1, 6) for _ in range(6)), st.integers(1, 40), st.booleans(), st.booleans())
def test_kronecker_products_are_numpys_or_the_best_of_their_rank(
    a, c, b, d, r1, r2, max_rank, whole_1, whole_2
):
    first, second = (random(a, r1), random(r1, c, seed=1)), (random(b, r2), random(r2, d, seed=2))
    dense = [first[0] @ first[1], second[0] @ second[1]]
    found = fac.of_kronecker(
        dense[0] if whole_1 else first, dense[1] if whole_2 else second, max_rank
    )
    wanted, lost = best(np.kron(*dense), max_rank)
    assert found.lost_energy == pytest.approx(lost, abs=1e-9)
    # Equal singular values leave the best approximation open; then only its error is defined.
    error = np.linalg.norm(product(found) - np.kron(*dense)) ** 2
    assert error == pytest.approx(np.linalg.norm(wanted - np.kron(*dense)) ** 2, abs=1e-8)
    assert len(found.lora_A) <= max_rank


@given(*(st.integers(1, 7) for _ in range(4)), st.integers(1, 50))
def test_hadamard_products_are_the_dense_ones(out, into, r1, r2, max_rank):
    first, second = (
        (random(out, r1), random(r1, into)),
        (random(out, r2, seed=1), random(r2, into, seed=1)),
    )
    dense = (first[0] @ first[1]) * (second[0] @ second[1])
    found = fac.of_hadamard(first, second, max_rank)
    wanted, lost = (dense, 0.0) if r1 * r2 <= max_rank else best(dense, max_rank)
    assert close(product(found), wanted, 1e-5)
    assert found.lost_energy == pytest.approx(lost, abs=1e-9)


@pytest.mark.parametrize("shape", [(30, 200), (200, 30), (40, 40)])
def test_a_full_difference_is_truncated_to_its_leading_components(shape):
    matrix = random(*shape) @ np.diag(0.7 ** np.arange(shape[1]))
    found = fac.of_dense(matrix, 5)
    wanted, lost = best(matrix, 5)
    assert close(product(found), wanted)
    assert found.lost_energy == pytest.approx(lost, rel=1e-6)
    assert 1e-3 < found.lost_energy < 0.5


def test_a_full_difference_of_low_rank_loses_nothing_and_shows_its_rank():
    matrix = random(50, 3) @ random(3, 80)
    found = fac.of_dense(matrix.astype(np.float32), 20)
    assert close(product(found), matrix)
    assert found.lost_energy < 1e-12
    assert len(fac.of_dense(matrix, 20).lora_A) == 3


def test_zero_updates_have_rank_one_and_lose_nothing():
    for found in (
        fac.of_dense(np.zeros((4, 6)), 3),
        fac.of_kronecker(np.zeros((2, 2)), random(2, 3), 3),
        fac.of_product(np.zeros((4, 5)), random(5, 6), 2),
    ):
        assert len(found.lora_A) == 1
        assert not product(found).any()
        assert found.lost_energy == 0


def test_a_tucker_core_is_the_convolution_after_the_convolution():
    core, down, up = random(3, 2, 5, 5), random(2, 7), random(11, 3)
    lora_A = fac.of_tucker(core, down)
    image = torch.from_numpy(random(1, 7, 8, 8))
    steps = nn.functional.conv2d(image, torch.from_numpy(down)[:, :, None, None])
    steps = nn.functional.conv2d(steps, torch.from_numpy(core))
    steps = nn.functional.conv2d(steps, torch.from_numpy(up)[:, :, None, None])
    whole = torch.from_numpy((up @ lora_A).reshape(11, 7, 5, 5))
    torch.testing.assert_close(nn.functional.conv2d(image, whole), steps)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 20)
        self.conv = nn.Conv2d(6, 20, 3)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_dora_is_what_peft_merges(name):
    torch.manual_seed(0)
    layers = Layers()
    before = getattr(layers, name).weight.detach().clone()
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["linear", "conv"], use_dora=True)
    adapted = getattr(get_peft_model(layers, config).base_model.model, name)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.rand_like(parameter))
    lora_A = adapted.lora_A["default"].weight.detach().numpy()
    lora_B = adapted.lora_B["default"].weight.detach().numpy()
    magnitude = adapted.lora_magnitude_vector["default"].weight.detach().numpy()
    adapted.merge()
    wanted = (adapted.base_layer.weight.detach() - before).reshape(20, -1).numpy()
    flat = before.reshape(20, -1).numpy()
    factors = (lora_A.reshape(4, -1), lora_B.reshape(20, 4), 3.0, magnitude)
    exact = fac.dora_update(flat, *factors, max_rank=24)
    assert close(product(exact), wanted, 5e-6)
    assert exact.lost_energy == 0
    cut = fac.dora_update(flat, *factors, max_rank=6)
    assert cut.lost_energy == pytest.approx(best(wanted.astype(np.float64), 6)[1], rel=1e-3)


def test_dora_per_input_restores_the_norms_of_input_channels():
    base, B, A = random(6, 8), random(6, 2), random(2, 8)
    magnitude = np.abs(random(4)) + 0.5
    found = fac.dora_update(base, A, B, 0.5, magnitude, 8, per_input=4)
    moved = (base + product(found)).reshape(6, 4, 2)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=(0, 2)), magnitude, rtol=1e-5)
    direction = (base + 0.5 * B @ A).reshape(6, 4, 2)
    ratio = moved / direction
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :, :1], ratio.shape), rtol=1e-4)
