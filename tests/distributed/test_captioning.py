"""A captioner on actors says what it says here."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorastyle.config import Experiment, parse_experiment
from lorastyle.corpus.descriptions import Describer
from lorastyle.corpus.folder import read_folder
from lorastyle.distributed.captioning import ImageFile, describe_on_actors
from lorastyle.distributed.session import Session
from lorastyle.pictures import read_picture
from lorastyle.runs import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven images of two artists."""
    rng = np.random.default_rng(0)
    for i in range(11):
        path = tmp_path / "art" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(path)
    return tmp_path / "art"


@pytest.mark.ray
def test_actors_describe_as_this_process_does_and_what_they_said_is_kept(
    local_ray: Session, tiny_blip: Path, folder: Path, tmp_path: Path
) -> None:
    experiment: Experiment = parse_experiment({"corpus": {"captioner": str(tiny_blip)}})
    run = Run.create(tmp_path / "run", experiment)
    works, _ = read_folder(folder)
    kept = tmp_path / "kept.jsonl"
    there = Describer(str(tiny_blip), folder, kept, describe_on_actors(run, local_ray))
    here = Describer(str(tiny_blip), folder, tmp_path / "here.jsonl")
    texts = here(works)
    assert there(works) == texts
    assert len(set(texts)) > 1
    # Without a Ray, for nothing is left to be described.
    assert Describer(str(tiny_blip), folder, kept, refuse)(works) == texts


def refuse(*_: object) -> None:
    raise AssertionError("nothing is left to be described")


def test_an_image_is_read_when_it_is_sent(folder: Path) -> None:
    work = read_folder(folder)[0][0]
    path = folder / work.path
    file = ImageFile(work, path)
    assert file.content is None
    sent = pickle.dumps(file)
    expected = np.asarray(read_picture(path))
    path.unlink()
    received = pickle.loads(pickle.dumps(pickle.loads(sent)))
    np.testing.assert_array_equal(read_picture(received.path, received.content), expected)
