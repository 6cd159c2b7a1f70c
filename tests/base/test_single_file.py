"""Checkpoints in the original layout, against the diffusers folder of the same weights."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.base.checkpoint import Checkpoint
from lorastyle.base.latents import encode_captions, encode_images
from lorastyle.base.loading import load_base
from lorastyle.base.lookup import base_identity
from lorastyle.base.origins import find_origins
from lorastyle.base.source import MINIATURE
from lorastyle.base.weights import BaseWeights
from lorastyle.errors import BaseModelError
from tests.adapters.unets import UNETS
from tests.base.conftest import WIDTHS, configs_only, write_snapshot
from tests.base.original_layout import (
    original_checkpoint,
    original_text,
    original_unet,
    original_vae,
)

FIRST = "model.diffusion_model.time_embed.0.weight"


@torch.no_grad()
def outputs(base):
    rng = np.random.default_rng(1)
    text = encode_captions(base, ["a red boat", "boat"])
    mean, std = encode_images(base, rng.integers(0, 256, (2, 64, 64, 3), np.uint8))
    latents = torch.from_numpy(mean)
    noise = base.unet(latents, torch.tensor([3, 700]), torch.from_numpy(text)).sample
    image = base.vae.decode(latents).sample
    return {"text": text, "mean": mean, "std": std, "noise": noise.numpy(), "image": image.numpy()}


@pytest.fixture(scope="module")
def expected(loaded):
    """Of each family: what the folder's model computes."""
    return {family: outputs(base) for family, base in loaded.items()}


@pytest.mark.parametrize("family", WIDTHS)
def test_a_single_file_computes_what_the_folder_of_its_weights_does(
    family, loaded, expected, files
):
    folder, file = loaded[family], load_base(files[family])
    found = outputs(file)
    for what, array in expected[family].items():
        assert np.array_equal(found[what], array), what
    for part in ("unet", "vae", "text_encoder"):
        one, other = getattr(folder, part), getattr(file, part)
        assert one.state_dict().keys() == other.state_dict().keys()
        assert not other.training and not any(p.requires_grad for p in other.parameters())
        assert not any(t.is_meta for t in [*other.parameters(), *other.buffers()])
    assert file.tokenizer("a red boat").input_ids == folder.tokenizer("a red boat").input_ids
    assert file.scheduler.config.prediction_type == folder.scheduler.config.prediction_type
    assert torch.equal(file.scheduler.alphas_cumprod, folder.scheduler.alphas_cumprod)


def test_diffusers_reads_the_files_that_these_tests_write_in_the_same_way(folders, loaded, files):
    for family, file in files.items():
        theirs = UNet2DConditionModel.from_single_file(
            str(file), config=str(folders[family]), subfolder="unet", local_files_only=True
        ).state_dict()
        ours = loaded[family].unet.state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_the_miniature_as_a_single_file_is_the_miniature(tmp_path):
    miniature = load_base("miniature")
    save_file(original_checkpoint(miniature, open_clip=False), tmp_path / "small.safetensors")
    configs_only(MINIATURE, tmp_path / "small.config")
    file = load_base(tmp_path / "small.safetensors")
    found = outputs(file)
    assert all(np.array_equal(found[what], array) for what, array in outputs(miniature).items())
    assert file.identity.prediction_type == "v_prediction"
    assert file.identity.image_size == 64


@pytest.mark.parametrize(
    ("stored", "asked"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)]
)
def test_files_in_half_precision_are_read_as_they_are(stored, asked, broken, tensors):
    def halve(content):
        content.update({k: t.to(stored) for k, t in content.items() if t.is_floating_point()})

    unet = load_base(broken(halve), dtype=asked).unet
    assert {parameter.dtype for parameter in unet.parameters()} == {asked}
    expected = tensors["sd1"][FIRST].to(stored).to(asked)
    assert torch.equal(unet.time_embedding.linear_1.weight, expected)


@pytest.mark.parametrize("family", WIDTHS)
def test_weights_by_name_are_those_of_the_folder(family, loaded, files):
    weights, base = BaseWeights(files[family]), loaded[family]
    for name, tensor in base.unet.state_dict().items():
        if "up_blocks.2.attentions.1" in name or "blocks.1.resnets.0" in name:
            np.testing.assert_array_equal(weights[f"unet.{name}"], tensor.numpy())
    for name, tensor in base.text_encoder.state_dict().items():
        found = weights[f"text_encoder.text_model.{name.removeprefix('text_model.')}"]
        np.testing.assert_array_equal(found, tensor.numpy())


