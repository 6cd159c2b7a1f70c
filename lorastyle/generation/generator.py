"""K adapters x m prompts in, images out: as many at once as memory takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lorastyle.adapters.updates import Adapter
from lorastyle.base.loading import BaseModel
from lorastyle.base.sampling import draw
from lorastyle.base.sampling_settings import Sampling
from lorastyle.generation.stacking import adapters_on, rank_of
from lorastyle.generation.wanted import BATCH_SIZE, Images, WantedImage
from lorastyle.training.fitting import train_fitting


class Generator:
    """Makes images with a base model, and remembers how many its memory takes at once.

    An image depends on its adapter, prompt and number and on `sampling`: not, beyond rounding, on
    which others are made with it. `batch_size` is halved whenever memory runs out.
    """

    def __init__(
        self, base: BaseModel, sampling: Sampling | None = None, *, batch_size: int = BATCH_SIZE
    ) -> None:
        self.base, self.sampling = base, sampling or Sampling()
        self.batch_size = max(1, batch_size)

    def generate(
        self,
        adapters: Sequence[Adapter],
        wanted: Sequence[Sequence[WantedImage]],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> list[Images]:
        """The wanted images of each adapter, (m, H, W, 3) each, in the order given.

        Numbers of images, ranks and modules may differ from adapter to adapter; those that are
        alike share forward passes. `on_step` is told how many images went one of
        `sampling.n_steps` steps further. Raises LayoutMismatchError as `stacking.adapters_on`
        does, and the error itself where memory does not take a single image.
        """
        size = self.base.identity.image_size
        found: list[Images] = [np.zeros((0, size, size, 3), np.uint8)] * len(adapters)

        def together(members: Sequence[int]) -> list[Images]:
            chosen = [adapters[i] for i in members], [wanted[i] for i in members]
            return self._together(*chosen, on_step)

        for group in _alike(adapters, wanted):
            stack = self.stack(len(wanted[group[0]]))
            images, fitted = train_fitting(together, group, stack)
            if fitted < stack:
                self.batch_size = fitted
            for i, made in zip(group, images, strict=True):
                found[i] = made
        return found

    def stack(self, n_images: int) -> int:
        """Adapters with so many images each that are made together."""
        return max(1, self.batch_size // n_images)

    def _together(
        self,
        adapters: Sequence[Adapter],
        wanted: Sequence[Sequence[WantedImage]],
        on_step: Callable[[int], None] | None,
    ) -> list[Images]:
        """The images of one stack of adapters, which want equally many each."""

        def some(places: Sequence[int]) -> list[Images]:
            images = draw(
                self.base,
                [[each[i].prompt for i in places] for each in wanted],
                [[each[i].number for i in places] for each in wanted],
                self.sampling,
                on_step=on_step,
            )
            return list(images.swapaxes(0, 1))

        at_once = max(1, self.batch_size // len(adapters))
        with adapters_on(self.base.unet, adapters):
            drawn, fitted = train_fitting(some, range(len(wanted[0])), at_once)
        if fitted < at_once:
            self.batch_size = fitted * len(adapters)
        return list(np.stack(drawn, axis=1))


def _alike(
    adapters: Sequence[Adapter], wanted: Sequence[Sequence[WantedImage]]
) -> Iterator[list[int]]:
    """Places of adapters that want equally many images and have ranks of one power of two."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (adapter, images) in enumerate(zip(adapters, wanted, strict=True)):
        if images:
            groups.setdefault((len(images), (rank_of(adapter) - 1).bit_length()), []).append(i)
    yield from groups.values()
