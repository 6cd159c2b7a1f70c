"""The fastest attention kernel for each shape in the U-Net, found by trying.

Stable Diffusion 1.x has heads 40, 80 and 160 wide, on 64 to 4,096 tokens, and no kernel is the
fastest at all of them, forward and backward; which one is depends on GPU, precision and release.
A trial takes a few milliseconds and is made once a process. CPUs are not tried: another kernel
rounds otherwise, and there a resumed training must end in the same bits.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

N_REPEATS = 5
"""Of which the fastest counts."""


class AttentionShape(NamedTuple):
    """What a kernel's speed depends on."""

    batch: int
    n_heads: int
    n_queries: int
    n_keys: int
    head_width: int


class AttentionKernel(NamedTuple):
    """A backend of PyTorch's, and to which width heads are filled up with zeros (0: as they are).

    Zeros change neither the products of queries and keys nor the weighted sums.
    """

    backend: SDPBackend
    padded_width: int = 0

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of (batch, heads, tokens, width) tensors."""
        width = query.shape[-1]
        if self.padded_width > width:
            missing = (0, self.padded_width - width)
            query, key, value = pad(query, missing), pad(key, missing), pad(value, missing)
        with sdpa_kernel(self.backend):
            found: Tensor = scaled_dot_product_attention(query, key, value, scale=width**-0.5)
        return found[..., :width]


class KernelAttention:
    """An attention processor of diffusers' for plain attention, with a kernel of ours."""

    def __init__(self, kernel: AttentionKernel) -> None:
        self.kernel = kernel

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            part.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        attended = self.kernel(query, key, value).transpose(1, 2).flatten(2)
        projected: Tensor = attn.to_out[0](attended)
        return projected


@contextmanager
def fastest_attention(
    unet: nn.Module, forward: Callable[[], object], *, kernels: Sequence[AttentionKernel] = ()
) -> Iterator[dict[str, AttentionKernel]]:
    """While it is open, each plain attention layer of `unet` uses the kernel fastest there.

    `forward` calls the U-Net once on a batch of the size to come; gives the kernels by layer.
    """
    shapes = _shapes(unet, forward)
    weight = next(unet.parameters())
    chosen = {
        name: fastest_kernel(shape, weight.dtype, weight.device, kernels or candidates(shape))
        for name, shape in shapes.items()
    }
    layers = {name: unet.get_submodule(name) for name in shapes}
    before: dict[str, Any] = {name: layer.processor for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.set_processor(KernelAttention(chosen[name]))  # type: ignore[operator]
        yield chosen
    finally:
        for name, layer in layers.items():
            layer.set_processor(before[name])  # type: ignore[operator]


def candidates(shape: AttentionShape) -> list[AttentionKernel]:
    """Kernels to try; the first is what nobody need regret where none could be timed."""
    backends = (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
    )
    kernels = [AttentionKernel(backend) for backend in backends]
    # What kernels are written for. 40 is none of them, nor is 80, nor 160.
    wider = next((width for width in (64, 96, 128, 192, 256) if width >= shape.head_width), 0)
    if wider > shape.head_width:
        kernels += [AttentionKernel(backend, wider) for backend in backends]
    return [*kernels, AttentionKernel(SDPBackend.MATH)]


_known: dict[tuple[object, ...], AttentionKernel] = {}


def fastest_kernel(
    shape: AttentionShape,
    dtype: torch.dtype,
    device: torch.device,
    kernels: Sequence[AttentionKernel],
) -> AttentionKernel:
    """The kernel whose forward and backward pass take least time; tried once a process.

    A kernel that does not know the shape is passed over. Raises RuntimeError where none does.
    """
    key = (shape, dtype, device, tuple(kernels))
    if key not in _known:
        times = {kernel: _time(kernel, shape, dtype, device) for kernel in kernels}
        able = {kernel: taken for kernel, taken in times.items() if taken is not None}
        if not able:
            raise RuntimeError(f"none of {len(kernels)} attention kernels runs {shape} in {dtype}")
        _known[key] = min(able, key=lambda kernel: able[kernel])
    return _known[key]


def _time(
    kernel: AttentionKernel, shape: AttentionShape, dtype: torch.dtype, device: torch.device
) -> float | None:
    """Seconds of one pass forward and backward; None where the kernel cannot."""

    def operand(n_tokens: int) -> Tensor:
        # As the layers' outputs lie in memory: tokens first, then heads.
        made = torch.randn(
            shape.batch, n_tokens, shape.n_heads, shape.head_width, dtype=dtype, device=device
        )
        return made.transpose(1, 2).requires_grad_()

    query, key, value = operand(shape.n_queries), operand(shape.n_keys), operand(shape.n_keys)
    gradient = torch.ones_like(query)
    taken = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch says at length why a kernel is not for this
            for _ in range(N_REPEATS):
                start = _now(device)
                torch.autograd.grad(kernel(query, key, value), [query, key, value], gradient)
                taken.append(_now(device) - start)
    except RuntimeError:  # no such kernel for this shape, precision or device; or no memory for it
        return None
    return min(taken)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _shapes(unet: nn.Module, forward: Callable[[], object]) -> dict[str, AttentionShape]:
    """The shape at each plain attention layer in one forward pass, by the layer's name."""
    found: dict[str, AttentionShape] = {}
    hooks = []
    for name, layer in unet.named_modules():
        if _is_plain(layer):

            def note(
                layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name
            ) -> None:
                inputs = args[0] if args else kwargs["hidden_states"]
                context = kwargs.get("encoder_hidden_states")
                context = inputs if context is None else context
                found[name] = AttentionShape(
                    len(inputs),
                    layer.heads,
                    inputs.shape[1],
                    context.shape[1],
                    layer.inner_dim // layer.heads,
                )

            hooks.append(layer.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_plain(layer: nn.Module) -> bool:
    """Attention that `KernelAttention` computes: with none of diffusers' extras."""
    from diffusers.models.attention_processor import Attention

    extras = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj")
    return (
        isinstance(layer, Attention)
        and not any(getattr(layer, extra, None) for extra in extras)
        and not layer.residual_connection
        and layer.rescale_output_factor == 1
    )
