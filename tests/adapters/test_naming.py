"""Names in LoRA files come out as diffusers' and transformers' own, or not at all."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.adapters.naming import block_of, canonical_module, part_of
from tests.adapters.unets import UNETS

SMALL = {
    "block_out_channels": (48, 96, 96),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    "transformer_layers_per_block": 3,
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
TABLES = {"sd": UNETS["sd1"], "sdxl": UNETS["sdxl"], "small": SMALL}


def matrices(network):
    return [name for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]


@pytest.fixture(scope="module")
def unets():
    with torch.device("meta"):
        return {name: UNet2DConditionModel(**config) for name, config in TABLES.items()}


@pytest.mark.parametrize("name", TABLES)
def test_every_layer_of_a_unet_is_recovered_from_kohyas_flat_name(unets, name):
    layers = matrices(unets[name])
    assert len(layers) > 50
    for layer in layers:
        assert canonical_module(layer) == ("unet", layer)
        assert canonical_module(layer.replace(".", "_")) == ("unet", layer)


def test_every_layer_of_a_text_encoder_is_recovered_whatever_transformers_calls_it():
    config = CLIPTextConfig(num_hidden_layers=13, hidden_size=64, intermediate_size=128)
    with torch.device("meta"):
        encoder = CLIPTextModel(config)
    layers = matrices(encoder)
    assert len(layers) == 13 * 6
    for layer in layers:
        full = layer if layer.startswith("text_model.") else f"text_model.{layer}"
        for spelled in (layer, full, full.replace(".", "_")):
            assert canonical_module(spelled) == ("text_encoder", full)


RESNET = ("in_layers_2", "emb_layers_1", "out_layers_3")
ATTENTION = ("proj_in", "proj_out")
BLOCK = (
    *(f"attn{i}_to_{part}" for i in (1, 2) for part in ("q", "k", "v", "out_0")),
    "ff_net_0_proj",
    "ff_net_2",
)


def inside(place, depth):
    """Layers of an LDM block: a resnet, and an attention of some depth."""
    names = [f"{place}_0_{part}" for part in RESNET]
    if depth:
        names += [f"{place}_1_{part}" for part in ATTENTION]
        names += [
            f"{place}_1_transformer_blocks_{n}_{part}" for n in range(depth) for part in BLOCK
        ]
    return names


def ldm_names(depths):
    """The original U-Net's layers, by its own numbering; depths of each down block."""
    names = ["input_blocks_0_0", "out_2", "time_embed_0", "time_embed_2"]
    for block, depth in enumerate(depths):
        for layer in (1, 2):
            names += inside(f"input_blocks_{3 * block + layer}", depth)
        if block < len(depths) - 1:
            names.append(f"input_blocks_{3 * block + 3}_0_op")
        if block:
            names.append(f"input_blocks_{3 * block + 1}_0_skip_connection")
    names += inside("middle_block", max(1, depths[-1]))
    names += [f"middle_block_2_{part}" for part in RESNET]
    for block, depth in enumerate(reversed(depths)):
        for layer in range(3):
            names += inside(f"output_blocks_{3 * block + layer}", depth)
            names.append(f"output_blocks_{3 * block + layer}_0_skip_connection")
        if block < len(depths) - 1:
            names.append(f"output_blocks_{3 * block + 2}_{2 if depth else 1}_conv")
    return names


@pytest.mark.parametrize(
    ("name", "depths", "more"),
    [("sd", (1, 1, 1, 0), ()), ("sdxl", (0, 2, 10), ("label_emb_0_0", "label_emb_0_2"))],
)
def test_the_original_unets_names_cover_diffusers_layers_once(unets, name, depths, more):
    expected = set(matrices(unets[name]))
    if name == "sd":  # its last down block is as wide as the one before
        expected.discard("down_blocks.3.resnets.0.conv_shortcut")
    names = [*ldm_names(depths), *more]
    if name == "sd":
        names.remove("input_blocks_10_0_skip_connection")
    found = [canonical_module(n) for n in names]
    assert sorted(found) == sorted(("unet", layer) for layer in expected)


def test_sdxls_original_names_are_translated_as_diffusers_translates_them():
    names = [n for n in ldm_names((0, 2, 10)) if "transformer_blocks" in n or "proj_" in n]
    translated = 0
    for name in names:
        state = {
            f"lora_unet_{name}.lora_down.weight": torch.zeros(1, 1),
            f"lora_unet_{name}.lora_up.weight": torch.zeros(1, 1),
        }
        mapped = _maybe_map_sgm_blocks_to_diffusers(state, Config())
        converted, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
        (key,) = [key for key in converted if ".down." in key]
        layer = key.removeprefix("unet.").removesuffix(".down.weight").removesuffix(".lora")
        layer = layer.replace("processor.", "").removesuffix("_lora").replace("to_out", "to_out.0")
        assert canonical_module(name) == ("unet", layer)
        translated += 1
    assert translated > 700


class Config:
    layers_per_block = 2


@pytest.mark.parametrize(
    "name",
    [
        "single_transformer_blocks.0.attn.to_q",
        "model.layers.0.self_attn.q_proj",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn3.to_q",
        "input_blocks_0_1_proj_in",
        "middle_block_3_proj_in",
        "up_blocks_x_attentions_0_proj_in",
        "",
    ],
)
def test_names_of_other_networks_are_not_taken_for_ours(name):
    assert canonical_module(name) is None


WORDS = [
    *("input_blocks", "output_blocks", "middle_block", "down_blocks", "up_blocks", "mid_block"),
    *("attentions", "resnets", "transformer_blocks", "attn1", "attn2", "to_q", "to_out"),
    *("proj_in", "ff", "net", "proj", "in_layers", "op", "conv", "0", "1", "2", "3", "11"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=9), st.sampled_from("._"))
def test_a_canonical_name_is_read_as_itself(words, separator):
    found = canonical_module(separator.join(words))
    assert found is None or canonical_module(found[1]) == found


@pytest.mark.parametrize(
    ("network", "module", "part", "block"),
    [
        ("unet", "up_blocks.1.attentions.0.proj_in", "projection", "up_blocks.1"),
        ("unet", "mid_block.resnets.0.conv1", "convolution", "mid_block"),
        ("unet", "down_blocks.0.resnets.0.time_emb_proj", "time", "down_blocks.0"),
        ("unet", "time_embedding.linear_1", "time", "time_embedding"),
        ("unet", "conv_in", "convolution", "conv_in"),
        ("text_encoder", "text_model.encoder.layers.0.mlp.fc1", "text_encoder", "text_model"),
    ],
)
def test_modules_besides_the_targets_belong_to_a_part_and_a_block(network, module, part, block):
    assert part_of(network, module) == part
    assert block_of(module) == block
