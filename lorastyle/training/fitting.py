"""As many adapters in one stack as the device's memory takes: by count, then by trying."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from lorastyle.errors import BaseModelError
from lorastyle.training.cost import adapters_that_fit, sample_cost
from lorastyle.training.settings import TrainingSettings, samples_a_step

Item = TypeVar("Item")
Result = TypeVar("Result")


def stack_that_fits(
    unet: nn.Module, settings: TrainingSettings, device: torch.device, *, share: float = 1.0
) -> int | None:
    """How many adapters a GPU's free memory takes beside what lies in it now, 1 at least.

    To be asked once, when the base model has been loaded. `share` is the part of the GPU that
    this process may have. None where nothing is to be cut: on a processor, and for a U-Net whose
    training cannot be counted; there `train_fitting` finds out by trying.
    """
    if device.type != "cuda":
        return None
    try:
        cost = sample_cost(
            dict(unet.config),  # type: ignore[arg-type]
            settings,
            dtype=next(unet.parameters()).dtype,
        )
    except BaseModelError:
        return None
    return max(1, adapters_that_fit(_free_memory(device, share), cost, samples_a_step(settings)))


def _free_memory(device: torch.device, share: float) -> float:
    """Bytes of a GPU that nobody has, or that PyTorch keeps unused for this process."""
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    unused = torch.cuda.memory_reserved(device) - allocated
    return min(free + unused, share * total - allocated)


def train_fitting(
    train: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], at_most: int
) -> tuple[list[Result], int]:
    """Train all items, in stacks of `at_most` or, where memory runs out, half as many.

    Stacks are as even as can be: a U-Net is compiled once for each size of stack.
    Returns the results in the order of `items`, and the stack that fitted: the
    caller passes it the next time. An adapter does not depend on which others it is
    stacked with, but for the last bits. Raises the error itself where a single
    adapter does not fit.
    """
    results: list[Result] = []
    while len(results) < len(items):
        left = len(items) - len(results)
        n_stacks = -(-left // at_most)
        stack = items[len(results) : len(results) + -(-left // n_stacks)]
        try:
            results += train(stack)
        except Exception as error:
            if len(stack) == 1 or not should_reduce_batch_size(error):
                raise
            at_most = -(-len(stack) // 2)
        else:
            continue
        # Outside the handler: the traceback there holds the tensors that were too many.
        _let_go()
    return results, at_most


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
