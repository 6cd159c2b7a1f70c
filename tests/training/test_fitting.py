from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from diffusers import UNet2DConditionModel

from lorastyle.config import TrainingConfig
from lorastyle.training.cost import RESERVE, sample_cost
from lorastyle.training.fitting import stack_that_fits, train_fitting

MIB = 2**20
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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


@pytest.mark.parametrize(
    ("at_most", "stacks"),
    [(16, [16]), (15, [8, 8]), (12, [8, 8]), (7, [6, 5, 5]), (5, [4, 4, 4, 4]), (1, [1] * 16)],
)
def test_stacks_are_as_even_as_can_be(at_most: int, stacks: list[int]) -> None:
    device = Device(room=16)
    train_fitting(device.train, list(range(16)), at_most=at_most)
    assert device.stacks == stacks


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


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch says of a GPU of 100 MiB, of which 60 are free and 10 kept unused by us."""
    says = {
        "mem_get_info": (60 * MIB, 100 * MIB),
        "memory_reserved": 30 * MIB,
        "memory_allocated": 20 * MIB,
    }
    for name, value in says.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("share", "room_mib", "dtype", "prior", "samples"),
    [
        (1.0, 70, torch.float32, {"prior_batch": "paired"}, 3),
        (0.9, 70, torch.bfloat16, {"prior_weight": 1.0}, 3),
        (0.5, 30, torch.bfloat16, {"prior_weight": 1.0, "prior_batch": "paired"}, 6),
        (0.1, 0, torch.float32, {}, 3),
    ],
)
def test_a_stack_is_cut_to_the_memory_that_is_this_processs(
    unet: UNet2DConditionModel,
    settings: TrainingConfig,
    share: float,
    room_mib: int,
    dtype: torch.dtype,
    prior: dict[str, object],
    samples: int,
) -> None:
    settings = settings.model_copy(update=prior)
    cost = sample_cost(dict(unet.config), settings, dtype=dtype)
    one = cost.state_bytes + samples * cost.peak_bytes
    fits = stack_that_fits(unet.to(dtype), settings, CUDA, share=share)
    assert fits == max(1, int(room_mib * MIB * (1 - RESERVE) / one))
    assert room_mib == 0 or (fits is not None and fits > 1)


@pytest.mark.usefixtures("gpu")
def test_nothing_is_cut_on_a_processor_or_where_nothing_can_be_counted(
    unet: UNet2DConditionModel, settings: TrainingConfig
) -> None:
    assert stack_that_fits(unet, settings, CPU) is None
    unet.register_to_config(block_out_channels=(7, 9))
    assert stack_that_fits(unet, settings, CUDA) is None
