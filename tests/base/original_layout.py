"""A base model's parts under the names of the original code, as they lie in a single file.

Written from the published layout (CompVis/stable-diffusion, mlfoundations/open_clip), not from
the converter that is tested: down the U-Net every resnet and every downsampler has a number of its
own, up it a resnet, its attention and an upsampler share one.
"""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
VAE_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
OPEN_CLIP = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip


def original_unet(unet):
    """`model.diffusion_model.*` of a U-Net of any number of levels."""
    config, renamed = unet.config, {}
    for name, tensor in unet.state_dict().items():
        renamed[f"model.diffusion_model.{_unet_name(name, config)}"] = tensor
    return renamed


def _unet_name(name, config):
    for ours, theirs in OUTSIDE.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    per_level = config.layers_per_block + 1
    if match := re.fullmatch(r"mid_block\.(\w+\.\d)\.(.+)", name):
        return f"middle_block.{MIDDLE[match[1]]}.{_inside(match[1], match[2])}"
    way, level, kind, number, rest = re.fullmatch(
        r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name
    ).groups()
    level, number = int(level), int(number)
    if kind == "downsamplers":
        return f"input_blocks.{level * per_level + per_level}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if "CrossAttn" in config.up_block_types[level] else 1
        return f"output_blocks.{level * per_level + per_level - 1}.{place}.{rest}"
    place = 0 if kind == "resnets" else 1
    block = level * per_level + number
    before = f"input_blocks.{block + 1}" if way == "down" else f"output_blocks.{block}"
    return f"{before}.{place}.{_inside(kind, rest)}"


def _inside(kind, rest):
    if not kind.startswith("resnets"):
        return rest
    layer, _, leaf = rest.rpartition(".")
    return f"{RESNET[layer]}.{leaf}"


def original_vae(vae):
    """`first_stage_model.*`; attention's Linear layers are 1 x 1 convolutions there."""
    n_levels, renamed = len(vae.config.block_out_channels), {}
    for name, tensor in vae.state_dict().items():
        theirs = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        theirs = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", theirs)
        theirs = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", theirs)
        theirs = re.sub(
            r"up_blocks\.(\d)\.(resnets|upsamplers\.0)\.",
            lambda m: (
                f"up.{n_levels - 1 - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}."
            ),
            theirs,
        )
        theirs = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", theirs)
        if match := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)\.(\w+)", theirs):
            theirs = f"{match[1]}.mid.attn_1.{VAE_ATTENTION[match[2]]}.{match[3]}"
            if tensor.ndim == 2:
                tensor = tensor[:, :, None, None]
        renamed[f"first_stage_model.{theirs}"] = tensor
    return renamed


def original_text(text_encoder, *, open_clip):
    """`cond_stage_model.*` of either kind."""
    return original_open_clip(text_encoder) if open_clip else original_clip(text_encoder)


def original_clip(text_encoder):
    """`cond_stage_model.transformer.*`, as in 1.x: OpenAI's CLIP by transformers' names."""
    before = "cond_stage_model.transformer.text_model."
    renamed = {
        before + name.removeprefix("text_model."): tensor
        for name, tensor in text_encoder.state_dict().items()
    }
    n_tokens = text_encoder.config.max_position_embeddings
    renamed[f"{before}embeddings.position_ids"] = torch.arange(n_tokens)[None]
    return renamed


def original_open_clip(text_encoder):
    """`cond_stage_model.model.*`, as in 2.x: OpenCLIP with a last layer that is not used."""
    before = "cond_stage_model.model."
    state = {
        name.removeprefix("text_model."): tensor
        for name, tensor in text_encoder.state_dict().items()
    }
    renamed = {
        f"{before}positional_embedding": state["embeddings.position_embedding.weight"],
        f"{before}token_embedding.weight": state["embeddings.token_embedding.weight"],
        f"{before}ln_final.weight": state["final_layer_norm.weight"],
        f"{before}ln_final.bias": state["final_layer_norm.bias"],
        f"{before}logit_scale": torch.tensor(4.6),
        f"{before}text_projection": torch.eye(len(state["final_layer_norm.bias"])),
    }
    n_layers = text_encoder.config.num_hidden_layers
    for layer in range(n_layers + 1):
        block = f"{before}transformer.resblocks.{layer}"
        ours = f"encoder.layers.{min(layer, n_layers - 1)}"
        for leaf in ("weight", "bias"):
            for name, theirs in OPEN_CLIP.items():
                renamed[f"{block}.{theirs}.{leaf}"] = state[f"{ours}.{name}.{leaf}"].clone()
            renamed[f"{block}.attn.in_proj_{leaf}"] = torch.cat(
                [state[f"{ours}.self_attn.{which}_proj.{leaf}"] for which in "qkv"]
            )
    return renamed


def original_checkpoint(base, *, open_clip):
    """All tensors of a single file, with those that nobody reads."""
    tensors = {
        **original_unet(base.unet),
        **original_vae(base.vae),
        **original_text(base.text_encoder, open_clip=open_clip),
        "alphas_cumprod": base.scheduler.alphas_cumprod,
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modeltime_embed0weight": torch.zeros(3),
    }
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
