"""As many adapters in one stack as the device's memory takes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

Item = TypeVar("Item")
Result = TypeVar("Result")


def train_fitting(
    train: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], at_most: int
) -> tuple[list[Result], int]:
    """Train all items, in stacks of `at_most` or, where memory runs out, half as many.

    Returns the results in the order of `items`, and the stack that fitted: the
    caller passes it the next time. An adapter does not depend on which others it is
    stacked with, but for the last bits. Raises the error itself where a single
    adapter does not fit.
    """
    results: list[Result] = []
    while len(results) < len(items):
        stack = items[len(results) : len(results) + at_most]
        try:
            results += train(stack)
        except Exception as error:
            if len(stack) == 1 or not should_reduce_batch_size(error):
                raise
            at_most = -(-len(stack) // 2)
        else:
            continue
        # Outside the handler: the traceback there holds the tensors that were too many.
        _free_memory()
    return results, at_most


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
