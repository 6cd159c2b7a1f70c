import numpy as np
import pytest

from lorastyle.errors import ConfigError
from lorastyle.features.contract import aggregate, encode_all, feature_names, image_feature
from lorastyle.features.random_net import GramRandomNet

NAMES = ("colour_histogram", "gram_random_net", "pixel_mean")
LEARNED = ("abc_clip", "abc_dino", "aladin", "clip", "csd", "dino")


def images(n, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_the_configured_baselines_are_there():
    assert feature_names() == tuple(sorted([*NAMES, *LEARNED]))


def test_an_unknown_feature_is_refused_with_the_names_there_are():
    with pytest.raises(ConfigError, match=r"'blip'.*clip, colour_histogram, csd, dino"):
        image_feature("blip")


def test_features_without_weights_tell_themselves_apart():
    made = [image_feature(name) for name in NAMES]
    identities = {feature.identity() for feature in (*made, GramRandomNet(seed=1))}
    assert len(identities) == len(NAMES) + 1
    assert image_feature("pixel_mean").identity() == made[2].identity()


@pytest.mark.parametrize("name", NAMES)
class TestEveryFeature:
    def test_gives_one_finite_float32_vector_an_image(self, name):
        feature = image_feature(name)
        encoded = feature.encode(images(3))
        assert encoded.shape == (3, feature.dimension)
        assert encoded.dtype == np.float32
        assert np.isfinite(encoded).all()

    def test_has_the_name_it_is_asked_for_by(self, name):
        assert image_feature(name).name == name

    def test_is_deterministic(self, name):
        first, again = image_feature(name), image_feature(name)
        np.testing.assert_array_equal(first.encode(images(2)), again.encode(images(2)))

    def test_sees_each_image_by_itself(self, name):
        feature, batch = image_feature(name), images(5)
        alone = np.concatenate([feature.encode(image[None]) for image in batch])
        np.testing.assert_allclose(feature.encode(batch), alone, atol=1e-6)

    def test_takes_images_of_any_size(self, name):
        feature = image_feature(name)
        for size in (16, 32, 50, 96):
            assert feature.encode(images(1, size)).shape == (1, feature.dimension)

    def test_is_finite_for_flat_images(self, name):
        flat = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 128, 255)])
        assert np.isfinite(image_feature(name).encode(flat)).all()

    def test_refuses_what_is_not_rgb_bytes(self, name):
        feature = image_feature(name)
        for wrong in (np.zeros((2, 32, 32, 3)), np.zeros((2, 32, 32, 1), np.uint8)):
            with pytest.raises(ValueError, match="uint8"):
                feature.encode(wrong)


def test_batches_change_nothing():
    feature, batch = image_feature("colour_histogram"), images(7, 16)
    np.testing.assert_array_equal(encode_all(feature, iter(batch), 3), feature.encode(batch))


def test_no_images_give_no_features():
    feature = image_feature("pixel_mean")
    assert encode_all(feature, []).shape == (0, feature.dimension)


def test_an_adapter_is_the_mean_of_its_images():
    features = np.array([[1, 0], [3, 0], [0, 5]], np.float32)
    found = aggregate(features, [(0, 1), (2,), (0, 1, 2)])
    np.testing.assert_allclose(found, [[2, 0], [0, 5], [4 / 3, 5 / 3]])


def test_an_adapter_without_images_has_no_mean():
    with pytest.raises(ValueError, match="set 1 has no image"):
        aggregate(np.ones((2, 2), np.float32), [(0,), ()])
