"""Images made by actors: those that one process makes, once, and whatever dies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorastyle.config import GenerationConfig
from lorastyle.distributed import generating
from lorastyle.distributed.crews import Job, carry_out_on_actors
from lorastyle.distributed.generating import generate_images
from lorastyle.distributed.session import Session
from lorastyle.errors import StageError
from lorastyle.generation.kept import GeneratedImages
from lorastyle.generation.orders import open_base
from lorastyle.runs import Run

ROWS = [0, 3, 20]


@pytest.fixture
def run(trained_run: Run) -> Run:
    """Few steps of sampling: which images they give is tested where they are made."""
    from dataclasses import replace

    quick = GenerationConfig(sampling_steps=2, sampling_seed=5)
    experiment = trained_run.experiment.model_copy(update={"generation": quick})
    trained_run.config_path.write_text(experiment.to_yaml())
    return replace(trained_run, experiment=experiment)


@pytest.mark.ray
def test_actors_make_the_images_that_one_process_makes(
    local_ray: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "ADAPTERS_A_BATCH", 1)
    assert generate_images(run, ROWS, session=local_ray) == 3
    kept = GeneratedImages.of(run)
    made = list(kept.read(ROWS))
    files = {path: path.stat().st_mtime_ns for path in (run.directory / "generated").iterdir()}
    assert len(files) == 3

    assert generate_images(run, ROWS, session=local_ray) == 0
    assert files == {path: path.stat().st_mtime_ns for path in files}
    for path in files:
        path.unlink()
    kept.make(open_base(run), ROWS)
    for one, other in zip(made, kept.read(ROWS), strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


class Moody:
    """Adds one, and dies or raises where it is told to."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def ready(self) -> dict[str, Any]:
        return {}

    def work(self, items: Sequence[int]) -> list[int]:
        if 3 in items and not self._marker.exists():
            self._marker.touch()
            os._exit(1)
        if 7 in items:
            raise ValueError("seven is no good")
        return [item + 1 for item in items]


@pytest.mark.ray
def test_an_actor_that_dies_loses_nothing_and_an_item_that_fails_is_named(
    local_ray: Session, run: Run, tmp_path: Path
) -> None:
    found: dict[int, int] = {}
    job = Job("add", "numbers", Moody, (tmp_path / "died",), batch_size=4)
    with pytest.raises(StageError, match=r"1 of 10 failed, first: .*seven is no good"):
        carry_out_on_actors(
            run, job, range(10), lambda items, sums: found.update(zip(items, sums, strict=True))
        )
    assert (tmp_path / "died").exists()
    assert found == {item: item + 1 for item in range(10) if item != 7}
