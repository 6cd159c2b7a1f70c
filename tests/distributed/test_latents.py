from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.corpus.training_images import CataloguedImage, images_of, index_catalogue, texts_of
from lorastyle.distributed.latents import LatentCache
from lorastyle.errors import CorpusError
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays


@pytest.fixture
def base(tiny_base: Path) -> Any:
    from lorastyle.base.loading import load_base

    return load_base(str(tiny_base))


@pytest.fixture
def images(planned_run: Callable[..., Run]) -> list[CataloguedImage]:
    run = planned_run()
    return list(index_catalogue(read_catalogue(run), corpus_root(run)).values())[:6]


def test_cached_latents_are_what_the_encoder_says(
    base: Any, images: list[CataloguedImage], tmp_path: Path
) -> None:
    from lorastyle.base.images import load_image
    from lorastyle.base.latents import encode_images

    cache = LatentCache(KeptArrays(tmp_path / "latents"), base)
    cache.load(images[:2])
    mean, std = cache.load(images)
    expected = encode_images(base, np.stack([load_image(image.path, 32) for image in images]))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std, expected[1], rtol=1e-4, atol=1e-5)


def test_an_image_is_encoded_once_even_if_asked_for_in_another_order(
    base: Any, images: list[CataloguedImage], tmp_path: Path
) -> None:
    kept = KeptArrays(tmp_path / "latents")
    mean, _ = LatentCache(kept, base).load(images)
    again, _ = LatentCache(kept, None).load(images[::-1])
    assert (again == mean[::-1]).all()


def test_a_cut_latent_file_is_made_again(
    base: Any, images: list[CataloguedImage], tmp_path: Path
) -> None:
    cache = LatentCache(KeptArrays(tmp_path / "latents"), base)
    mean, _ = cache.load(images[:1])
    path = next((tmp_path / "latents").iterdir())
    path.write_bytes(path.read_bytes()[:-5])
    assert (cache.load(images[:1])[0] == mean).all()


def test_texts_begin_with_the_adapters_own_token(planned_run: Callable[..., Run]) -> None:
    run = planned_run()
    spec = read_plan(run)[0]
    images = images_of(spec, index_catalogue(read_catalogue(run), corpus_root(run)))
    texts = texts_of(spec, images, identifier=True)
    assert texts == [f"{spec.token} {image.caption}" for image in images]
    assert texts_of(spec, images, identifier=False) == [image.caption for image in images]


def test_an_image_the_catalogue_lacks_is_named(planned_run: Callable[..., Run]) -> None:
    spec = read_plan(planned_run())[0]
    with pytest.raises(CorpusError, match=spec.image_ids[0]):
        images_of(spec, {})
