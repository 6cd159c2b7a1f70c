"""Folders of small painted images, the way users bring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorastyle.config import Experiment, parse_experiment


@pytest.fixture
def paint() -> Callable[..., None]:
    """Write an image of random pixels; the same seed paints the same picture."""

    def write(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    return write


@pytest.fixture
def make_folder(tmp_path: Path, paint: Callable[..., None]) -> Callable[..., Path]:
    """A folder ARTIST/000.png ... with so many works of each artist, all different."""

    def make(works: Mapping[str, int], name: str = "art") -> Path:
        for number, (artist, n_works) in enumerate(sorted(works.items())):
            for work in range(n_works):
                paint(tmp_path / name / artist / f"{work:03d}.png", 10_000 * number + work)
        return tmp_path / name

    return make


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """A small experiment over a folder: 3 gallery adapters an artist on 3 images."""

    def make(root: Path, **sections: object) -> Experiment:
        protocol = {
            "train": 3,
            "calibration": 1,
            "val": 1,
            "test": 1,
            "query_calibration": 1,
            "query_val": 2,
            "query_test": 2,
            "images_per_adapter": 3,
            "images_per_query": 2,
            "reserved_val": 4,
            "reserved_test": 4,
            "max_overlap": 0.67,
        }
        corpus = {"source": "folder", "path": str(root), "min_works": 12}
        values: dict[str, object] = {"corpus": corpus, "protocol": protocol}
        for section, settings in sections.items():
            values[section] = {**dict(values.get(section, {})), **dict(settings)}  # type: ignore[call-overload]
        return parse_experiment(values)

    return make
