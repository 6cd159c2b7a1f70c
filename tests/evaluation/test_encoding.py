"""Features in chunks: those of all images at once, made once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lorastyle.config import Experiment
from lorastyle.errors import FeatureError
from lorastyle.evaluation import encoding
from lorastyle.evaluation.encoding import Encoding, Originals
from lorastyle.features.contract import image_feature
from lorastyle.features.simple import PixelMean
from lorastyle.runs import Run
from tests.features.conftest import make_clip

SIZES = [(40, 32), (36, 36), (32, 50), (80, 64), (33, 33)]


@pytest.fixture
def originals(tmp_path):
    """Five images of different sizes, and where they lie."""
    rng, rows = np.random.default_rng(0), []
    for i, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", f"hash{i}", width, height))
    table = pd.DataFrame(rows, columns=["path", "content_hash", "width", "height"])
    return Originals(Run.create(tmp_path / "run", Experiment()), table, tmp_path)


@pytest.fixture
def chunks_of_two(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 2)


class Counting:
    """A feature that counts what it is shown."""

    def __init__(self, feature, identity="first"):
        self.feature, self.shown, self._identity = feature, [], identity
        self.name, self.dimension = feature.name, feature.dimension
        self.image_size = feature.image_size

    def identity(self):
        return self._identity

    def encode(self, images):
        self.shown.append(images.shape)
        return self.feature.encode(images)


def squares(side):
    """The images' squares in the middle, resized by Pillow alone."""
    rng, found = np.random.default_rng(0), []
    for width, height in SIZES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        scale = side / min(width, height)
        size = (max(side, round(width * scale)), max(side, round(height * scale)))
        image = image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        found.append(np.asarray(image.crop((left, top, left + side, top + side))))
    return np.stack(found)


def test_chunks_are_the_whole(originals, chunks_of_two):
    feature = PixelMean()
    found = Encoding(originals.run, feature, originals).read()
    # 32 is the side of the smallest: none is enlarged.
    np.testing.assert_allclose(found, feature.encode(squares(32)), atol=1e-6)


def test_what_is_kept_is_not_encoded_again(originals, chunks_of_two):
    feature = Counting(image_feature("colour_histogram"))
    task = Encoding(originals.run, feature, originals)
    assert task.missing() == [0, 1, 2]
    task.make(1)
    assert task.missing() == [0, 2]
    first = task.read()
    assert [shape[0] for shape in feature.shown] == [2, 2, 1]
    np.testing.assert_array_equal(task.read(), first)
    assert len(feature.shown) == 3


def test_other_weights_and_other_pictures_are_encoded_anew(originals, chunks_of_two):
    feature = Counting(image_feature("colour_histogram"))
    Encoding(originals.run, feature, originals).read()
    other = Counting(image_feature("colour_histogram"), identity="second")
    assert Encoding(originals.run, other, originals).missing() == [0, 1, 2]
    originals.catalogue.loc[4, "content_hash"] = "painted over"
    assert Encoding(originals.run, feature, originals).missing() == [2]


def test_a_damaged_chunk_is_made_again(originals, chunks_of_two):
    task = Encoding(originals.run, PixelMean(), originals)
    whole = task.read()
    for path in (originals.run.directory / "features" / "pixel_mean").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(task.read(), whole)


def test_chunks_of_another_length_of_vectors_are_made_again(originals, chunks_of_two):
    task = Encoding(originals.run, PixelMean(), originals)
    whole = task.read()
    kept = sorted((originals.run.directory / "features" / "pixel_mean").iterdir())
    for path, columns in zip(kept, (slice(-1), slice(0), slice(None)), strict=True):
        np.save(path, np.load(path)[:, columns])
    assert task.read_kept("another") is None
    np.testing.assert_array_equal(task.read(), whole)
    for path in kept[:1]:
        np.save(path, np.load(path)[:-1])
    assert task.read_kept(PixelMean().identity()) is None
    np.testing.assert_array_equal(task.read(), whole)


def test_what_is_kept_is_read_without_loading_weights(originals, chunks_of_two, tmp_path):
    folder = tmp_path / "clip"
    make_clip().save_pretrained(folder)
    whole = Encoding(originals.run, image_feature("clip", {"clip": str(folder)}), originals).read()
    hashed, unknown = (image_feature("clip", {"clip": str(folder)}) for _ in range(2))
    identity = hashed.identity()
    (folder / "model.safetensors").unlink()
    np.testing.assert_array_equal(Encoding(originals.run, hashed, originals).read(), whole)
    # Of a feature whose files nobody has seen it cannot be told what is kept of it.
    task = Encoding(originals.run, unknown, originals)
    with pytest.raises(FeatureError, match="has no whole"):
        task.read()
    np.testing.assert_array_equal(task.read_kept(identity), whole)


def test_a_feature_that_scales_by_itself_sees_full_resolution(originals):
    class Whole:
        name, dimension, image_size, seen = "whole", 1, 8, []

        def identity(self):
            return "whole"

        def prepare(self, picture):
            self.seen.append(picture.shape)
            return picture[:1, :1]

        def encode_prepared(self, images):
            return images[:, 0, 0, :1].astype(np.float32)

        def encode(self, images):
            raise AssertionError("it is given pictures")

    feature = Whole()
    Encoding(originals.run, feature, originals).read()
    assert feature.seen == [(min(size), min(size), 3) for size in SIZES]


def test_no_pictures_have_no_features(originals):
    empty = Originals(originals.run, originals.catalogue.iloc[:0], originals.root)
    assert Encoding(originals.run, PixelMean(), empty).read().shape == (0, PixelMean().dimension)
