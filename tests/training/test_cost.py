"""What is counted on tensors without contents, against formulas and against real steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of, target_modules
from lorastyle.base.unet_config import unet_config
from lorastyle.config import TrainingConfig
from lorastyle.errors import BaseModelError
from lorastyle.training.cost import SampleCost, adapters_that_fit, sample_cost
from lorastyle.training.counting import FusedAttention, LiveBytes

GIB = 2**30
TOKENS = 5


@pytest.fixture(scope="module")
def paper_cost() -> SampleCost:
    config = unet_config("stable-diffusion-v1-5/stable-diffusion-v1-5").values
    return sample_cost(config, TrainingConfig())


def test_stable_diffusion_costs_what_was_measured_of_it(paper_cost: SampleCost) -> None:
    """The figures were measured by other means, before this was written."""
    assert paper_cost.forward_flops == pytest.approx(0.803e12, rel=1e-3)
    assert paper_cost.training_flops == pytest.approx(1.740e12, rel=1e-3)
    assert paper_cost.saved_bytes == pytest.approx(0.86 * GIB, rel=0.01)
    assert paper_cost.n_parameters == 5_984_256
    assert paper_cost.state_bytes == 5_984_256 * (4 + 4 + 4 + 4 + 2)


def test_half_precision_halves_what_is_kept_and_adds_a_copy(
    unet: Any, settings: TrainingConfig
) -> None:
    half, single = (
        sample_cost(unet.config, settings, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    assert half.state_bytes == 18 * half.n_parameters
    assert single.state_bytes == 16 * single.n_parameters
    assert single.saved_bytes == pytest.approx(2 * half.saved_bytes, rel=0.02)
    assert single.training_flops == half.training_flops


def test_costs_grow_in_proportion_to_adapters() -> None:
    config = unet_config("miniature").values
    one, *others = (
        sample_cost(config, TrainingConfig(rank=4), dtype=torch.float32, n_adapters=n)
        for n in (1, 2, 4)
    )
    for more in others:
        assert more.forward_flops == one.forward_flops
        assert more.training_flops == one.training_flops
        assert more.saved_bytes == pytest.approx(one.saved_bytes, rel=1e-3)
        assert more.peak_bytes == pytest.approx(one.peak_bytes, rel=1e-3)
        assert more.state_bytes == one.state_bytes == 16 * one.n_parameters


@pytest.mark.parametrize("sub_network", ["full", "cross_attention"])
def test_operations_are_those_of_formulas_layer_by_layer(
    unet: Any, settings: TrainingConfig, sub_network: str
) -> None:
    settings = settings.model_copy(update={"sub_network": sub_network})
    forward, backward, branches = operations_by_hand(unet, settings)
    cost = sample_cost(unet.config, settings, n_tokens=TOKENS, dtype=torch.float32)
    assert cost.forward_flops == forward - branches
    assert cost.training_flops == forward + backward


def operations_by_hand(unet: Any, settings: TrainingConfig) -> tuple[int, int, int]:
    """Of one real sample: each layer's products by the shapes that it is really given.

    Forward, backward, and what of forward is in branches. Backward a frozen layer costs the
    same again where its input has a gradient.
    """
    work = {"forward": 0, "backward": 0, "branches": 0}
    linears = {id(linear) for linear in target_modules(unet, settings.sub_network).values()}

    def add(forward: int, backward: int) -> None:
        work["forward"] += forward
        work["backward"] += backward

    def note(layer: nn.Module, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
        has_gradient = given[0].requires_grad
        if isinstance(layer, nn.Conv2d):
            a_result = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            frozen = 2 * result.numel() * a_result
        else:
            linear: Any = getattr(layer, "linear", layer)
            n_rows = result.numel() // linear.out_features
            frozen = 2 * n_rows * linear.in_features * linear.out_features
            if linear is not layer:
                a_product = 2 * n_rows * settings.rank * linear.in_features
                b_product = 2 * n_rows * settings.rank * linear.out_features
                work["branches"] += a_product + b_product
                # Back through B and A, and the gradients of both.
                add(a_product + b_product, a_product * (1 + has_gradient) + 2 * b_product)
        add(frozen, frozen * has_gradient)

    def note_attention(layer: Any, args: Any, kwargs: Any, result: torch.Tensor) -> None:
        queries = args[0]
        context = kwargs.get("encoder_hidden_states")
        keys = queries if context is None else context
        product = 2 * len(queries) * queries.shape[1] * keys.shape[1] * layer.inner_dim
        add(2 * product, 4 * product * result.requires_grad)

    layout = layout_of(unet, settings.rank, settings.sub_network)
    with StackedAdapters(unet, layout, 1, scaling=1.0):
        for layer in unet.modules():
            if isinstance(layer, Attention):
                layer.register_forward_hook(note_attention, with_kwargs=True)
            elif (hasattr(layer, "linear") and id(layer.linear) in linears) or (
                isinstance(layer, nn.Linear | nn.Conv2d) and id(layer) not in linears
            ):
                layer.register_forward_hook(note)
        unet(*sample(unet, 1))
    return work["forward"], work["backward"], work["branches"]


def sample(unet: Any, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    config = unet.config
    latents = torch.randn(n, config.in_channels, config.sample_size, config.sample_size)
    text = torch.randn(n, TOKENS, config.cross_attention_dim)
    latents = latents.contiguous(memory_format=torch.channels_last)
    return latents, torch.zeros(n, dtype=torch.int64), text


@pytest.mark.parametrize("n_adapters", [1, 3])
def test_the_peak_is_what_a_real_step_takes_of_the_allocator(
    unet: Any, settings: TrainingConfig, n_adapters: int
) -> None:
    unet = unet.to(memory_format=torch.channels_last)
    layout = layout_of(unet, settings.rank)
    with StackedAdapters(unet, layout, n_adapters, scaling=1.0) as stack:

        def step() -> None:
            predicted = unet(*sample(unet, n_adapters), return_dict=False)[0]
            stack.backward(predicted.square().mean())

        step()  # what is made once: oneDNN's reordered weights
        measured = measured_peak(step)
    cost = sample_cost(unet.config, settings, n_tokens=TOKENS, dtype=torch.float32)
    assert n_adapters * cost.peak_bytes == pytest.approx(measured, rel=0.05)
    assert cost.saved_bytes < cost.peak_bytes


def measured_peak(step: Any) -> int:
    """Most bytes that PyTorch's allocator had given out at the same time, beyond the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    kineto: Any = profiled.profiler.kineto_results
    changes = [event for event in kineto.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_attention_keeps_what_pytorchs_fused_kernel_keeps() -> None:
    query, keys = torch.randn(2, 3, 40, 8), torch.randn(2, 3, 24, 8)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        scaled_dot_product_attention(
            query.requires_grad_(), keys.clone().requires_grad_(), keys.clone().requires_grad_()
        )
    with LiveBytes() as live:
        parts = [
            torch.empty(part.shape, device="meta", requires_grad=True)
            for part in (query, keys, keys)
        ]
        with FusedAttention(), live.saving():
            scaled_dot_product_attention(*parts)
    assert live.saved == sum(kept.values())


def test_attention_is_counted_as_its_six_products() -> None:
    """PyTorch's own counter, over attention written out: two products forward, four backward."""
    shapes = ((2, 3, 40, 8), (2, 3, 24, 8), (2, 3, 24, 8))
    parts = [torch.randn(shape, requires_grad=True) for shape in shapes]
    with FlopCounterMode(display=False) as written_out:
        scores = parts[0] @ parts[1].mT
        (scores.softmax(-1) @ parts[2]).sum().backward()
    meta = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]
    with FusedAttention() as fused:
        result = scaled_dot_product_attention(*meta)
        assert fused.flops == written_out.get_total_flops() / 3
        result.sum().backward()
    assert fused.flops == written_out.get_total_flops()


@pytest.mark.parametrize("free_gib", [0, 1, 40, 78.5])
@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("reserve", [0.0, 0.15])
def test_one_adapter_more_would_not_fit(
    paper_cost: SampleCost, free_gib: float, samples: int, reserve: float
) -> None:
    room = free_gib * GIB * (1 - reserve)

    def taken(n: int) -> int:
        return n * (paper_cost.state_bytes + samples * paper_cost.peak_bytes)

    fits = adapters_that_fit(free_gib * GIB, paper_cost, samples, reserve=reserve)
    assert taken(fits) <= room < taken(fits + 1)


def test_a_network_that_cannot_be_trained_so_is_refused() -> None:
    config = unet_config("miniature").values
    plain = {**config, "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    plain["mid_block_type"] = None
    with pytest.raises(BaseModelError, match="0 Linear layers"):
        sample_cost(plain, TrainingConfig())
    with pytest.raises(BaseModelError, match=r"cannot be counted .* take one of Stable"):
        sample_cost({**config, "block_out_channels": [7, 9]}, TrainingConfig())
    with pytest.raises(BaseModelError, match="cannot be counted"):
        sample_cost({**config, "class_embed_type": "timestep"}, TrainingConfig())
