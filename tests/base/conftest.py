"""Small base models of Stable Diffusion's two families, in every form in which one comes."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorastyle.base.loading import load_base
from lorastyle.base.pretraining import write_tokenizer
from tests.base.original_layout import original_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WIDTHS = {"sd1": 768, "sd2": 1024}
N_TOKENS = 8


def make_base(folder, family):
    """An untrained model with the family's four levels, its text width and its own switches."""
    from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    is_sd2, width = family == "sd2", WIDTHS[family]
    tokenizer = write_tokenizer(folder / "tokenizer", ["a", "red", "boat"], N_TOKENS)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 8, 16, 16), norm_num_groups=4,
            cross_attention_dim=width, attention_head_dim=[1, 1, 2, 2] if is_sd2 else 2,
            use_linear_projection=is_sd2,
            down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=2, sample_size=64,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=width, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=4, vocab_size=len(tokenizer), max_position_embeddings=N_TOKENS,
                hidden_act="gelu" if is_sd2 else "quick_gelu", bos_token_id=0,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=0,
            )
        )  # fmt: skip
    schedule = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    }  # fmt: skip
    scheduler = (
        DDPMScheduler(**schedule, prediction_type="v_prediction", clip_sample=False)
        if is_sd2
        # What the repositories of 1.x have.
        else PNDMScheduler(**schedule, skip_prk_steps=True, set_alpha_to_one=False)
    )
    for part, made in {"unet": unet, "vae": vae, "text_encoder": text_encoder}.items():
        made.save_pretrained(folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture(scope="package")
def folders(tmp_path_factory):
    """A diffusers folder of each family."""
    root = tmp_path_factory.mktemp("bases")
    return {family: make_base(root / family, family) for family in WIDTHS}


@pytest.fixture(scope="package")
def loaded(folders):
    """The same, loaded; nobody changes them."""
    return {family: load_base(folder) for family, folder in folders.items()}


def configs_only(folder, destination):
    """A copy of a diffusers folder without weights."""
    return shutil.copytree(folder, destination, ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.fixture(scope="package")
def tensors(loaded):
    """Of each family: what a single file holds."""
    return {
        family: original_checkpoint(base, open_clip=family == "sd2")
        for family, base in loaded.items()
    }


@pytest.fixture(scope="package")
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


def write_snapshot(cache, repository, folder, commit=COMMIT, ref="main"):
    """A folder as the hub's local cache has it: contents in blobs, a snapshot of links, a ref."""
    place = Path(cache) / f"models--{repository.replace('/', '--')}"
    snapshot, blobs = place / "snapshots" / commit, place / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / ref).write_text(commit)
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    for number, file in enumerate(files):
        shutil.copyfile(file, blobs / f"{commit[:8]}{number}")
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / f"{commit[:8]}{number}", link.parent))
    return snapshot


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"
