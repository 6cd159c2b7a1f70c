"""Latents, text embeddings and image files."""

import numpy as np
import pytest
import torch
from PIL import Image

from lorastyle.base.images import load_image
from lorastyle.base.latents import encode_captions, encode_images
from lorastyle.base.loading import load_base
from lorastyle.corpus.procedural import make_artists, paint, sample_scene
from lorastyle.errors import CorpusError


@pytest.fixture(scope="module")
def base():
    return load_base("miniature")


@pytest.fixture(scope="module")
def paintings():
    """Twenty paintings by artists the base model never saw."""
    images = []
    for a, artist in enumerate(make_artists(10, 7)):
        for w in range(2):
            rng = np.random.default_rng([a, w])
            images.append(paint(artist, sample_scene(rng), rng))
    return np.stack(images)


def test_latents_have_the_unets_shape_and_about_unit_spread(base, paintings):
    mean, std = encode_images(base, paintings, batch_size=7)
    assert mean.shape == std.shape == (20, base.identity.latent_channels, 8, 8)
    assert mean.dtype == std.dtype == np.float32
    assert 0.8 < mean.std() < 1.2
    assert np.all(std > 0)
    assert std.mean() < 0.3


def test_batching_does_not_change_latents(base, paintings):
    one, _ = encode_images(base, paintings, batch_size=1)
    all_, _ = encode_images(base, paintings, batch_size=20)
    assert np.allclose(one, all_, atol=1e-4)


def test_the_scaling_factor_is_applied(base, paintings):
    once, _ = encode_images(base, paintings[:2])
    kept = base.vae.config.scaling_factor
    base.vae.register_to_config(scaling_factor=2 * kept)
    try:
        twice, _ = encode_images(base, paintings[:2])
    finally:
        base.vae.register_to_config(scaling_factor=kept)
    assert np.allclose(twice, 2 * once, atol=1e-5)


@torch.no_grad()
def test_reconstruction_keeps_most_of_an_unseen_painting(base, paintings):
    mean, _ = encode_images(base, paintings)
    decoded = base.vae.decode(torch.from_numpy(mean) / base.vae.config.scaling_factor).sample
    images = ((decoded + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    mse = np.mean((images - paintings / 255) ** 2, axis=(1, 2, 3))
    assert np.mean(-10 * np.log10(mse)) > 19.0
    assert mse.mean() < 0.3 * np.var(paintings / 255)


def test_text_is_one_embedding_a_token_and_depends_on_the_caption(base):
    captions = ["a red boat on a calm lake at dusk", "a woman in a blue hat at noon"]
    text = encode_captions(base, [*captions, captions[0]])
    tokens, width = base.tokenizer.model_max_length, base.identity.cross_attention_dim
    assert text.shape == (3, tokens, width)
    assert text.dtype == np.float32
    assert np.array_equal(text[0], text[2])
    assert np.abs(text[0] - text[1]).max() > 0.1


def test_long_captions_are_cut(base):
    text = encode_captions(base, ["a red boat and " * 50])
    assert text.shape[1] == base.tokenizer.model_max_length


def test_unsuitable_arrays_are_refused(base):
    with pytest.raises(CorpusError, match="uint8"):
        encode_images(base, np.zeros((2, 64, 64, 3), np.float32))
    with pytest.raises(CorpusError, match="no images"):
        encode_images(base, np.zeros((0, 64, 64, 3), np.uint8))


def test_load_image_resizes_the_shorter_side_and_crops_the_middle(tmp_path):
    stripes = np.zeros((100, 300, 3), np.uint8)
    stripes[:, 100:200, 0] = 255
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    image = load_image(tmp_path / "wide.png", 50)
    assert image.shape == (50, 50, 3)
    assert image[:, 5:45, 0].min() > 240
    assert image[..., 1:].max() == 0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_load_image_makes_rgb_of_any_mode(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (70, 64)).save(tmp_path / f"image.{suffix}")
    assert load_image(tmp_path / f"image.{suffix}", 64).shape == (64, 64, 3)


def test_load_image_crops_what_a_viewer_shows(tmp_path):
    """Red on top, then green, then nothing; lying on its side, with the note to turn it."""
    seen = np.zeros((96, 64, 4), np.uint8)
    seen[:40, :, [0, 3]] = 255
    seen[40:60, :, [1, 3]] = 255
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.rot90(seen).copy()).save(tmp_path / "a.png", exif=turned)
    expected = np.full((64, 64, 3), 255, np.uint8)
    expected[:24], expected[24:44] = (255, 0, 0), (0, 255, 0)
    assert np.array_equal(load_image(tmp_path / "a.png", 64), expected)


def test_an_image_that_needs_no_resizing_is_unchanged(tmp_path, paintings):
    Image.fromarray(paintings[0]).save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png", 64), paintings[0])


def test_broken_and_small_images_are_named(tmp_path):
    Image.new("RGB", (80, 40)).save(tmp_path / "small.png")
    with pytest.raises(CorpusError, match=r"small\.png' is 80 x 40 .* at least 64"):
        load_image(tmp_path / "small.png", 64)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(CorpusError, match=r"text\.png"):
        load_image(tmp_path / "text.png", 64)
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    half = (tmp_path / "whole.png").read_bytes()[:9000]
    (tmp_path / "half.png").write_bytes(half)
    with pytest.raises(CorpusError, match=r"half\.png"):
        load_image(tmp_path / "half.png", 64)
    with pytest.raises(CorpusError, match=r"absent\.png"):
        load_image(tmp_path / "absent.png", 64)
