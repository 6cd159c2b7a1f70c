"""Images that a run keeps: made once, by whoever comes, and again when something changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorastyle.base.sampling_settings import Sampling
from lorastyle.corpus.stage import read_catalogue, read_plan
from lorastyle.errors import StageError
from lorastyle.generation.generator import Generator
from lorastyle.generation.kept import GeneratedImages
from lorastyle.generation.orders import open_base
from lorastyle.generation.wanted import WantedImage
from lorastyle.records import Role
from lorastyle.runs import Run
from lorastyle.store.members import read_member

FAST = Sampling(seed=5, n_steps=2, guidance_scale=2.0)


def test_they_are_made_once_and_are_those_of_the_captions(trained_run: Run) -> None:
    specs, base = read_plan(trained_run), open_base(trained_run)
    chosen = [specs[0], next(spec for spec in specs if spec.role is Role.QUERY_TEST), specs[1]]
    rows = [spec.row for spec in chosen]
    kept = GeneratedImages(trained_run, FAST)
    assert kept.missing(rows) == rows
    with pytest.raises(StageError, match="has no images generated of adapter"):
        next(kept.read(rows))

    told: list[int] = []
    kept.make(base, rows, batch_size=8, on_step=told.append)
    assert sum(told) == (4 + 2 + 4) * FAST.n_steps
    captions = read_catalogue(trained_run).set_index("image_id")["caption"]
    for spec, images in zip(chosen, kept.read(rows), strict=True):
        texts = [f"{spec.token} {captions[image]}" for image in spec.image_ids]
        wanted = [WantedImage(i, text) for i, text in enumerate(texts)]
        adapter = read_member(trained_run, spec.row)
        (alone,) = Generator(base, FAST).generate([adapter], [wanted])
        assert np.abs(images.astype(int) - alone).max() <= 1

    (trained_run.directory / "generated").joinpath(_files(trained_run)[0]).write_bytes(b"cut")
    assert len(kept.missing(rows)) == 1
    told.clear()
    kept.make(base, rows, on_step=told.append)
    assert sum(told) in (4 * FAST.n_steps, 2 * FAST.n_steps)
    assert kept.missing(rows) == []
    assert len(_files(trained_run)) == 3
    assert GeneratedImages(trained_run, Sampling(seed=6)).missing(rows) == rows


def _files(run: Run) -> list[Path]:
    return sorted((run.directory / "generated").iterdir())
