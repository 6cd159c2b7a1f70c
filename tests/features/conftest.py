"""Small checkpoints of the true layouts, and the networks of transformers that they came from."""

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

SIDE, PATCH, N_LAYERS = 32, 8, 2
N_PROJECTED, N_STYLE = 24, 40


def draw(network, seed):
    """Every parameter at random: with ones and zeros a bias left out would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval().requires_grad_(False)


def vision_shape(width, n_heads):
    return {
        "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": N_LAYERS,
        "num_attention_heads": n_heads, "image_size": SIDE, "patch_size": PATCH,
    }  # fmt: skip


def make_clip(width=48, n_heads=4, seed=1, **settings):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shape = {**vision_shape(width, n_heads), "projection_dim": N_PROJECTED, **settings}
    return draw(CLIPVisionModelWithProjection(CLIPVisionConfig(**shape)), seed)


def make_vit(width=48, n_heads=4, seed=2, **settings):
    from transformers import ViTConfig, ViTModel

    return draw(ViTModel(ViTConfig(**vision_shape(width, n_heads), **settings)), seed)


def saved(network, folder):
    """The network's folder and its tensors by the names in which it is saved."""
    from safetensors.torch import load_file

    network.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="session")
def clip():
    return make_clip()


@pytest.fixture(scope="session")
def clip_folder(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    clip.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dino():
    return make_vit()


@pytest.fixture(scope="session")
def dino_folder(dino, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    dino.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def timm_vit():
    """A ViTModel as DINO's own code would have it: heads of 64, epsilon 1e-6."""
    return make_vit(width=128, n_heads=2, layer_norm_eps=1e-6)


@pytest.fixture(scope="session")
def timm_tensors(timm_vit, tmp_path_factory):
    """Its weights by the names of `dino_vitbase16_pretrain.pth`."""
    old = saved(timm_vit, tmp_path_factory.mktemp("timm"))
    new = {
        "cls_token": old["embeddings.cls_token"],
        "pos_embed": old["embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        new[f"patch_embed.proj.{kind}"] = old[f"embeddings.patch_embeddings.projection.{kind}"]
        new[f"norm.{kind}"] = old[f"layernorm.{kind}"]
        for block in range(N_LAYERS):
            here, there = f"encoder.layer.{block}", f"blocks.{block}"
            new[f"{there}.norm1.{kind}"] = old[f"{here}.layernorm_before.{kind}"]
            new[f"{there}.norm2.{kind}"] = old[f"{here}.layernorm_after.{kind}"]
            attention = f"{here}.attention.attention"
            parts = [old[f"{attention}.{one}.{kind}"] for one in ("query", "key", "value")]
            new[f"{there}.attn.qkv.{kind}"] = torch.cat(parts)
            new[f"{there}.attn.proj.{kind}"] = old[f"{here}.attention.output.dense.{kind}"]
            new[f"{there}.mlp.fc1.{kind}"] = old[f"{here}.intermediate.dense.{kind}"]
            new[f"{there}.mlp.fc2.{kind}"] = old[f"{here}.output.dense.{kind}"]
    return new


@pytest.fixture(scope="session")
def csd_backbone():
    """A CLIP of OpenAI's kind: heads of 64, the quick GELU."""
    return make_clip(width=128, n_heads=2, seed=3)


@pytest.fixture(scope="session")
def csd_tensors(csd_backbone, tmp_path_factory):
    """Its image half and two heads by the names of the released checkpoint."""
    old = saved(csd_backbone, tmp_path_factory.mktemp("csd"))
    generator = torch.Generator().manual_seed(4)
    new = {
        "last_layer_style": torch.randn(128, N_STYLE, generator=generator),
        "last_layer_content": torch.randn(128, N_STYLE, generator=generator),
        "backbone.class_embedding": old["vision_model.embeddings.class_embedding"],
        "backbone.positional_embedding": old["vision_model.embeddings.position_embedding.weight"],
        "backbone.conv1.weight": old["vision_model.embeddings.patch_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        new[f"backbone.ln_pre.{kind}"] = old[f"vision_model.pre_layrnorm.{kind}"]
        new[f"backbone.ln_post.{kind}"] = old[f"vision_model.post_layernorm.{kind}"]
        for block in range(N_LAYERS):
            here = f"vision_model.encoder.layers.{block}"
            there = f"backbone.transformer.resblocks.{block}"
            parts = [old[f"{here}.self_attn.{one}_proj.{kind}"] for one in "qkv"]
            new[f"{there}.attn.in_proj_{kind}"] = torch.cat(parts)
            new[f"{there}.attn.out_proj.{kind}"] = old[f"{here}.self_attn.out_proj.{kind}"]
            new[f"{there}.ln_1.{kind}"] = old[f"{here}.layer_norm1.{kind}"]
            new[f"{there}.ln_2.{kind}"] = old[f"{here}.layer_norm2.{kind}"]
            new[f"{there}.mlp.c_fc.{kind}"] = old[f"{here}.mlp.fc1.{kind}"]
            new[f"{there}.mlp.c_proj.{kind}"] = old[f"{here}.mlp.fc2.{kind}"]
    return new


@pytest.fixture(scope="session")
def csd_release(csd_tensors, tmp_path_factory):
    """The training checkpoint, with everything that the released one has in its pickle."""
    path = tmp_path_factory.mktemp("csd-release") / "pytorch_model.bin"
    moments = {"state": {0: {"exp_avg": torch.zeros(5), "step": np.float64(3.0)}}}
    content = {
        "model_state_dict": {f"module.{name}": one for name, one in csd_tensors.items()},
        "opt_bb": moments,
        "opt_proj": moments,
        "iter": 80_000,
        "args": argparse.Namespace(arch="vit_large", lr=1e-5, eval_k=[1, 5]),
        "fp16_scaler": None,
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def csd_file(csd_tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("csd-file") / "csd.safetensors"
    save_file(csd_tensors, path)
    return path


def mapper_tables(width, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {
            "weight": torch.eye(width) + 0.3 * torch.randn(width, width, generator=generator),
            "bias": 0.1 * torch.randn(width, generator=generator),
        }
        for name in ("real_mapper", "synth_mapper")
    }


@pytest.fixture(scope="session")
def mappers(tmp_path_factory):
    """`weights/mapper/{clip,dino}_tuned.pth` of AbC, by the width that they map."""
    folder = tmp_path_factory.mktemp("mapper")
    tables = {width: mapper_tables(width) for width in (N_PROJECTED, 48)}
    for width, table in tables.items():
        torch.save(table, folder / f"{width}.pth")
    return {width: (folder / f"{width}.pth", table) for width, table in tables.items()}


def pictures(*sizes, seed=0):
    """Random pictures of these (height, width), smooth enough that resizing keeps something."""
    rng = np.random.default_rng(seed)
    made = []
    for height, width in sizes:
        coarse = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
        made.append(coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].copy())
    return made


SIZES = ((64, 64), (32, 48), (100, 60), (20, 20))
"""Larger, wide, tall, and small enough to be enlarged; all leave even margins."""
