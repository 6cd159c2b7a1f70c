from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from lorastyle.training.fitting import train_fitting


class Device:
    """Trains stacks of at most `room` adapters, and remembers what it was given."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.stacks: list[int] = []

    def train(self, items: Sequence[int]) -> list[int]:
        self.stacks.append(len(items))
        if len(items) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [10 * item for item in items]


@pytest.mark.parametrize("room", [1, 2, 3, 5, 16, 100])
@pytest.mark.parametrize("n", [0, 1, 7, 16])
def test_all_are_trained_in_order_whatever_fits(n: int, room: int) -> None:
    device = Device(room)
    results, fitted = train_fitting(device.train, list(range(n)), at_most=16)
    assert results == [10 * item for item in range(n)]
    assert fitted <= room or n <= room


def test_memory_runs_out_once_for_each_halving_and_never_again() -> None:
    device = Device(room=4)
    _, fitted = train_fitting(device.train, list(range(16)), at_most=16)
    assert device.stacks == [16, 8, 4, 4, 4, 4]
    device.stacks.clear()
    train_fitting(device.train, list(range(16)), at_most=fitted)
    assert device.stacks == [4, 4, 4, 4]


def test_the_processors_own_memory_counts_too() -> None:
    def train(items: Sequence[int]) -> list[int]:
        if len(items) > 1:
            torch.empty(2**60, dtype=torch.uint8)
        return list(items)

    assert train_fitting(train, [1, 2, 3], at_most=3) == ([1, 2, 3], 1)


def test_one_adapter_that_does_not_fit_is_an_error_and_so_is_anything_else() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        train_fitting(Device(room=0).train, [1, 2], at_most=2)

    def broken(items: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        train_fitting(broken, [1, 2], at_most=2)
