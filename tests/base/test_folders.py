"""Diffusers folders as people have them: the same weights in several files, or half of them."""

import hashlib
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.base.loading import load_base
from lorastyle.base.lookup import base_identity
from lorastyle.base.weights import BaseWeights
from lorastyle.errors import BaseModelError

STEMS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}


def add_variant(folder, word, dtype=torch.float16):
    """Beside each part's weights the same under another name, rounded, and half of them lost."""
    for part, stem in STEMS.items():
        tensors = load_file(folder / part / f"{stem}.safetensors")
        rounded = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        save_file(rounded, folder / part / f"{stem}.{word}.safetensors", {"format": "pt"})
    return folder


def by_hand(folder, ending=".safetensors"):
    digest = hashlib.sha256()
    for part, stem in STEMS.items():
        file = folder / part / f"{stem}{ending}"
        digest.update(f"{part}/{file.name}".encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def copy(folders, tmp_path):
    return shutil.copytree(folders["sd1"], tmp_path / "copy")


def test_of_full_and_half_precision_the_full_one_is_loaded_and_hashed(copy, loaded):
    add_variant(add_variant(copy, "fp16"), "non_ema")
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    expected, base = loaded["sd1"], load_base(copy)
    assert base.identity.sha256 == expected.identity.sha256 == by_hand(copy)
    for part in STEMS:
        ours, theirs = getattr(base, part).state_dict(), getattr(expected, part).state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    read = torch.from_numpy(BaseWeights(copy)[name])
    assert torch.equal(read, expected.unet.state_dict()[name.removeprefix("unet.")])


def test_a_folder_of_half_precision_alone_is_loaded(copy, loaded):
    add_variant(copy, "fp16")
    for part, stem in STEMS.items():
        (copy / part / f"{stem}.safetensors").unlink()
    base, full = load_base(copy), loaded["sd1"]
    assert base.identity.sha256 == by_hand(copy, ".fp16.safetensors")
    assert base.identity.sha256 != full.identity.sha256
    for part in STEMS:
        ours, theirs = getattr(base, part).state_dict(), getattr(full, part).state_dict()
        assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
        assert all(torch.equal(ours[name], t.half().float()) for name, t in theirs.items())


def test_shards_are_loaded_and_hashed_in_order(copy, loaded):
    before = base_identity(str(copy)).sha256
    shutil.rmtree(copy / "unet")
    loaded["sd1"].unet.save_pretrained(copy / "unet", max_shard_size="500KB")
    shards = sorted((copy / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    base = load_base(copy)
    ours, theirs = base.unet.state_dict(), loaded["sd1"].unet.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    digest = hashlib.sha256()
    text, vae = copy / "text_encoder/model.safetensors", next((copy / "vae").glob("*.safetensors"))
    for file in (text, *shards, vae):
        digest.update(str(file.relative_to(copy)).encode() + file.read_bytes())
    assert base.identity.sha256 == digest.hexdigest() != before


def test_weights_without_averaging_alone_are_not_taken_for_the_model(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(
        copy / "unet" / "diffusion_pytorch_model.non_ema.safetensors"
    )
    with pytest.raises(BaseModelError, match=r"unet' holds no \.safetensors weights to load"):
        load_base(copy)


@pytest.mark.parametrize(
    ("part", "tensor"), [("unet", "conv_in.weight"), ("vae", "quant_conv.bias")]
)
def test_weights_that_lack_a_tensor_are_not_filled_with_noise(copy, part, tensor):
    file = copy / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors[tensor]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=rf"'{part}' .* lacks 1 tensors .* '{tensor}'"):
        load_base(copy)


def test_a_text_encoder_that_lacks_a_tensor_is_not_filled_with_noise(copy):
    file = copy / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    del tensors[min(tensors)]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"'text_encoder' .* lacks 1 tensors"):
        load_base(copy)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"in_channels": 4', '"in_channels": 9', "takes 9 channels, and latents have 4"),
        ('"addition_embed_type": null', '"addition_embed_type": "text_time"', "like SDXL"),
        ('"sample_size": 8', '"sample_size": null', "do not describe it"),
    ],
)
def test_folders_of_other_kinds_of_models_are_refused(copy, old, new, says):
    config = copy / "unet" / "config.json"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    with pytest.raises(BaseModelError, match=says):
        load_base(copy)


def renamed(file, change):
    tensors = {change(name): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    return tensors


def test_names_of_the_published_repositories_are_known(copy, loaded):
    """Those of 1.x were written by releases with other names for attention and text encoder."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def older(name):
        for ours, theirs in old.items():
            name = name.replace(
                f"mid_block.attentions.0.{ours}.", f"mid_block.attentions.0.{theirs}."
            )
        return name

    vae = renamed(copy / "vae" / "diffusion_pytorch_model.safetensors", older)
    assert "encoder.mid_block.attentions.0.query.weight" in vae
    text = renamed(
        copy / "text_encoder" / "model.safetensors",
        lambda name: f"text_model.{name.removeprefix('text_model.')}",
    )
    assert "text_model.final_layer_norm.bias" in text
    base = load_base(copy)
    for part in ("vae", "text_encoder"):
        ours, theirs = (getattr(it, part).state_dict() for it in (base, loaded["sd1"]))
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
