"""K adapters in one pass are K merged models side by side."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of
from lorastyle.errors import LayoutMismatchError

K, S, RANK, SCALING = 3, 2, 4, 0.5


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    ).double()


@pytest.fixture
def layout(unet):
    return layout_of(unet, RANK)


@pytest.fixture
def vectors(layout):
    rng = np.random.default_rng(0)
    return 0.2 * rng.standard_normal((K, layout.size), dtype=np.float32)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(K * S, 4, 8, 8, generator=generator, dtype=torch.float64)
    text = torch.randn(K * S, 5, 12, generator=generator, dtype=torch.float64)
    return samples, torch.arange(K * S) * 50, text


def merged(unet, layout, vector):
    """The same U-Net with the update added to its weights."""
    unet, factors = deepcopy(unet), layout.unflatten(vector.astype(np.float64))
    for name in layout.modules:
        update = SCALING * factors[name, "B"] @ factors[name, "A"]
        unet.get_submodule(name).weight.data += torch.from_numpy(update)
    return unet


def test_the_forward_pass_equals_that_of_merged_models(unet, layout, vectors, batch):
    with StackedAdapters(unet, layout, K, scaling=SCALING) as stack, torch.no_grad():
        for k, vector in enumerate(vectors):
            stack.load(k, vector)
        together = unet(*batch).sample
    for k, vector in enumerate(vectors):
        own = slice(k * S, (k + 1) * S)
        with torch.no_grad():
            alone = merged(unet, layout, vector)(*(tensor[own] for tensor in batch)).sample
        torch.testing.assert_close(together[own], alone, rtol=1e-10, atol=1e-10)


def test_the_gradient_equals_finite_differences(unet, layout, vectors, batch):
    """One random direction for each of many factors, so that each is looked at by itself."""
    rng = np.random.default_rng(2)
    with StackedAdapters(unet, layout, K, scaling=SCALING) as stack:
        for k, vector in enumerate(vectors):
            stack.load(k, vector)

        def loss():
            return unet(*batch).sample.square().sum()

        stack.backward(loss())
        at, step = stack.weights.detach().clone(), 1e-5
        for entry in layout.entries[::3]:
            direction = torch.zeros_like(at)
            shape = (K, entry.size)
            direction[:, entry.offset : entry.stop] = torch.from_numpy(rng.standard_normal(shape))
            sides = []
            with torch.no_grad():
                for sign in (1, -1):
                    stack.weights.copy_(at + sign * step * direction)
                    sides.append(float(loss()))
            slope = (sides[0] - sides[1]) / (2 * step)
            expected = float((stack.gradients * direction).sum())
            assert slope == pytest.approx(expected, rel=1e-5), entry.name


def test_an_adapters_gradient_comes_from_its_own_samples(unet, layout, vectors, batch):
    with StackedAdapters(unet, layout, K, scaling=SCALING) as stack:
        for k, vector in enumerate(vectors):
            stack.load(k, vector)
        stack.backward(unet(*batch).sample[S : 2 * S].square().sum())
        rows = stack.gradients.abs().sum(dim=1)
    assert rows[0] == rows[2] == 0
    assert rows[1] > 0


def test_vectors_come_out_as_they_went_in(unet, layout, vectors):
    stack = StackedAdapters(unet, layout, K, scaling=SCALING)
    for k, vector in enumerate(vectors):
        stack.load(k, vector)
    taken = stack.vector(1)
    np.testing.assert_array_equal(taken, vectors[1])
    assert taken.dtype == np.float32
    stack.load(1, vectors[0])
    np.testing.assert_array_equal(taken, vectors[1])


def test_the_unet_is_restored_even_after_an_error(unet, layout):
    unet.train()
    unet.conv_in.requires_grad_(False)
    before = {name: type(module) for name, module in unet.named_modules()}
    required = [parameter.requires_grad for parameter in unet.parameters()]
    with (
        pytest.raises(RuntimeError, match="on the way"),
        StackedAdapters(unet, layout, K, scaling=SCALING),
    ):
        assert not unet.training
        assert not any(parameter.requires_grad for parameter in unet.parameters())
        raise RuntimeError("on the way")
    assert {name: type(module) for name, module in unet.named_modules()} == before
    assert [parameter.requires_grad for parameter in unet.parameters()] == required
    assert unet.training


def test_a_bfloat16_base_keeps_its_adapters_in_float32(unet, layout, vectors, batch):
    unet.bfloat16()
    with StackedAdapters(unet, layout, K, scaling=SCALING) as stack:
        for k, vector in enumerate(vectors):
            stack.load(k, vector)
        samples, timesteps, text = batch
        output = unet(samples.bfloat16(), timesteps, text.bfloat16()).sample
        stack.backward(output.float().square().sum())
    assert stack.weights.dtype == stack.gradients.dtype == torch.float32
    assert output.dtype == torch.bfloat16
    assert stack.gradients.isfinite().all() and stack.gradients.any()


def test_a_layout_of_another_unet_is_refused(unet, layout):
    foreign = AdapterLayout.of_modules(4, [TargetModule("x.attn1.to_q", "self_attention", 4, 4)])
    with pytest.raises(LayoutMismatchError, match=r"'x.attn1.to_q'"):
        StackedAdapters(unet, foreign, K, scaling=SCALING)
    name = layout.modules[0]
    wide = AdapterLayout.of_modules(4, [TargetModule(name, "self_attention", 16, 99)])
    with pytest.raises(LayoutMismatchError, match=r"\(4, 99\).*\(4, 16\)"):
        StackedAdapters(unet, wide, K, scaling=SCALING)


def test_a_vector_of_another_layout_is_refused(unet, layout):
    stack = StackedAdapters(unet, layout, K, scaling=SCALING)
    with pytest.raises(LayoutMismatchError, match="slot 2"):
        stack.load(2, np.zeros(3, np.float32))
