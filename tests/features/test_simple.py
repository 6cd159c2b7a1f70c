import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorastyle.features.random_net import LOG_SCALE, GramRandomNet
from lorastyle.features.simple import ColourHistogram, PixelMean, srgb_to_lab

# Reference values for D65, two degrees, as printed by Lindbloom's and other colour calculators.
LAB = {
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (119, 119, 119): (50.03, 0.0, 0.0),
}


@pytest.mark.parametrize(("rgb", "lab"), LAB.items())
def test_lab_agrees_with_published_values(rgb, lab):
    np.testing.assert_allclose(srgb_to_lab(np.array([rgb], np.uint8))[0], lab, atol=0.02)


def noise(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_a_thumbnail_of_a_64_pixel_image_is_the_image():
    image = noise(1, 64)
    expected = image.reshape(1, -1) / 255 - 0.5
    np.testing.assert_allclose(PixelMean().encode(image), expected, atol=1e-6)


def test_a_thumbnail_averages_blocks_of_a_larger_image():
    image = noise(1, 256)
    blocks = image.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3)) / 255 - 0.5
    np.testing.assert_allclose(PixelMean().encode(image)[0], blocks.ravel(), atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_histogram_counts_every_pixel_once(seed):
    shares = ColourHistogram().encode(noise(1, 12, seed)) ** 2
    assert shares.sum() == pytest.approx(1, abs=1e-5)


def test_a_histogram_does_not_see_where_a_colour_is():
    image = noise(1, 16)
    shuffled = np.random.default_rng(1).permutation(image.reshape(-1, 3)).reshape(image.shape)
    np.testing.assert_allclose(
        ColourHistogram().encode(image), ColourHistogram().encode(shuffled), atol=1e-6
    )


def test_neighbouring_colours_share_bins():
    flat = np.full((2, 4, 4, 3), 120, np.uint8)
    flat[1] += 2
    one, other = ColourHistogram().encode(flat)
    assert one @ other > 0.95


def test_texture_is_the_gram_matrix_of_rectified_filters():
    net = GramRandomNet(filter_sizes=(3,), n_filters=4)
    image = noise(1, 6)
    pixels, filters = image[0] / 255.0, net.filters(3)
    fired = np.array(
        [
            [
                max(0.0, float((pixels[y : y + 3, x : x + 3].transpose(2, 0, 1) * one).sum()))
                for y in range(4)
                for x in range(4)
            ]
            for one in filters
        ]
    )
    gram = (fired @ fired.T / 16)[np.triu_indices(4)]
    expected = np.log1p(LOG_SCALE * gram)
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(net.encode(image)[0], expected, atol=1e-5)


def test_texture_is_blind_to_flat_colour():
    image = noise(1, 24) // 2
    np.testing.assert_allclose(
        GramRandomNet().encode(image), GramRandomNet().encode(image + np.uint8(60)), atol=1e-4
    )


def test_another_seed_makes_another_net():
    image = noise(1, 16)
    assert not np.allclose(GramRandomNet().encode(image), GramRandomNet(seed=1).encode(image))


def test_images_smaller_than_the_filters_are_refused():
    with pytest.raises(ValueError, match="8 x 8 pixels are smaller than filters of 11"):
        GramRandomNet().encode(noise(1, 8))
