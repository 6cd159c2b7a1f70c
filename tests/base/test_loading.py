"""Base models: one door for the shipped miniature and any folder, and clear refusals."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from lorastyle.base.loading import load_base
from lorastyle.base.source import MINIATURE
from lorastyle.errors import BaseModelError


@pytest.fixture(scope="module")
def miniature():
    return load_base("miniature")


def test_the_miniature_is_frozen_and_says_what_it_is(miniature):
    for part in (miniature.unet, miniature.vae, miniature.text_encoder):
        assert not part.training
        assert not any(p.requires_grad for p in part.parameters())
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    said = miniature.identity.to_dict()
    assert said["image_size"] == 64
    assert said["prediction_type"] == "v_prediction"
    assert said["latent_channels"] == miniature.unet.config.in_channels
    assert said["cross_attention_dim"] == miniature.text_encoder.config.hidden_size
    assert len(said["sha256"]) == 64
    assert json.dumps(said)


def test_the_package_stays_small():
    n_bytes = sum(file.stat().st_size for file in MINIATURE.rglob("*") if file.is_file())
    assert n_bytes < 8 * 2**20


def test_identity_follows_the_weights_and_not_the_place(tmp_path, miniature):
    copy = shutil.copytree(MINIATURE, tmp_path / "copy")
    assert load_base(copy).identity.sha256 == miniature.identity.sha256
    weights = next((copy / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_base(copy).identity.sha256 != miniature.identity.sha256


def test_half_precision_on_request():
    base = load_base("miniature", dtype=torch.float16)
    assert next(base.unet.parameters()).dtype == torch.float16
    assert next(base.text_encoder.parameters()).dtype == torch.float16


def test_diffusers_own_pipeline_reads_the_folder():
    from diffusers import StableDiffusionPipeline

    made = StableDiffusionPipeline.from_pretrained(MINIATURE, use_safetensors=True)
    assert type(made.scheduler).__name__ == "DDPMScheduler"
    made.set_progress_bar_config(disable=True)
    image = made("a red boat on a calm lake at dusk", num_inference_steps=2).images[0]
    assert image.size == (64, 64)


def test_caption_words_are_single_tokens_and_any_text_encodes(miniature):
    from lorastyle.corpus.procedural import caption_words

    for word in caption_words():
        assert len(miniature.tokenizer(word).input_ids) == 3, word
    strange = miniature.tokenizer("xq7zkb, na\u00efve \u96ea!").input_ids
    assert miniature.tokenizer.unk_token_id not in strange[1:-1]


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(tmp_path, part):
    copy = shutil.copytree(MINIATURE, tmp_path / "copy")
    shutil.rmtree(copy / part)
    with pytest.raises(BaseModelError, match=f"no '{part}' folder"):
        load_base(copy)


def test_missing_weights_and_configs_are_named(tmp_path):
    copy = shutil.copytree(MINIATURE, tmp_path / "copy")
    (copy / "vae" / "config.json").unlink()
    with pytest.raises(BaseModelError, match="cannot load 'vae'"):
        load_base(copy)
    next((copy / "unet").glob("*.safetensors")).rename(copy / "unet" / "weights.bin")
    with pytest.raises(BaseModelError, match=r"holds no \.safetensors"):
        load_base(copy)


def test_weights_cut_short_are_refused(tmp_path):
    copy = shutil.copytree(MINIATURE, tmp_path / "copy")
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match="cannot load 'unet'"):
        load_base(copy)


@pytest.mark.parametrize("name", ["nowhere", "./not/here", "/not/here/at/all", "~/x"])
def test_what_is_neither_folder_nor_hub_id_is_refused_without_a_download(name):
    with pytest.raises(BaseModelError, match="neither"):
        load_base(name)


def test_importing_the_package_does_not_load_torch():
    code = "import lorastyle, sys; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
