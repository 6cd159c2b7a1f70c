"""Images of many adapters at once: each is what its adapter makes alone, merged into the U-Net."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.base.loading import BaseModel
from lorastyle.base.sampling import sample
from lorastyle.base.sampling_settings import Sampling
from lorastyle.errors import LayoutMismatchError
from lorastyle.generation.generator import Generator
from lorastyle.generation.stacking import adapters_on
from lorastyle.generation.wanted import Images, WantedImage

FAST = Sampling(seed=3, n_steps=3, guidance_scale=3.0)
PROMPTS = ["a painting", "a a painting", "painting a painting a"]
WANTED = [WantedImage(i, prompt) for i, prompt in enumerate(PROMPTS)]

MakeAdapter = Callable[..., Adapter]


@pytest.fixture(scope="module")
def adapters(base: BaseModel, make_adapter: MakeAdapter) -> list[Adapter]:
    """Of differing ranks, scalings and modules; the last changes nothing."""
    return [
        make_adapter(base.unet, 2, 0),
        make_adapter(base.unet, 5, 1, "cross_attention", 1.5),
        make_adapter(base.unet, 6, 2, "feed_forward", 0.7),
        Adapter.of("none", []),
    ]


def merged(base: BaseModel, adapter: Adapter) -> BaseModel:
    """The base model with dW added to its weights, in float64 first."""
    other = copy.copy(base)
    other.unet = copy.deepcopy(base.unet)
    for key, update in adapter.updates.items():
        weight = other.unet.get_submodule(key.module).weight
        weight.data = (weight.data.double() + torch.from_numpy(update.delta())).float()
    return other


def difference(one: Any, other: Any) -> int:
    return int(np.abs(np.asarray(one, int) - other).max())


@pytest.fixture(scope="module")
def by_merging(base: BaseModel, adapters: Sequence[Adapter]) -> list[Images]:
    """What each adapter makes when it is merged into the U-Net."""
    return [
        sample(merged(base, one), PROMPTS, seed=3, n_steps=3, guidance_scale=3.0)
        for one in adapters
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_images_are_those_of_merged_weights_however_they_are_stacked(
    base: BaseModel, adapters: Sequence[Adapter], by_merging: Sequence[Images], batch_size: int
) -> None:
    generator = Generator(base, FAST, batch_size=batch_size)
    images = generator.generate(adapters, [WANTED] * 4)
    assert difference(by_merging[0], by_merging[1]) > 20
    for made, wanted in zip(images, by_merging, strict=True):
        assert made.dtype == np.uint8
        assert difference(made, wanted) <= 1


def test_adapters_may_want_different_images(
    base: BaseModel, adapters: Sequence[Adapter], by_merging: Sequence[Images]
) -> None:
    wanted = [WANTED[1:], [], WANTED, WANTED[2:]]
    images = Generator(base, FAST).generate(adapters, wanted)
    assert [len(one) for one in images] == [2, 0, 3, 1]
    assert images[1].shape == (0, 32, 32, 3)
    assert difference(images[0], by_merging[0][1:]) <= 1
    assert difference(images[2], by_merging[2]) <= 1
    assert difference(images[3], by_merging[3][2:]) <= 1


def test_every_image_moves_on_once_a_step(base: BaseModel, adapters: Sequence[Adapter]) -> None:
    told: list[int] = []
    Generator(base, FAST, batch_size=6).generate(adapters[:3], [WANTED] * 3, on_step=told.append)
    assert sum(told) == 3 * 3 * FAST.n_steps


def test_the_unet_is_afterwards_what_it_was(base: BaseModel, adapters: Sequence[Adapter]) -> None:
    before = {name: id(module) for name, module in base.unet.named_modules()}
    weights = {key: value.clone() for key, value in base.unet.state_dict().items()}
    Generator(base, FAST).generate(adapters, [WANTED] * 4)
    assert {name: id(module) for name, module in base.unet.named_modules()} == before
    for key, value in base.unet.state_dict().items():
        assert torch.equal(value, weights[key])


@pytest.mark.parametrize("room", [1, 2])
def test_where_memory_runs_out_fewer_are_made_at_once(
    base: BaseModel, adapters: Sequence[Adapter], by_merging: Sequence[Images], room: int
) -> None:
    """A U-Net on a device that takes so many images, with their unconditional halves."""
    seen: list[int] = []

    def refuse(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(len(given[0]))
        if len(given[0]) > 2 * room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    generator = Generator(base, FAST, batch_size=4)
    hook = base.unet.register_forward_pre_hook(refuse)
    try:
        images = generator.generate(adapters[1:3], [WANTED[:2]] * 2)
        n_refused = sum(n > 2 * room for n in seen)
        seen.clear()
        generator.generate(adapters[1:3], [WANTED[:2]] * 2)
    finally:
        hook.remove()
    assert n_refused > 0
    assert max(seen) <= 2 * room, "it forgot what fits"
    for made, wanted in zip(images, by_merging[1:3], strict=True):
        assert difference(made, wanted[:2]) <= 1


def test_a_unet_in_bfloat16_makes_nearly_the_same_images(
    base: BaseModel, adapters: Sequence[Adapter], by_merging: Sequence[Images]
) -> None:
    other = copy.copy(base)
    other.unet = copy.deepcopy(base.unet).to(torch.bfloat16)
    images = Generator(other, FAST).generate(adapters, [WANTED] * 4)
    for made, wanted in zip(images, by_merging, strict=True):
        assert 0 < np.abs(made.astype(int) - wanted).mean() < 2


def test_an_adapter_whose_images_are_not_finite_spoils_no_others(
    base: BaseModel, adapters: Sequence[Adapter], by_merging: Sequence[Images]
) -> None:
    # Finite itself, as stored rows are; its product with anything is not.
    huge = Adapter.of(
        "huge",
        [
            ModuleUpdate(key, 1e30 * update.lora_A, 1e30 * update.lora_B)
            for key, update in adapters[0].updates.items()
        ],
    )
    with np.errstate(all="ignore"):
        images = Generator(base, FAST).generate([huge, adapters[0]], [WANTED] * 2)
    assert not images[0].any(), "black"
    assert difference(images[1], by_merging[0]) <= 1


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        (ModuleKey("unet", "conv_in"), (4, 4), "'unet.conv_in', which is none of"),
        (ModuleKey("text_encoder", "x.q_proj"), (4, 4), "'text_encoder.x.q_proj', which is none"),
        (None, (3, 5), r"is \(3, 5\), the base model's is"),
    ],
)
def test_what_no_layer_has_room_for_is_refused(
    base: BaseModel,
    adapters: Sequence[Adapter],
    key: ModuleKey | None,
    shape: tuple[int, int],
    words: str,
) -> None:
    key = key or next(iter(adapters[0].updates))
    update = ModuleUpdate(key, np.ones((1, shape[1]), "f4"), np.ones((shape[0], 1), "f4"))
    with (
        pytest.raises(LayoutMismatchError, match=words),
        adapters_on(base.unet, [adapters[0], Adapter.of("odd", [update])]),
    ):
        pass
