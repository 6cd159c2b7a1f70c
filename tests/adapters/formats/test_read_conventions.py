"""Conventions of trainers we cannot run here, by their formulas written out in NumPy."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from safetensors.numpy import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import ModuleKey
from lorastyle.errors import AdapterFileError

TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
FLAT = {name: name.replace(".", "_") for name in (TO_Q, CONV)}


def random(*shape, seed=0):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return values.astype(np.float32)


def write(path, tensors, metadata=None):
    arrays = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(arrays, path, metadata=metadata)
    return path


@pytest.fixture
def file(tmp_path):
    return lambda tensors, metadata=None: write(tmp_path / "it.safetensors", tensors, metadata)


def kohya(module, **parts):
    return {
        f"lora_unet_{FLAT[module]}.{role.replace('__', '.')}": value
        for role, value in parts.items()
    }


def scalar(value):
    return np.asarray(value, np.float32)


def test_kohya_divides_alpha_by_rank(file, same_updates):
    up, down = random(20, 4), random(4, 12)
    adapter = read_adapter(
        file(kohya(TO_Q, lora_up__weight=up, lora_down__weight=down, alpha=scalar(3)))
    )
    same_updates(adapter, {TO_Q: 3 / 4 * up @ down})
    assert adapter.facts["alpha"] == {"3": 1}
    assert adapter.facts["alpha_source"] == "tensor"


@pytest.mark.parametrize("prefix", ["lora_unet_unet_", "lycoris_", "lora_unet.", "unet.", ""])
def test_other_prefixes_lead_to_the_same_module(file, same_updates, prefix):
    up, down = random(20, 4), random(4, 12)
    name = FLAT[TO_Q] if prefix.endswith("_") else TO_Q
    adapter = read_adapter(
        file({f"{prefix}{name}.lora_up.weight": up, f"{prefix}{name}.lora_down.weight": down})
    )
    same_updates(adapter, {TO_Q: up @ down})
    expected = {"lora_unet_unet_": "kohya-malformed", "lycoris_": "kohya"}
    assert adapter.facts["format"] == expected.get(prefix, "onetrainer")


def test_text_encoders_are_told_apart(file):
    name = "text_model_encoder_layers_0_self_attn_q_proj"
    parts = {"lora_up.weight": random(8, 2), "lora_down.weight": random(2, 8)}
    tensors = {
        f"{prefix}_{name}.{role}": value
        for prefix in ("lora_te1", "lora_te2")
        for role, value in parts.items()
    }
    module = "text_model.encoder.layers.0.self_attn.q_proj"
    assert set(read_adapter(file(tensors)).updates) == {
        ModuleKey("text_encoder", module),
        ModuleKey("text_encoder_2", module),
    }


def test_a_peft_text_encoder_1280_wide_is_the_second(file):
    module = "text_model.encoder.layers.0.self_attn.q_proj"
    tensors = {
        f"base_model.model.{module}.lora_A.weight": random(2, 1280),
        f"base_model.model.{module}.lora_B.weight": random(1280, 2),
    }
    assert set(read_adapter(file(tensors)).updates) == {ModuleKey("text_encoder_2", module)}


def test_locon_and_its_tucker_form(file, same_updates):
    up, down = random(10, 3, 1, 1), random(3, 5, 3, 3)
    plain = read_adapter(file(kohya(CONV, lora_up__weight=up, lora_down__weight=down)))
    same_updates(plain, {CONV: np.einsum("or,rikl->oikl", up[:, :, 0, 0], down)})
    assert plain.facts["format"] == "lycoris-locon"
    narrow, mid = random(3, 5, 1, 1), random(3, 3, 3, 3)
    parts = {"lora_up__weight": up, "lora_down__weight": narrow, "lora_mid__weight": mid}
    tucker = read_adapter(file(kohya(CONV, **parts, alpha=scalar(6))))
    wanted = np.einsum("mnkl,im,nj->ijkl", mid, up[:, :, 0, 0], narrow[:, :, 0, 0])
    same_updates(tucker, {CONV: 2 * wanted})


def test_loha_of_lycoris_with_and_without_a_core(file, same_updates):
    w = [random(12, 2), random(2, 5 * 9), random(12, 2, seed=1), random(2, 5 * 9, seed=1)]
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    plain = read_adapter(file(kohya(CONV, **dict(zip(names, w, strict=True)), alpha=scalar(1))))
    same_updates(plain, {CONV: 0.5 * (w[0] @ w[1]) * (w[2] @ w[3])})
    assert plain.facts["format"] == "lycoris-loha"
    assert plain.updates[ModuleKey("unet", CONV)].kernel == (3, 3)

    cores = random(2, 2, 3, 3), random(2, 2, 3, 3, seed=1)
    w = [random(2, 12), random(2, 5), random(2, 12, seed=1), random(2, 5, seed=1)]
    parts = {**dict(zip(names, w, strict=True)), "hada_t1": cores[0], "hada_t2": cores[1]}
    tucker = read_adapter(file(kohya(CONV, **parts)))
    sides = [
        np.einsum("ijkl,jr,ip->prkl", core, b, a)
        for core, a, b in ((cores[0], *w[:2]), (cores[1], *w[2:]))
    ]
    same_updates(tucker, {CONV: sides[0] * sides[1]})


def test_lokr_scales_by_the_rank_of_whichever_factor_has_one(file, same_updates):
    w1, w1_a, w1_b = random(4, 2), random(4, 3), random(3, 2)
    w2, w2_a, w2_b = random(5, 6), random(5, 3, seed=2), random(3, 6, seed=2)
    alpha = scalar(1)
    for parts, wanted in (
        ({"lokr_w1": w1, "lokr_w2_a": w2_a, "lokr_w2_b": w2_b}, np.kron(w1, w2_a @ w2_b) / 3),
        ({"lokr_w1_a": w1_a, "lokr_w1_b": w1_b, "lokr_w2": w2}, np.kron(w1_a @ w1_b, w2) / 3),
        # LyCORIS: two full matrices are not scaled, whatever alpha says.
        ({"lokr_w1": w1, "lokr_w2": w2}, np.kron(w1, w2)),
    ):
        adapter = read_adapter(file(kohya(TO_Q, **parts, alpha=alpha)))
        same_updates(adapter, {TO_Q: wanted})
        assert adapter.facts["format"] == "lycoris-lokr"


def test_lokr_of_convolutions(file, same_updates):
    w1, w2 = random(4, 2), random(5, 3, 3, 3)
    adapter = read_adapter(file(kohya(CONV, lokr_w1=w1, lokr_w2=w2)))
    wanted = np.kron(w1[:, :, None, None], w2)
    same_updates(adapter, {CONV: wanted})
    a, b, core = random(2, 5), random(2, 3), random(2, 2, 3, 3)
    parts = {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": core}
    adapter = read_adapter(file(kohya(CONV, **parts, alpha=scalar(4))))
    w2 = np.einsum("ijkl,ip,jr->prkl", core, a, b)
    same_updates(adapter, {CONV: 2 * np.kron(w1[:, :, None, None], w2)})


def test_a_full_difference_with_its_bias_left_out(file, same_updates):
    diff = random(12, 2) @ random(2, 9)
    adapter = read_adapter(file(kohya(TO_Q, diff=diff, diff_b=random(12))))
    same_updates(adapter, {TO_Q: diff})
    assert adapter.facts["format"] == "lycoris-full"
    assert adapter.facts["ranks"] == {"full": 1}
    assert any("Biases" in note and TO_Q in note for note in adapter.facts["notes"])


@pytest.mark.parametrize("per_input", [False, True])
def test_dora_of_lycoris_and_onetrainer(file, same_updates, per_input):
    up, down, base = random(10, 2), random(2, 6), random(10, 6, seed=3)
    norms = np.linalg.norm(base + up @ down, axis=0 if per_input else 1, keepdims=True)
    magnitude = norms * np.linspace(0.5, 2, norms.size).reshape(norms.shape).astype(np.float32)
    tensors = kohya(TO_Q, lora_up__weight=up, lora_down__weight=down, dora_scale=magnitude)
    same_updates(read_adapter(file(tensors)), {TO_Q: up @ down})
    exact = read_adapter(file(tensors), base_weights={f"unet.{TO_Q}.weight": base})
    same_updates(exact, {TO_Q: magnitude * (base + up @ down) / norms - base})


def test_a_base_weight_of_another_model_is_refused(file):
    tensors = kohya(
        TO_Q,
        lora_up__weight=random(10, 2),
        lora_down__weight=random(2, 6),
        dora_scale=random(10, 1),
    )
    with pytest.raises(AdapterFileError, match=r"\(10, 6\).*\(10, 7\)"):
        read_adapter(file(tensors), base_weights={f"unet.{TO_Q}.weight": random(10, 7)})


def test_onetrainers_bundled_embeddings_are_noted(file):
    tensors = kohya(TO_Q, lora_up__weight=random(8, 2), lora_down__weight=random(2, 6))
    tensors["bundle_emb.<me>.clip_l"] = random(3, 768)
    facts = read_adapter(file(tensors)).facts
    assert facts["format"] == facts["trainer"].lower() == "onetrainer"
    assert "1 textual-inversion embeddings" in facts["notes"][0]


def test_an_alpha_of_zero_is_the_rank_as_kohya_has_it(file, same_updates):
    up, down = random(8, 2), random(2, 6)
    adapter = read_adapter(
        file(kohya(TO_Q, lora_up__weight=up, lora_down__weight=down, alpha=scalar(0)))
    )
    same_updates(adapter, {TO_Q: up @ down})
    assert "alpha of 0" in adapter.facts["notes"][0]


def test_an_adapter_that_does_nothing_is_empty_and_no_error(file):
    tensors = kohya(TO_Q, lora_up__weight=random(8, 2) * 0, lora_down__weight=random(2, 6))
    assert read_adapter(file(tensors)).facts["empty"] is True


def test_metadata_that_tells_of_training_is_kept_and_training_text_never(file):
    tensors = kohya(TO_Q, lora_up__weight=random(8, 2), lora_down__weight=random(2, 6))
    secret = "a photo of my neighbour"
    metadata = {
        "ss_seed": "1337",
        "ss_network_module": "networks.lora",
        "ss_network_args": "x" * 5000,
        "ss_tag_frequency": json.dumps({"4_me": {secret: 3}}),
        "ss_dataset_dirs": json.dumps({secret: {}}),
        "ss_training_comment": secret,
        "ss_datasets": secret,
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.description": secret,
        "modelspec.trigger_phrase": secret,
    }
    facts = read_adapter(file(tensors, metadata)).facts
    assert facts["seed"] == 1337
    assert facts["trainer"] == "kohya sd-scripts"
    assert facts["metadata"]["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert len(facts["metadata"]["ss_network_args"]) == 200
    assert "neighbour" not in json.dumps(facts)


def walked(network, ancestors, search=(nn.Linear,)):
    """`_find_modules_v2` of cloneofsimo/lora: names of the Linear layers it numbers."""
    names = []
    for path, ancestor in network.named_modules():
        if type(ancestor).__name__ in ancestors:
            names += [
                (f"{path}.{name}", module)
                for name, module in ancestor.named_modules()
                if isinstance(module, search)
            ]
    return names


def numbered(names, rank=2):
    pairs = []
    for _, module in names:
        out, *into = module.weight.shape
        ones = [1] * (len(into) - 1)
        pairs.append((random(out, rank, *ones), random(rank, *into)))
    return [array for pair in pairs for array in pair]


@pytest.fixture(scope="module", params=[768, 1024])
def stable_diffusion_unet(request):
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=request.param, attention_head_dim=8)


@pytest.mark.parametrize(
    "targets",
    [
        {"Attention", "CrossAttention"},
        {"Attention", "GEGLU"},
        {"Attention", "GEGLU", "ResnetBlock2D"},
    ],
)
def test_cloneofsimos_numbers_are_the_walk_through_the_unet(
    stable_diffusion_unet, targets, tmp_path
):
    known = {Attention.__name__, GEGLU.__name__, ResnetBlock2D.__name__}
    assert known >= targets - {"CrossAttention"}
    names = walked(stable_diffusion_unet, targets, (nn.Linear, nn.Conv2d))
    arrays = numbered(names)
    torch.save([torch.from_numpy(array) for array in arrays], tmp_path / "list.pt")
    tensors = {
        f"unet:{i // 2}:{'down' if i % 2 else 'up'}": array for i, array in enumerate(arrays)
    }
    for path in (tmp_path / "list.pt", write(tmp_path / "it.safetensors", tensors)):
        adapter = read_adapter(path)
        assert len(adapter) == len(names)
        for i, (name, _) in enumerate(names):
            update = adapter.updates[ModuleKey("unet", name)]
            np.testing.assert_array_equal(update.lora_B.ravel(), arrays[2 * i].ravel())
            np.testing.assert_array_equal(update.lora_A.ravel(), arrays[2 * i + 1].ravel())
            assert update.scaling == 1


@pytest.mark.parametrize(("n_layers", "width"), [(12, 768), (23, 1024)])
def test_cloneofsimos_numbers_are_the_walk_through_the_text_encoder(tmp_path, n_layers, width):
    config = CLIPTextConfig(num_hidden_layers=n_layers, hidden_size=width, vocab_size=10)
    with torch.device("meta"):
        names = walked(CLIPTextModel(config), {"CLIPAttention"})
    arrays = numbered(names, rank=1)
    torch.save([torch.from_numpy(array) for array in arrays], tmp_path / "text.pt")
    adapter = read_adapter(tmp_path / "text.pt")
    for i, (name, _) in enumerate(names):
        full = name if name.startswith("text_model.") else f"text_model.{name}"
        update = adapter.updates[ModuleKey("text_encoder", full)]
        np.testing.assert_array_equal(update.lora_B, arrays[2 * i])


def test_cloneofsimo_of_an_unknown_walk_is_refused(tmp_path):
    torch.save([torch.ones(320, 2), torch.ones(2, 320)] * 5, tmp_path / "list.pt")
    with pytest.raises(AdapterFileError, match=r"numbers 5 modules.*\(320, 320\)"):
        read_adapter(tmp_path / "list.pt")


@pytest.mark.parametrize(
    ("key", "shape", "seen"),
    [
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", (2, 8), "Flux"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", (2, 8), "Flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", (2, 8), "Diffusion 3"),
        (f"lora_unet_{FLAT[TO_Q]}.oft_blocks", (2, 8, 8), "OFT"),
        (f"lora_unet_{FLAT[TO_Q]}.a1.weight", (2, 8), "GLoRA"),
        (f"lora_unet_{FLAT[TO_Q]}.on_input", (1,), "IA3"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", (2, 8), "language"),
        ("model.diffusion_model.input_blocks.0.0.weight", (4, 4, 3, 3), "checkpoint"),
        ("something.else", (2, 8), "'something.else'"),
    ],
)
def test_what_cannot_be_represented_is_named(file, key, shape, seen):
    with pytest.raises(AdapterFileError, match=seen):
        read_adapter(file({key: random(*shape)}))


def test_a_key_that_is_not_understood_refuses_the_file(file):
    tensors = kohya(TO_Q, lora_up__weight=random(8, 2), lora_down__weight=random(2, 6))
    tensors["lora_unet_mystery.lora_up.weight"] = random(8, 2)
    with pytest.raises(AdapterFileError, match=r"1 tensors.*lora_unet_mystery.*\(8, 2\)"):
        read_adapter(file(tensors))


def test_one_module_under_two_names_is_refused(file):
    tensors = kohya(TO_Q, lora_up__weight=random(8, 2), lora_down__weight=random(2, 6))
    tensors[f"unet.{TO_Q}.lora_A.weight"] = random(2, 6)
    with pytest.raises(AdapterFileError, match="twice"):
        read_adapter(file(tensors))
