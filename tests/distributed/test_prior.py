"""Regularisation images: painted once by whoever comes first, or the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorastyle.base.images import load_image
from lorastyle.base.latents import encode_captions, encode_images
from lorastyle.base.loading import load_base
from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.corpus.training_images import index_catalogue
from lorastyle.distributed import prior as prior_module
from lorastyle.distributed.latents import LatentCache
from lorastyle.distributed.prior import encoded_prior, prior_digest, sampled_prior
from lorastyle.distributed.work import make_tasks
from lorastyle.errors import StageError
from lorastyle.runs import Run

PlannedRun = Callable[..., Run]


@pytest.fixture(scope="module")
def base(tiny_base: Path):
    return load_base(tiny_base)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in a folder, one with a caption of its own, and one too small."""
    directory, rng = tmp_path / "class images", np.random.default_rng(0)
    directory.mkdir()
    for name, size in {"a": 32, "b": 48, "c": 40, "small": 16}.items():
        pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(directory / f"{name}.png")
    (directory / "b.txt").write_text("a harbour")
    return directory


def test_chunks_that_another_actor_painted_are_found_and_not_painted_again(
    planned_run: PlannedRun, base, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_run(prior_weight=1.0, n_prior_images=5)
    monkeypatch.setattr(prior_module, "CHUNK", 2)
    first = sampled_prior(run, base)
    files = sorted((run.directory / "prior").iterdir())
    assert first.shape == (5, 32, 32, 3)
    assert len(files) == 3

    painted = []
    paint = prior_module._paint
    monkeypatch.setattr(
        prior_module, "_paint", lambda *given: painted.append(given[2]) or paint(*given)
    )
    files[1].unlink()
    np.testing.assert_array_equal(sampled_prior(run, base), first)
    assert len(painted) == 1


def test_a_chunk_that_is_gone_once_it_was_kept_is_told_not_left_out(
    planned_run: PlannedRun, base, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_run(prior_weight=1.0, n_prior_images=5)
    monkeypatch.setattr(prior_module, "CHUNK", 2)
    paint, directory, gone = prior_module._paint, run.directory / "prior", []

    def paint_and_lose(*given):
        """Somebody tidies up while the last chunk is painted."""
        kept = sorted(directory.glob("*.npy"))
        if len(kept) == 2 and not gone:
            gone.append(kept[0])
            kept[0].unlink()
        return paint(*given)

    monkeypatch.setattr(prior_module, "_paint", paint_and_lose)
    with pytest.raises(StageError, match=r"is gone or damaged by now; .* train again") as told:
        sampled_prior(run, base)
    assert str(gone[0]) in str(told.value)
    # Trained again, it is painted again.
    assert len(sampled_prior(run, base)) == 5


def test_every_regularisation_image_is_another(planned_run: PlannedRun, base) -> None:
    images = sampled_prior(planned_run(prior_weight=1.0, n_prior_images=18), base)
    assert len({image.tobytes() for image in images}) == 18


def test_the_users_images_are_encoded_with_their_captions(
    planned_run: PlannedRun, base, folder: Path
) -> None:
    run = planned_run(prior_weight=1.0, prior_images=str(folder), prior_caption="a scene")
    found = encoded_prior(run, base, LatentCache.of(run, base), folder)
    pixels = np.stack([load_image(folder / f"{name}.png", 32) for name in "abc"])
    mean, std = encode_images(base, pixels)
    assert found is not None
    np.testing.assert_allclose(found.latents_mean, mean, atol=1e-5)
    np.testing.assert_allclose(found.latents_std, std, atol=1e-5)
    np.testing.assert_array_equal(
        found.text, encode_captions(base, ["a scene", "a harbour", "a scene"])
    )


def test_other_regularisation_images_make_other_adapters(
    planned_run: PlannedRun, folder: Path
) -> None:
    digests = []
    for name in ("one", "two"):
        run = planned_run(name, prior_weight=1.0, prior_images=str(folder))
        images = index_catalogue(read_catalogue(run), corpus_root(run))
        settings, spec = run.experiment.training, read_plan(run)[0]
        digests.append(
            make_tasks([spec], images, settings, {"sha256": ""}, prior=prior_digest(run))[0].digest
        )
        (folder / "a.txt").write_text("a boat")
    assert digests[0] != digests[1]


def test_without_a_prior_nothing_is_read_or_painted(
    planned_run: PlannedRun, base, folder: Path
) -> None:
    run = planned_run(prior_weight=0.0, prior_images=str(folder / "is not there"))
    assert encoded_prior(run, base, LatentCache.of(run, base), None) is None
    assert prior_digest(run) is None
    assert not (run.directory / "prior").exists()
