"""Single files that are no base model: each is refused in one sentence, with the first reason."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.base.loading import load_base
from lorastyle.errors import BaseModelError
from tests.base.conftest import configs_only

FIRST = "model.diffusion_model.time_embed.0.weight"


def without(*beginnings):
    def change(content):
        for key in [key for key in content if key.startswith(beginnings)]:
            del content[key]

    return change


def replaced(key, *shape):
    return lambda content: content.update({key: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(FIRST), r"lacks 1 of \d+ tensors, first 'time_embedding\.linear_1\.weight'"),
        (without("first_stage_model.encoder.mid.attn_1.q"), "vae in .* lacks 2 of"),
        (without("cond_stage_model"), "has no text_encoder"),
        (without("model.diffusion_model"), "has no unet"),
        (replaced("model.diffusion_model.label_emb.0.0.weight", 2), "no place .* first '.*label"),
        (replaced("first_stage_model.encoder.extra.weight", 2), "vae .* no place in it"),
        (replaced("cond_stage_model.transformer.text_model.more.bias", 2), "1 tensors more"),
        (replaced(FIRST, 8, 9), r"gives \(8, 9\), and by the config"),
        (
            replaced("model.diffusion_model.input_blocks.0.0.weight", 8, 9, 3, 3),
            "takes 9 channels, and latents have 4: .* inpainting",
        ),
        (replaced("conditioner.embedders.0.transformer.x", 1), "SDXL"),
        (
            replaced(
                "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight", 16, 9
            ),
            "of 2 widths",
        ),
    ],
)
def test_a_file_that_is_not_a_whole_model_is_refused_with_the_first_reason(change, says, broken):
    with pytest.raises(BaseModelError, match=says):
        load_base(broken(change))


def test_the_wrong_familys_configs_are_refused(files, folders, tmp_path):
    file = shutil.copyfile(files["sd2"], tmp_path / "two.safetensors")
    configs_only(folders["sd1"], tmp_path / "two.config")
    with pytest.raises(BaseModelError, match=r"1024 wide, and that of .* 768"):
        load_base(file)


def test_a_layer_that_the_config_does_not_have_is_refused(files, folders, tmp_path):
    file = shutil.copyfile(files["sd1"], tmp_path / "deep.safetensors")
    configs = configs_only(folders["sd1"], tmp_path / "deep.config")
    described = json.loads((configs / "unet/config.json").read_text())
    (configs / "unet/config.json").write_text(json.dumps({**described, "layers_per_block": 1}))
    with pytest.raises(BaseModelError, match="unet in"):
        load_base(file)


def test_a_file_of_no_known_width_says_where_its_configs_go(files, tmp_path):
    narrow = {
        key: tensor[:, :100].contiguous() if "attn2.to_k" in key else tensor
        for key, tensor in load_file(files["sd1"]).items()
    }
    save_file(narrow, tmp_path / "narrow.safetensors")
    with pytest.raises(BaseModelError, match=r"100 wide, which no known .*narrow\.config"):
        load_base(tmp_path / "narrow.safetensors")


@pytest.mark.parametrize("suffix", ["ckpt", "bin", "pt", "PTH"])
def test_pickles_are_refused_unread(suffix, tmp_path):
    file = tmp_path / f"old.{suffix}"
    file.write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(BaseModelError, match=r"is a pickle.* convert it to safetensors"):
        load_base(file)


def test_files_that_are_cut_short_or_no_safetensors_are_refused(files, tmp_path):
    whole = files["sd1"].read_bytes()
    contents = {
        "cut": whole[: len(whole) // 2],
        "stub": whole[:5],
        "huge": struct.pack("<Q", 200_000_000) + whole[8:],
        "text": b"not a checkpoint at all, but a page",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(BaseModelError, match=rf"{name}\.safetensors' is no whole safetensors"):
            load_base(tmp_path / f"{name}.safetensors")
    with pytest.raises(BaseModelError, match="there is no base model file"):
        load_base("owner/absent.safetensors")
