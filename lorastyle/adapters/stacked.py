"""K adapters of one frozen U-Net in a single forward pass.

Every frozen operation runs once on the samples of all adapters; each LoRA
branch is a batched matrix product over adapters. Samples are adapter-major:
with S samples each, adapter k owns samples k*S to (k+1)*S - 1 of the batch.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from lorastyle.adapters.layout import AdapterLayout, FactorKey, Vector
from lorastyle.adapters.targets import target_modules
from lorastyle.errors import LayoutMismatchError


class StackedAdapters:
    """A context in which a U-Net's target layers carry K trainable LoRA branches.

    Inside it the U-Net is frozen and in evaluation mode (dropout off); its batch
    must hold K * S samples. On exit it is what it was before.

    `weights` (K, d) holds adapter k in row k, in layout order, at least in float32
    whatever the U-Net computes in; `backward` puts the gradient into `gradients`.
    After a change of `weights` call `refresh`: a U-Net of lower precision sees a copy.
    """

    def __init__(
        self, unet: nn.Module, layout: AdapterLayout, n_adapters: int, *, scaling: float
    ) -> None:
        self.layout = layout
        self.n_adapters = n_adapters
        self._unet = unet
        self._targets = _targets_of(unet, layout)
        self._before: list[tuple[nn.Parameter, bool]] = []
        self._was_training = unet.training
        some = next(unet.parameters())
        dtype = torch.promote_types(some.dtype, torch.float32)
        self.weights = nn.Parameter(
            torch.zeros(n_adapters, layout.size, dtype=dtype, device=some.device)
        )
        self.gradients = torch.zeros_like(self.weights, requires_grad=False)
        self.weights.grad = self.gradients
        # Rounded whole once a step, not factor by factor: 320 of them in Stable Diffusion.
        self._seen = self.weights.detach().to(some.dtype)
        self._factors = self._leaves()
        self._branches = {
            name: _StackedLinear(
                linear, self._factors[name, "A"], self._factors[name, "B"], scaling
            )
            for name, linear in self._targets.items()
        }

    def __enter__(self) -> Self:
        self._before = [(p, p.requires_grad) for p in self._unet.parameters()]
        self._was_training = self._unet.training
        self._unet.requires_grad_(False).eval()
        for name, branch in self._branches.items():
            self._unet.set_submodule(name, branch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name, linear in self._targets.items():
            self._unet.set_submodule(name, linear)
        self._unet.train(self._was_training)
        for parameter, required in self._before:
            parameter.requires_grad_(required)

    def load(self, k: int, vector: Vector) -> None:
        """Put an adapter vector (d,) into slot k."""
        if vector.shape != (self.layout.size,):
            raise LayoutMismatchError(
                f"slot {k} got a vector of shape {vector.shape}, the layout has "
                f"{self.layout.size} parameters; flatten it with that layout"
            )
        with torch.no_grad():
            self.weights[k].copy_(torch.from_numpy(vector))
        self.refresh()

    def refresh(self) -> None:
        """Let the U-Net see `weights` as they are now."""
        if self._seen.dtype != self.weights.dtype:
            with torch.no_grad():
                self._seen.copy_(self.weights)

    def vector(self, k: int) -> Vector:
        """A copy of slot k, (d,) float32."""
        return self.weights[k].detach().float().cpu().numpy().copy()

    def backward(self, loss: Tensor) -> None:
        """Put the gradient of a scalar into `gradients` (K, d), in place of what is there."""
        found = torch.autograd.grad(loss, list(self._factors.values()))
        parts = [each.flatten(1) for each in found]
        if self._seen.dtype == self.gradients.dtype:
            torch.cat(parts, dim=1, out=self.gradients)
        else:
            # Into another type, a GPU would copy the parts one by one.
            self.gradients.copy_(torch.cat(parts, dim=1))

    def _leaves(self) -> dict[FactorKey, Tensor]:
        """One leaf a factor, (K, r, in) or (K, out, r), sharing memory with what is seen.

        Slices that autograd sees would each cost a zero-filled (K, d) gradient.
        """
        return {
            entry.key: self._seen.detach()[:, entry.offset : entry.stop]
            .view(-1, *entry.shape)
            .requires_grad_()
            for entry in self.layout.entries
        }


class _StackedLinear(nn.Module):
    """A frozen Linear plus K LoRA branches, in place of that Linear."""

    def __init__(self, linear: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> None:
        super().__init__()
        self.linear = linear
        # Not parameters of the U-Net: they belong to the stack.
        self._factors = (lora_A, lora_B)
        self._scaling = scaling

    def forward(self, inputs: Tensor) -> Tensor:
        lora_A, lora_B = self._factors
        output: Tensor = _Branches.apply(  # type: ignore[no-untyped-call]
            inputs, lora_A, lora_B, self.linear.weight, self.linear.bias, self._scaling
        )
        return output


class _Branches(torch.autograd.Function):
    """x W' + b + scaling (x A') B', one A and B per adapter, and its gradient by hand.

    Autograd would keep the base output and the branch apart and add them in a
    pass of its own, forward and backward; here each product adds into the last.
    What is r wide is kept with r as its rows, (K, r, n): in the other orientation
    the same products took up to eight times as long on a CPU (n 256, out 384, r 4).
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        lora_A: Tensor,
        lora_B: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scaling: float,
    ) -> Tensor:
        n_adapters = lora_A.shape[0]
        output = nn.functional.linear(inputs, weight, bias)
        stacked = inputs.reshape(n_adapters, -1, inputs.shape[-1])
        hidden = torch.bmm(lora_A, stacked.mT).mul_(scaling)
        output.view(n_adapters, -1, output.shape[-1]).baddbmm_(hidden.mT, lora_B.mT)
        ctx.save_for_backward(stacked, hidden, lora_A, lora_B, weight)
        ctx.scaling, ctx.shape = scaling, inputs.shape
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        stacked, hidden, lora_A, lora_B, weight = ctx.saved_tensors
        gradient = gradients[0].reshape(*stacked.shape[:2], -1)
        grad_hidden = torch.bmm(lora_B.mT, gradient.mT).mul_(ctx.scaling)
        grad_B = torch.bmm(hidden, gradient).mT
        grad_A = torch.bmm(grad_hidden, stacked)
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = torch.matmul(gradient, weight)
            grad_inputs = grad_inputs.baddbmm_(grad_hidden.mT, lora_A).view(ctx.shape)
        return grad_inputs, grad_A, grad_B, None, None, None


def _targets_of(unet: nn.Module, layout: AdapterLayout) -> dict[str, nn.Linear]:
    """The layout's modules in the U-Net, checked for presence and shape."""
    linears = target_modules(unet)
    for name in layout.modules:
        if name not in linears:
            raise LayoutMismatchError(
                f"the layout has module {name!r}, which is none of the U-Net's "
                f"{len(linears)} target layers; use the base model it was made for"
            )
    for entry in layout.entries:
        linear = linears[entry.module]
        shape = {
            "A": (layout.rank, linear.in_features),
            "B": (linear.out_features, layout.rank),
        }[entry.factor]
        if shape != entry.shape:
            raise LayoutMismatchError(
                f"factor {entry.name!r} has shape {entry.shape} in the layout and needs {shape} "
                "on this U-Net; use the base model the layout was made for"
            )
    return {name: linears[name] for name in layout.modules}
