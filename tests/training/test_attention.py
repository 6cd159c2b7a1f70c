"""Whatever kernel computes attention, it is the attention of diffusers."""

import pytest
import torch
from torch.nn.attention import SDPBackend

from lorastyle.adapters.initial import initial_vector
from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of
from lorastyle.training import attention
from lorastyle.training.attention import (
    AttentionKernel,
    AttentionShape,
    candidates,
    fastest_attention,
    fastest_kernel,
)

MATH, FLASH = AttentionKernel(SDPBackend.MATH), AttentionKernel(SDPBackend.FLASH_ATTENTION)
ON_CPU = [MATH, FLASH, AttentionKernel(SDPBackend.MATH, 8), AttentionKernel(FLASH.backend, 16)]
SHAPE = AttentionShape(batch=2, n_heads=3, n_queries=12, n_keys=5, head_width=4)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(4, 4, 8, 8), torch.arange(4) * 100, torch.randn(4, 5, 16)


def output_and_gradient(unet, stack, batch):
    output = unet(*batch, return_dict=False)[0]
    stack.backward(output.square().sum())
    return output.detach(), stack.gradients.clone()


@pytest.mark.parametrize("kernel", ON_CPU, ids=str)
def test_a_chosen_kernel_changes_neither_output_nor_gradient(unet, batch, kernel):
    layout = layout_of(unet, 2)
    with StackedAdapters(unet, layout, 2, scaling=0.5) as stack:
        for k in range(2):
            stack.load(k, initial_vector(layout, k) + 0.02)
        expected = output_and_gradient(unet, stack, batch)
        with fastest_attention(unet, lambda: unet(*batch), kernels=[kernel]) as chosen:
            found = output_and_gradient(unet, stack, batch)
    assert len(chosen) == len(unet.attn_processors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_each_layer_is_tried_at_its_own_shape(unet, batch, monkeypatch):
    tried = []
    monkeypatch.setattr(attention, "fastest_kernel", lambda shape, *_: tried.append(shape) or MATH)
    with fastest_attention(unet, lambda: unet(*batch)):
        pass
    assert {(shape.n_queries, shape.n_keys) for shape in tried} == {
        (64, 64),
        (64, 5),
        (16, 16),
        (16, 5),
    }
    assert {shape.batch for shape in tried} == {4}


def test_processors_are_put_back_even_after_an_error(unet, batch):
    before = dict(unet.attn_processors)
    with (
        pytest.raises(ZeroDivisionError),
        fastest_attention(unet, lambda: unet(*batch), kernels=[MATH]),
    ):
        assert all(unet.attn_processors[name] is not before[name] for name in before)
        raise ZeroDivisionError
    assert unet.attn_processors == before


def test_the_fastest_is_taken_and_what_cannot_run_is_passed_over(monkeypatch):
    times = {MATH: 3.0, FLASH: 1.0, AttentionKernel(SDPBackend.CUDNN_ATTENTION): None}
    monkeypatch.setattr(attention, "_time", lambda kernel, *_: times[kernel])
    monkeypatch.setattr(attention, "_known", {})
    assert fastest_kernel(SHAPE, torch.float32, torch.device("cpu"), list(times)) == FLASH


def test_a_kernel_that_this_device_lacks_is_passed_over(monkeypatch):
    monkeypatch.setattr(attention, "_known", {})
    cudnn = AttentionKernel(SDPBackend.CUDNN_ATTENTION)
    on = (SHAPE, torch.float32, torch.device("cpu"))
    assert fastest_kernel(*on, [cudnn, MATH]) == MATH
    with pytest.raises(RuntimeError, match="none of 1"):
        fastest_kernel(*on, [cudnn])


def test_heads_that_no_kernel_is_written_for_are_tried_filled_up_too():
    for width, filled in ((40, 64), (80, 96), (160, 192), (64, 0)):
        kernels = candidates(SHAPE._replace(head_width=width))
        assert {kernel.padded_width for kernel in kernels} == {0, filled}
