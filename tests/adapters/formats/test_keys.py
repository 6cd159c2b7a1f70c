"""One key of every spelling we know, and what it means."""

import pytest

from lorastyle.adapters.formats.keys import Key, parse_key
from lorastyle.adapters.updates import ModuleKey

TO_OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
FLAT = TO_OUT.replace(".", "_")
LDM = "input_blocks_4_1_transformer_blocks_0_attn1_to_out_0"
Q_PROJ = "text_model.encoder.layers.3.self_attn.q_proj"
FC1 = "text_model.encoder.layers.3.mlp.fc1"
PROCESSOR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora"

UNET = [
    (f"lora_unet_{FLAT}.lora_down.weight", "down", "kohya"),
    (f"lora_unet_{LDM}.lora_up.weight", "up", "kohya"),
    (f"lora_unet_{FLAT}.alpha", "alpha", "kohya"),
    (f"lora_unet_{FLAT}.lora_mid.weight", "mid", "kohya"),
    (f"lora_unet_{FLAT}.dora_scale", "dora_scale", "kohya"),
    (f"lora_unet_{FLAT}.hada_w1_a", "hada_w1_a", "kohya"),
    (f"lora_unet_{FLAT}.hada_t2", "hada_t2", "kohya"),
    (f"lora_unet_{FLAT}.lokr_w2_b", "lokr_w2_b", "kohya"),
    (f"lora_unet_{FLAT}.diff", "diff", "kohya"),
    (f"lora_unet_{FLAT}.diff_b", "bias", "kohya"),
    (f"lora_unet_unet_{FLAT}.lora_down.weight", "down", "kohya-malformed"),
    (f"lycoris_{FLAT}.lokr_w1", "lokr_w1", "kohya"),
    (f"lora_unet.{TO_OUT}.lora_down.weight", "down", "onetrainer"),
    (f"unet.{TO_OUT}.lora.down.weight", "down", "diffusers"),
    (f"unet.{TO_OUT}.lora_A.weight", "down", "diffusers"),
    (f"unet.{TO_OUT}.lora_magnitude_vector", "magnitude", "diffusers"),
    (f"{PROCESSOR}.down.weight", "down", "diffusers-attn-procs"),
    (f"unet.{PROCESSOR}.up.weight", "up", "diffusers-attn-procs"),
    (f"base_model.model.{TO_OUT}.lora_B.default.weight", "up", "peft"),
    (f"base_model.model.{TO_OUT}.lora_magnitude_vector.default.weight", "magnitude", "peft"),
    (f"unet.base_model.model.{TO_OUT}.lora_B.weight", "up", "diffusers"),
    (f"{TO_OUT}.lora_A.weight", "down", "bare"),
    (f"diffusion_model.{LDM.replace('_1_', '.1.', 1)}.lora_A.weight", "down", "comfy"),
]
TEXT = [
    (f"lora_te_{Q_PROJ.replace('.', '_')}.lora_down.weight", "", Q_PROJ),
    (f"lora_te1_{FC1.replace('.', '_')}.lora_down.weight", "", FC1),
    (f"lora_te2_{FC1.replace('.', '_')}.lora_down.weight", "_2", FC1),
    (f"text_encoder.{Q_PROJ}.lora_linear_layer.down.weight", "", Q_PROJ),
    ("text_encoder." + Q_PROJ.replace("q_proj", "to_q_lora") + ".down.weight", "", Q_PROJ),
    (f"text_encoder_2.{FC1}.lora_linear_layer.down.weight", "_2", FC1),
    (f"text_encoder.{FC1}.lora_A.weight", "", FC1),
    (f"base_model.model.{Q_PROJ}.lora_A.weight", "", Q_PROJ),
    (f"text_encoders.clip_g.transformer.{Q_PROJ}.lora_A.weight", "_2", Q_PROJ),
    ("lora_te2_text_projection.lora_down.weight", "_2", "text_projection"),
]


@pytest.mark.parametrize(("key", "role", "style"), UNET)
def test_keys_of_the_unet(key, role, style):
    assert parse_key(key) == Key(ModuleKey("unet", TO_OUT), role, style)


@pytest.mark.parametrize(("key", "suffix", "module"), TEXT)
def test_keys_of_the_text_encoders(key, suffix, module):
    found = parse_key(key)
    assert found is not None
    assert (found.module, found.role) == (ModuleKey(f"text_encoder{suffix}", module), "down")


@pytest.mark.parametrize(
    "key",
    [
        f"lora_te_{FLAT}.lora_down.weight",
        f"text_encoder.{TO_OUT}.lora_A.weight",
        f"unet.{Q_PROJ}.lora_A.weight",
        f"lora_unet_{FLAT}.weight",
        f"lora_unet_{FLAT}",
        f"lora_unet_{FLAT}.lora_down.weight.more",
        "lora_down.weight",
        ".alpha",
        "",
    ],
)
def test_keys_that_contradict_themselves_are_not_understood(key):
    assert parse_key(key) is None