def test_the_identity_is_the_files_own_hash_and_needs_no_torch(files):
    code = (
        "import json, sys; from lorastyle.base.lookup import base_identity;"
        "said = base_identity(sys.argv[1]).to_dict(); assert 'torch' not in sys.modules;"
        "print(json.dumps(said))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(files["sd2"])], check=True, capture_output=True, text=True
    )
    said = json.loads(done.stdout)
    assert said == base_identity(str(files["sd2"])).to_dict()
    assert said["sha256"] == hashlib.sha256(files["sd2"].read_bytes()).hexdigest()
    assert (said["prediction_type"], said["cross_attention_dim"]) == ("v_prediction", 1024)
    assert "revision" not in said


def test_without_configs_beside_it_those_of_a_model_alike_in_the_hubs_cache_serve(
    folders, files, expected, tmp_path, hub_cache
):
    alone = shutil.copyfile(files["sd1"], tmp_path / "alone.safetensors")
    with pytest.raises(BaseModelError, match=r"put a diffusers folder .*alone\.config"):
        load_base(alone)
    configs = configs_only(folders["sd1"], tmp_path / "configs")
    write_snapshot(hub_cache, "runwayml/stable-diffusion-v1-5", configs)
    assert np.array_equal(outputs(load_base(alone))["noise"], expected["sd1"]["noise"])


def test_the_side_car_says_what_the_unet_predicts(folders, files, tmp_path):
    file = shutil.copyfile(files["sd1"], tmp_path / "tuned.safetensors")
    configs_only(folders["sd1"], tmp_path / "tuned.config")
    side_car = tmp_path / "tuned.yaml"
    assert load_base(file).scheduler.config.prediction_type == "epsilon"
    side_car.write_text("model:\n  params:\n    parameterization: v\n")
    base = load_base(file)
    assert base.scheduler.config.prediction_type == "v_prediction"
    assert base.identity.prediction_type == base_identity(str(file)).prediction_type
    assert base.identity.prediction_type == "v_prediction"
    side_car.write_text("model:\n  params:\n    parameterization: x0\n")
    with pytest.raises(BaseModelError, match="parameterization 'x0'"):
        load_base(file)
    for text in ("- model\n", "model: [", "!!python/object/apply:os.system [ls]"):
        side_car.write_text(text)
        with pytest.raises(BaseModelError, match=r"no model\.params"):
            load_base(file)


def test_the_text_encoder_of_a_merged_file_without_text_model_is_found(broken, expected):
    def flatten(content):
        for key in [key for key in content if ".text_model." in key]:
            content[key.replace(".text_model.", ".")] = content.pop(key)

    found = outputs(load_base(broken(flatten)))["text"]
    assert np.array_equal(found, expected["sd1"]["text"])


REAL_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
REAL_TEXT = {
    "sd1": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "sd2": {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16},
}


@pytest.mark.parametrize("family", WIDTHS)
def test_at_its_true_size_every_tensor_of_the_family_has_its_place(family):
    """Of 2.x the text encoder is 24 layers deep, of which diffusers' converter knows by number."""
    text = CLIPTextConfig(**REAL_TEXT[family], intermediate_size=4 * WIDTHS[family])
    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel.from_config(UNETS[family]),
            "vae": AutoencoderKL.from_config(REAL_VAE),
            "text_encoder": CLIPTextModel(text),
        }
        written = original_text(parts["text_encoder"], open_clip=family == "sd2")
    written |= original_unet(parts["unet"]) | original_vae(parts["vae"])
    # The name by which diffusers tells 1.x and its like.
    assert "model.diffusion_model.output_blocks.11.0.skip_connection.weight" in written
    shapes = {key: tuple(tensor.shape) for key, tensor in written.items()}
    checkpoint = Checkpoint(Path("real.safetensors"), shapes)
    assert checkpoint.family == family
    configs = {"unet": UNETS[family], "vae": REAL_VAE, "text_encoder": {}}
    for part, n_tensors in {"unet": 686, "vae": 248}.items():
        origins = find_origins(part, checkpoint, configs[part])
        assert origins.keys() == parts[part].state_dict().keys()
        assert len(origins) == n_tensors
    found = {
        name.removeprefix("text_model."): origin
        for name, origin in find_origins("text_encoder", checkpoint, {}).items()
    }
    for name, tensor in parts["text_encoder"].state_dict().items():
        cut = torch.empty(found.pop(name.removeprefix("text_model.")).shape, device="meta")
        assert cut.shape[1:] == tensor.shape[1:] and len(cut) in (len(tensor), 3 * len(tensor))
    assert not found
