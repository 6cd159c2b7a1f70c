"""Images of a run's adapters with their training captions as prompts, made once and kept.

The "generated" scenarios of the evaluation compare image features of these (section 4.2 of the
paper). `make` is a training actor's kind of work: it takes an opened base model and some rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lorastyle.base.sampling_settings import Sampling
from lorastyle.errors import StageError
from lorastyle.generation.orders import Order, carry_out
from lorastyle.generation.subjects import Subject, read_subjects
from lorastyle.generation.wanted import BATCH_SIZE, Images
from lorastyle.records import digest
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays

if TYPE_CHECKING:
    from lorastyle.base.loading import BaseModel

DIRECTORY = "generated"


@dataclass(frozen=True)
class GeneratedImages:
    """A file an adapter in `generated/` of the run, and in its bucket where it has one.

    Its name is a digest of weights, base model, prompts and sampling: what changes is made again.
    Any number of processes may make images at the same time; rows made twice do no harm.
    """

    run: Run
    sampling: Sampling

    @classmethod
    def of(cls, run: Run) -> GeneratedImages:
        """Sampled as the run's experiment says."""
        wanted = run.experiment.generation
        sampling = Sampling(
            seed=wanted.sampling_seed,
            n_steps=wanted.sampling_steps,
            guidance_scale=wanted.guidance_scale,
            negative_prompt=wanted.negative_prompt,
        )
        return cls(run, sampling)

    def missing(self, rows: Iterable[int]) -> list[int]:
        """Those of these rows whose images are still to be made."""
        return [one.row for one in self._without_images(rows)]

    def make(
        self,
        base: BaseModel,
        rows: Iterable[int],
        *,
        batch_size: int = BATCH_SIZE,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Make and keep the missing images of these rows, one a training image.

        `base` is the run's, as `orders.open_base` opens it. Raises StoreError for an adapter from
        elsewhere, which has no captions.
        """
        from lorastyle.generation.generator import Generator

        subjects = self._without_images(sorted(set(rows)))
        orders = [Order(one, tuple(one.wanted())) for one in subjects]
        generator = Generator(base, self.sampling, batch_size=batch_size)
        for order, images in carry_out(self.run, orders, generator, on_step=on_step):
            self._kept.keep(self._name(order.subject), images)

    def read(self, rows: Iterable[int]) -> Iterator[Images]:
        """Images of each adapter (m, H, W, 3), in the order of its training images.

        Raises StageError for one whose images are not made yet.
        """
        for subject in read_subjects(self.run, rows):
            images = self._kept.find(self._name(subject))
            if images is None:
                raise StageError(
                    f"{self.run.location} has no images generated of adapter "
                    f"{subject.adapter_id!r} with these settings; make them first"
                )
            yield np.asarray(images, np.uint8)

    def contents(self, rows: Iterable[int]) -> list[tuple[str, int]]:
        """Of each adapter's images, made or not: a digest of what makes them, and how many."""
        return [(self._name(one), len(one.images)) for one in read_subjects(self.run, rows)]

    def _without_images(self, rows: Iterable[int]) -> list[Subject]:
        subjects = read_subjects(self.run, rows)
        return [one for one in subjects if not self._kept.has(self._name(one))]

    @property
    def _kept(self) -> KeptArrays:
        return KeptArrays.of(self.run, DIRECTORY)

    def _name(self, subject: Subject) -> str:
        return digest([subject.key(image, self.sampling) for image in subject.wanted()])[:24]
