"""Where training starts is part of an adapter's identity."""

import math

import numpy as np
import pytest
import torch

from lorastyle.adapters.initial import initial_factors, initial_vector
from lorastyle.adapters.layout import AdapterLayout, TargetModule

MODULES = [
    TargetModule("a.attn1.to_q", "self_attention", 64, 320),
    TargetModule("a.attn2.to_k", "cross_attention", 64, 768),
    TargetModule("a.ff.net.2", "feed_forward", 64, 1280),
]


@pytest.fixture
def layout():
    return AdapterLayout.of_modules(16, MODULES)


def test_lora_b_is_zero_and_lora_a_has_pefts_distribution(layout):
    torch.manual_seed(0)
    for (module, factor), values in initial_factors(layout, 5).items():
        if factor == "B":
            assert not values.any(), module
            continue
        reference = torch.empty(values.shape)
        torch.nn.init.kaiming_uniform_(reference, a=math.sqrt(5))
        bound = 1 / math.sqrt(values.shape[1])
        assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
        assert values.std() == pytest.approx(float(reference.std()), rel=0.03)
        assert abs(values.mean()) < 0.05 * bound


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(layout):
    np.testing.assert_array_equal(initial_vector(layout, 5), initial_vector(layout, 5))
    different = initial_vector(layout, 5) != initial_vector(layout, 6)
    assert different.sum() > 0.99 * 16 * (320 + 768 + 1280)


def test_modules_have_streams_of_their_own():
    twins = AdapterLayout.of_modules(
        4, [TargetModule(f"{name}.attn1.to_q", "self_attention", 8, 8) for name in "ab"]
    )
    factors = initial_factors(twins, 0)
    assert (factors["a.attn1.to_q", "A"] != factors["b.attn1.to_q", "A"]).all()


def test_a_sub_network_starts_where_the_full_adapter_does(layout):
    alone = AdapterLayout.of_modules(16, MODULES[2:])
    (columns,) = layout.columns("feed_forward")
    np.testing.assert_array_equal(initial_vector(alone, 5), initial_vector(layout, 5)[columns])


def test_known_values_do_not_change_between_releases(layout):
    """Databases made with different releases must share their initial factors."""
    values = initial_factors(layout, 0)["a.attn1.to_q", "A"]
    np.testing.assert_allclose(values[0, :3], [0.05394065, 0.04077685, 0.05006602], rtol=1e-6)
