"""The base model's weights by name, against the model that torch loads."""

import numpy as np
import pytest

from lorastyle.base.loading import load_base
from lorastyle.base.source import folder_of
from lorastyle.base.weights import BaseWeights


def test_every_weight_of_the_unet_is_the_models():
    weights = BaseWeights(folder_of("miniature"))
    state = load_base("miniature").unet.state_dict()
    names = {name for name in weights if name.startswith("unet.")}
    assert names == {f"unet.{key}" for key in state}
    for key in list(state)[::40]:
        found = weights[f"unet.{key}"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, state[key].float().numpy())
    assert any(name.startswith("text_encoder.") for name in weights)


def test_without_a_folder_there_are_none(tmp_path):
    weights = BaseWeights(tmp_path / "sd1")
    assert len(weights) == 0 and "unet.conv_in.weight" not in weights
    with pytest.raises(KeyError):
        weights["unet.conv_in.weight"]
