from __future__ import annotations

import numpy as np
import pytest

from lorastyle.embedding.product_sum import NumpySum, ProductSum, TorchSum, product_sum


@pytest.fixture(params=["numpy", "torch"])
def make_sum(request):
    """Where there is no GPU, torch's own CPU takes the same path."""
    return NumpySum if request.param == "numpy" else lambda shape: TorchSum(shape, "cpu")


@pytest.fixture
def panels() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((12, width)).astype(np.float32) for width in (40, 7, 300)]


def exact(panels: list[np.ndarray], first: int = 0) -> np.ndarray:
    whole = np.concatenate(panels, axis=1).astype(np.float64)
    return whole[first:] @ whole.T


def test_panels_add_up_to_the_product_of_the_whole(make_sum, panels):
    total: ProductSum = make_sum((12, 12))
    for panel in panels:
        total.add(panel)
    np.testing.assert_allclose(total.result(), exact(panels), atol=2e-6 * 347)
    np.testing.assert_array_equal(total.result(), total.result().T)


def test_others_are_multiplied_with_the_vectors(make_sum, panels):
    total: ProductSum = make_sum((5, 12))
    for panel in panels:
        total.add(panel, panel[7:])
    assert total.result().dtype == np.float64
    np.testing.assert_allclose(total.result(), exact(panels, 7), atol=2e-6 * 347)


def test_sums_are_float64_beside_a_large_one(make_sum):
    """A float32 sum of 1e8 and a hundred ones stays 1e8."""
    total: ProductSum = make_sum((1, 1))
    total.add(np.full((1, 1), 1e4, np.float32))
    for _ in range(100):
        total.add(np.ones((1, 1), np.float32))
    assert total.result()[0, 0] == 1e8 + 100


def test_a_sum_is_made_where_the_process_computes():
    assert product_sum((2, 2)).result().shape == (2, 2)
