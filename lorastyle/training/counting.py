"""Counting what a piece of PyTorch computes and keeps, on tensors without contents.

On the *meta* device operations have shapes and no numbers: what a step of hours of training on
a GPU multiplies and holds in memory is counted on any machine in a second.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is open, bytes of the storages that operations make, until they are let go.

    What was there before, as parameters are, is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self.saved = 0
        """Of storages made, those that autograd kept for the backward pass, each once."""
        self._sizes: dict[int, int] = {}
        self._saved: set[int] = set()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """The forward pass: count what is saved in it. It stays alive, so no key comes twice."""
        with torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor):
            yield

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_key(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            if _key(tensor) not in given and _key(tensor) not in self._sizes:
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, key)

    def _save(self, tensor: Tensor) -> Tensor:
        key = _key(tensor)
        if key in self._sizes and key not in self._saved:
            self._saved.add(key)
            self.saved += self._sizes[key]
        return tensor

    def _let_go(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class FusedAttention(TorchFunctionMode):
    """Scaled dot-product attention as fused kernels have it: the score matrix is never kept.

    While it is open, every call of PyTorch's function keeps query, key, value, the result and
    the logarithm of each row's sum (float32) for the backward pass, as flash and
    memory-efficient attention do. `flops` is the work so far of those calls, two operations
    for a multiplication and an addition: two products forward and four backward. That fused
    kernels compute the scores again, a fifth product backward, is not counted: it is the
    price of a kernel, not of the mathematics. For tensors without contents only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is scaled_dot_product_attention:
            return _Attention.apply(*args[:3], self)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    """The shapes of fused attention; `counter.flops` grows in both passes."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, counter: FusedAttention
    ) -> Tensor:
        result = torch.empty_like(query)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, result, sums)
        ctx.counter = counter
        # Both products, of queries and keys and of scores and values, are as large.
        ctx.product = 2 * query.numel() * key.shape[-2]
        counter.flops += 2 * ctx.product
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        ctx.counter.flops += 4 * ctx.product
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def _tensors(values: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
