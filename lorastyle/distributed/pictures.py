"""What the evaluation looks at, made before it looks: generated images, and features of images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lorastyle.distributed.crews import Job, carry_out_on_actors
from lorastyle.distributed.generating import generate_images
from lorastyle.distributed.session import Session
from lorastyle.distributed.sizing import keep_to_one_core
from lorastyle.evaluation.encoding import Encoding, Generated, Originals, feature_of
from lorastyle.evaluation.image_features import feature_names, generated_rows
from lorastyle.runs import Run


def make_pictures(run: Run, session: Session, table: pd.DataFrame) -> None:
    """Make what is missing for these embedded adapters (columns row, role).

    Generated images are made by actors; features too where a cluster was joined: alone, this
    machine encodes them as fast in the process that evaluates.
    """
    rows = generated_rows(run, table)
    if rows:
        generate_images(run, rows, session=session)
    if session.joins_a_cluster:
        encode_on_actors(run, rows, session)


class Chunk(NamedTuple):
    """One chunk of a feature's encoding."""

    feature: str
    generated: bool
    number: int


def encode_on_actors(run: Run, rows: Sequence[int], session: Session) -> None:
    """Make the chunks of all features that are not kept yet, of originals and of generated images.

    `rows` are the adapters whose generated images are encoded. Ray is started only if there is
    something to encode.
    """
    shown = _shown(run, tuple(rows))
    todo = [
        Chunk(name, generated, number)
        for name in feature_names(run)
        for generated, pictures in shown.items()
        for number in _encoding(pictures, name, generated).missing()
    ]
    if todo:
        session.start()
        arguments = run.absolute_location, tuple(rows)
        job = Job("features", "chunks of images", EncodingActor, arguments, batch_size=1)
        carry_out_on_actors(run, job, todo, lambda _, made: None)


def _shown(run: Run, rows: tuple[int, ...]) -> dict[bool, Originals | Generated]:
    """The pictures that features are of, by whether they are generated: read once for all."""
    originals = {False: Originals.of(run)}
    return {**originals, True: Generated(run, rows)} if rows else {**originals}


def _encoding(pictures: Originals | Generated, name: str, generated: bool) -> Encoding:
    feature = feature_of(pictures.run, name, generated=generated)
    return Encoding(pictures.run, feature, pictures)


class EncodingActor:
    """One process that encodes. What it makes it keeps itself."""

    def __init__(self, location: Path | str, rows: tuple[int, ...]) -> None:
        self._where = location, rows

    def ready(self) -> dict[str, Any]:
        """Open the run. Weights are loaded with the first chunk that needs them."""
        keep_to_one_core()
        location, rows = self._where
        shown = _shown(Run.open(location), rows)
        self._encoding = cache(lambda name, generated: _encoding(shown[generated], name, generated))
        return {}

    def work(self, chunks: Sequence[Chunk]) -> int:
        """Make these chunks; how many."""
        for chunk in chunks:
            self._encoding(chunk.feature, chunk.generated).make(chunk.number)
        return len(chunks)
