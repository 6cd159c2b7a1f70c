"""Images of many adapters of a run: read, stacked and made a stack at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from lorastyle.errors import BaseModelError
from lorastyle.generation.subjects import Subject
from lorastyle.generation.wanted import Images, WantedImage
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.members import read_member

if TYPE_CHECKING:
    from lorastyle.base.loading import BaseModel
    from lorastyle.generation.generator import Generator


@dataclass(frozen=True)
class Order:
    """Images to be made of an adapter; at least one."""

    subject: Subject
    images: tuple[WantedImage, ...]


def carry_out(
    run: Run,
    orders: Sequence[Order],
    generator: Generator,
    *,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[tuple[Order, Images]]:
    """Each order with its images, (m, H, W, 3), as soon as its stack is made.

    Adapters are read when it is their stack's turn. Those that want equally many images come
    together, and by row: adapters from elsewhere are numbered by rank. Raises StoreError for one
    that is damaged.
    """
    in_turn = sorted(orders, key=lambda order: (len(order.images), order.subject.row))
    for n_images, alike in groupby(in_turn, key=lambda order: len(order.images)):
        left = list(alike)
        while left:
            n = generator.stack(n_images)
            stack, left = left[:n], left[n:]
            adapters = [read_member(run, order.subject.row) for order in stack]
            images = generator.generate(
                adapters, [order.images for order in stack], on_step=on_step
            )
            yield from zip(stack, images, strict=True)


def open_base(run: Run) -> BaseModel:
    """The run's base model on the GPU, if there is one, as training has it.

    Raises BaseModelError where it is not the one that the run's adapters were trained on.
    """
    from lorastyle.training import precision

    base = precision.open_base(run.experiment.base, run.experiment.training.precision)
    if run.has_store:
        trained_on = AdapterStore.open(run.store_path).attributes["base"]
        if trained_on["sha256"] != base.identity.sha256:
            raise BaseModelError(
                f"the adapters of {run.location} were trained on a base model of sha256 "
                f"{trained_on['sha256'][:12]}, '{run.experiment.base}' is now "
                f"{base.identity.sha256[:12]}; put back the one of {trained_on['name']!r}"
            )
    return base
