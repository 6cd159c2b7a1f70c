"""What a name of weights means: a file, a folder, a model in the hub's cache or on the hub."""

import hashlib
import shutil

import numpy as np
import pytest

from lorastyle.errors import ConfigError, FeatureError
from lorastyle.features.contract import encode_all, image_feature
from lorastyle.features.learned import WEIGHT_KEYS
from lorastyle.features.weights import Weights
from tests.base.conftest import COMMIT, hub_cache, write_snapshot
from tests.base.test_hub import NAME, ask, serving
from tests.features.conftest import pictures

__all__ = ["hub_cache"]


@pytest.mark.parametrize("name", ["nowhere/", "./nowhere", "a/b/c", "x.safetensors", "o/n.pth", ""])
def test_what_is_neither_here_nor_a_hub_id_is_refused_at_once(name):
    with pytest.raises(ConfigError, match=rf"feature_weights\.clip: there is no '{name}'"):
        image_feature("clip", {"clip": name})


@pytest.mark.parametrize(
    ("name", "key"),
    [("aladin", "aladin"), ("abc_clip", "abc_clip_mapper"), ("abc_dino", "abc_dino_mapper")],
)
def test_a_feature_that_needs_a_file_says_by_which_key(name, key):
    with pytest.raises(ConfigError, match=rf"set evaluation\.feature_weights\.{key} to a file"):
        image_feature(name)


def test_a_key_that_nothing_reads_is_refused_with_those_there_are():
    with pytest.raises(
        ConfigError, match=r"no key 'cslip'; .*abc_clip_backbone.*aladin, clip, csd"
    ):
        image_feature("pixel_mean", {"cslip": "openai/clip-vit-base-patch32"})


def test_published_weights_are_named_without_touching_the_hub(hub_cache):
    for name in WEIGHT_KEYS.keys() - {"aladin", "abc_clip", "abc_dino"}:
        assert image_feature(name).name == name
    assert not hub_cache.exists()


@pytest.mark.parametrize("name", [NAME, f"{NAME}@v9"])
def test_a_model_that_cannot_be_fetched_is_one_sentence(name, hub_cache):
    feature = image_feature("clip", {"clip": name})
    with pytest.raises(
        FeatureError, match=rf"feature_weights\.clip: .*'{name}'.*cannot be fetched"
    ):
        encode_all(feature, pictures((32, 32)))


def test_a_cached_model_is_that_of_the_folder(clip_folder, hub_cache):
    write_snapshot(hub_cache, NAME, clip_folder)
    seen = pictures((64, 64))
    found = {
        name: image_feature("clip", {"clip": name})
        for name in (NAME, f"{NAME}@{COMMIT}", str(clip_folder))
    }
    assert len({feature.identity() for feature in found.values()}) == 1
    vectors = [encode_all(feature, seen) for feature in found.values()]
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_the_hash_is_of_the_digests_of_config_and_weights(clip_folder):
    files = [clip_folder / name for name in ("config.json", "model.safetensors")]
    content = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
    assert Weights("clip", str(clip_folder)).sha256 == hashlib.sha256(content).hexdigest()


def test_csd_is_found_in_the_cache_without_a_config(csd_release, hub_cache):
    write_snapshot(hub_cache, NAME, csd_release.parent)
    feature = image_feature("csd", {"csd": NAME})
    assert feature.identity() == image_feature("csd", {"csd": str(csd_release)}).identity()


def test_a_download_that_was_cut_short_is_not_taken_for_the_model(clip_folder, hub_cache):
    (write_snapshot(hub_cache, NAME, clip_folder) / "model.safetensors").unlink()
    with pytest.raises(FeatureError, match="is not whole in the local cache"):
        image_feature("clip", {"clip": NAME}).identity()


@pytest.mark.parametrize("names", [(), ("model-00001-of-00002.safetensors",), ("flax_model.bin",)])
def test_a_folder_without_whole_weights_is_refused(names, clip_folder, tmp_path):
    shutil.copy(clip_folder / "config.json", tmp_path)
    for name in names:
        shutil.copy(clip_folder / "model.safetensors", tmp_path / name)
    with pytest.raises(
        FeatureError, match=r"has no whole model\.safetensors or pytorch_model\.bin"
    ):
        image_feature("clip", {"clip": str(tmp_path)}).identity()


def test_only_what_is_loaded_is_fetched_and_then_the_hub_is_not_asked(clip_folder, tmp_path):
    there = shutil.copytree(clip_folder, tmp_path / "there")
    for name in ("pytorch_model.bin", "tf_model.h5", "modeling.py"):
        (there / name).write_bytes(b"not to be fetched")
    code = (
        "import sys; from lorastyle.features.contract import image_feature;"
        "print(image_feature('clip', {'clip': sys.argv[1]}).identity());"
        "assert 'torch' not in sys.modules"
    )
    with serving(there) as (endpoint, served):
        done = ask(code, endpoint, tmp_path / "home", f"{NAME}@v1")
    assert done.stdout.strip() == image_feature("clip", {"clip": str(clip_folder)}).identity(), done
    assert set(served) == {"config.json", "model.safetensors"}
    # The server is gone: what is whole in the cache needs none.
    assert ask(code, endpoint, tmp_path / "home", f"{NAME}@v1").stdout == done.stdout
