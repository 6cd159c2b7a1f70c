"""Families written down as a few numbers are what diffusers builds from the real configs."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from lorastyle.adapters.family import FAMILIES, family_modules, family_of, unet_modules
from lorastyle.adapters.layout import AdapterLayout
from lorastyle.adapters.targets import target_modules
from lorastyle.adapters.updates import ModuleKey, ModuleUpdate
from lorastyle.errors import BaseModelError
from tests.adapters.unets import UNETS


@pytest.fixture(scope="module", params=FAMILIES)
def family_and_unet(request):
    with torch.device("meta"):
        return request.param, UNet2DConditionModel(**UNETS[request.param])


def test_a_familys_modules_are_the_unets_in_its_order(family_and_unet):
    family, unet = family_and_unet
    built = [
        (name, linear.out_features, linear.in_features)
        for name, linear in target_modules(unet).items()
    ]
    assert [tuple(module) for module in unet_modules(family)] == built


def test_stable_diffusion_15_at_rank_16_has_the_papers_size():
    modules = family_modules("sd1")
    assert len(modules) == 160
    assert AdapterLayout.of_modules(16, modules).size == 5_984_256


def test_an_unknown_family_is_refused():
    with pytest.raises(BaseModelError, match=r"'flux'.*sd1, sd2, sdxl"):
        family_modules("flux")


def an_update(module, out, into, network="unet"):
    ones = np.ones((2, into), np.float32), np.ones((out, 2), np.float32)
    return ModuleUpdate(ModuleKey(network, module), *ones)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_cross_attention_layer_tells_the_family(family):
    (module,) = [
        m
        for m in family_modules(family)
        if "mid" in m.name and m.name.endswith("transformer_blocks.0.attn2.to_k")
    ]
    found = family_of([an_update(module.name, module.out_features, module.in_features)])
    assert found.name == family
    assert str(module.in_features) in found.evidence


def test_self_attention_of_1_and_2_is_alike_and_only_metadata_tells():
    module = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    update = an_update(module, 1280, 1280)
    assert family_of([update]).name == "other"
    assert "sd1 and sd2" in family_of([update]).evidence
    assert family_of([update], {"ss_v2": "True"}).name == "sd2"
    assert family_of([update], {"ss_base_model_version": "sd_v1"}).name == "sd1"


def test_shapes_of_no_family_are_other_whatever_the_metadata_says():
    module = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    found = family_of([an_update(module, 96, 64)], {"ss_v2": "False"})
    assert found.name == "other"


@pytest.mark.parametrize(
    ("network", "width", "family"),
    [
        ("text_encoder", 768, "sd1"),
        ("text_encoder", 1024, "sd2"),
        ("text_encoder_2", 1280, "sdxl"),
        ("text_encoder", 96, "other"),
    ],
)
def test_a_text_encoder_alone_tells_the_family_by_its_width(network, width, family):
    module = "text_model.encoder.layers.0.self_attn.q_proj"
    assert family_of([an_update(module, width, width, network)]).name == family


def test_sdxls_first_text_encoder_alone_is_told_by_metadata_only():
    update = an_update("text_model.encoder.layers.0.self_attn.q_proj", 768, 768, "text_encoder")
    said = {"ss_base_model_version": "sdxl_base_v1-0"}
    assert family_of([update], said).name == "sdxl"
