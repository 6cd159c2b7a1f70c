"""Checkpoints in the original layout, against the diffusers folder of the same weights."""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.base.checkpoint import Checkpoint
from lorastyle.base.identity import MINIATURE
from lorastyle.base.latents import encode_captions, encode_images
from lorastyle.base.loading import load_base
from lorastyle.base.lookup import base_identity
from lorastyle.base.origins import find_origins
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


@pytest.fixture(scope="module")
def tensors(loaded):
    """Of each family: what a single file holds."""
    return {
        family: original_checkpoint(base, open_clip=family == "sd2")
        for family, base in loaded.items()
    }


@pytest.fixture(scope="module")
def files(folders, tensors, tmp_path_factory):
    """Of each family: a single file with its configs beside it."""
    root = tmp_path_factory.mktemp("files")
    for family, folder in folders.items():
        save_file(tensors[family], root / f"{family}.safetensors")
        configs_only(folder, root / f"{family}.config")
    return {family: root / f"{family}.safetensors" for family in WIDTHS}


@pytest.fixture
def broken(folders, tensors, tmp_path):
    """Write a file of 1.x after a change, with its configs; a file of any tensors otherwise."""
    configs_only(folders["sd1"], tmp_path / "it.config")

    def write(change=None, of=None):
        content = dict(tensors["sd1"] if of is None else of)
        if change:
            change(content)
        save_file(content, tmp_path / "it.safetensors")
        return tmp_path / "it.safetensors"

    return write


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_in_half_precision_are_read_as_they_are(dtype, broken, tensors):
    def halve(content):
        content.update({k: t.to(dtype) for k, t in content.items() if t.is_floating_point()})

    base = load_base(broken(halve))
    assert next(base.unet.parameters()).dtype == torch.float32
    expected = tensors["sd1"][FIRST].to(dtype).float()
    assert torch.equal(base.unet.time_embedding.linear_1.weight, expected)
    assert load_base(broken(halve), dtype=dtype).unet.dtype == dtype


@pytest.mark.parametrize("family", WIDTHS)
def test_weights_by_name_are_those_of_the_folder(family, loaded, files):
    weights, base = BaseWeights(files[family]), loaded[family]
    for name, tensor in base.unet.state_dict().items():
        if "attentions.1" in name or "resnets.0" in name:
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
