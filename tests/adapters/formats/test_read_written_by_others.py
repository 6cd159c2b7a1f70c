"""Files written by PEFT and diffusers themselves come back with the update they compute."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import (
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import save_file

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.errors import AdapterFileError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYTHING = [
    *ATTENTION,
    *("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "time_emb_proj"),
    *("conv_in", "conv_out", "conv_shortcut", "linear_1", "downsamplers.0.conv"),
]


def layers(network, kind):
    return {name: m for name, m in network.named_modules() if isinstance(m, kind)}


def deltas(network, kind, adapter="default"):
    """What PEFT adds to each layer's weight, by the layer's own name."""
    with torch.no_grad():
        return {
            name.removeprefix("base_model.model."): m.get_delta_weight(adapter).numpy()
            for name, m in layers(network, kind).items()
        }


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("rslora", [False, True])
def test_a_peft_folder_with_patterns(unet, shake, same_updates, tmp_path, rslora, safe):
    config = LoraConfig(
        r=4,
        lora_alpha=10,
        target_modules=EVERYTHING,
        rank_pattern={"attn1.to_q": 2, r"mid_block\..*ff\.net\.2": 6},
        alpha_pattern={"attn2.to_k": 3, "^down_blocks.*conv1": 5},
        use_rslora=rslora,
    )
    adapted = shake(get_peft_model(unet, config))
    adapted.save_pretrained(str(tmp_path), safe_serialization=safe)
    adapter = read_adapter(tmp_path)
    same_updates(adapter, deltas(adapted, LoraLayer))
    assert adapter.facts["format"] == "peft"
    assert adapter.facts["alpha_source"] == "config"
    assert adapter.facts["ranks"].keys() == {"4", "2", "6"}
    assert adapter.facts["alpha"].keys() == {"10", "3", "5"}
    assert adapter.facts["n_parameters"] == sum(
        p.numel() for p in adapted.parameters() if p.requires_grad
    )


def test_convolutions_keep_their_kernel(unet, shake, tmp_path):
    config = LoraConfig(r=2, target_modules=["conv1", "conv_shortcut", "to_q"])
    shake(get_peft_model(unet, config)).save_pretrained(str(tmp_path))
    kernels = {
        k.module.rsplit(".", 1)[1]: u.kernel for k, u in read_adapter(tmp_path).updates.items()
    }
    assert kernels == {"conv1": (3, 3), "conv_shortcut": (1, 1), "to_q": ()}


@pytest.mark.parametrize("effective", [False, True])
def test_loha_of_peft(unet, shake, same_updates, tmp_path, effective):
    config = LoHaConfig(r=3, alpha=5, target_modules=EVERYTHING, use_effective_conv2d=effective)
    adapted = shake(get_peft_model(unet, config))
    adapted.save_pretrained(str(tmp_path))
    adapter = read_adapter(tmp_path)
    same_updates(adapter, deltas(adapted, LoHaLayer))
    assert set(adapter.facts["methods"]) == {"loha"}
    assert adapter.facts["ranks"].keys() == {"3"}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("effective", [False, True])
@pytest.mark.parametrize("rank", [2, 40])
def test_lokr_of_peft(unet, shake, same_updates, tmp_path, both, effective, rank):
    config = LoKrConfig(
        r=rank,
        alpha=3,
        target_modules=EVERYTHING,
        use_effective_conv2d=effective,
        decompose_both=both,
    )
    adapted = shake(get_peft_model(unet, config))
    adapted.save_pretrained(str(tmp_path))
    adapter = read_adapter(tmp_path, max_rank=10_000)
    same_updates(adapter, deltas(adapted, LoKrLayer))
    assert set(adapter.facts["methods"]) == {"lokr"}
    assert all(u.lost_energy == 0 for u in adapter.updates.values())


def test_truncated_lokr_reports_what_it_lost(unet, shake, tmp_path):
    config = LoKrConfig(r=40, alpha=3, target_modules=ATTENTION)
    adapted = shake(get_peft_model(unet, config))
    adapted.save_pretrained(str(tmp_path))
    adapter = read_adapter(tmp_path, max_rank=5)
    wanted = deltas(adapted, LoKrLayer)
    for key, update in adapter.updates.items():
        matrix = wanted[key.module].astype(np.float64)
        lost = np.linalg.norm(update.delta() - matrix) ** 2 / np.linalg.norm(matrix) ** 2
        assert update.lost_energy == pytest.approx(lost, rel=1e-3)
        assert update.rank <= 5
    assert any("truncated" in note for note in adapter.facts["notes"])


def test_dora_is_exact_with_base_weights_and_says_so_without(unet, shake, same_updates, tmp_path):
    base = {f"unet.{name}": value.clone().numpy() for name, value in unet.state_dict().items()}
    config = LoraConfig(r=2, lora_alpha=6, target_modules=[*ATTENTION, "conv1"], use_dora=True)
    adapted = shake(get_peft_model(unet, config))
    adapted.save_pretrained(str(tmp_path))
    direction = read_adapter(tmp_path)
    same_updates(direction, deltas(adapted, LoraLayer))
    assert set(direction.facts["methods"]) == {"dora"}
    assert any("base weights" in note for note in direction.facts["notes"])

    exact = read_adapter(tmp_path, base_weights=base)
    assert not any("base weights" in note for note in exact.facts["notes"])
    merged = {}
    for name, layer in layers(adapted, LoraLayer).items():
        module = name.removeprefix("base_model.model.")
        layer.merge()
        merged[module] = layer.base_layer.weight.detach().numpy() - base[f"unet.{module}.weight"]
    same_updates(exact, merged, tolerance=2e-5)


@pytest.fixture
def trained(unet, shake):
    """A U-Net as diffusers' training scripts have it: with a PEFT adapter in it."""
    unet.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=ATTENTION))
    return shake(unet)


def test_diffusers_own_file_without_metadata_has_alpha_equal_to_rank(
    trained, same_updates, tmp_path
):
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(trained))
    StableDiffusionPipeline.save_lora_weights(str(tmp_path), unet_lora_layers=state)
    adapter = read_adapter(tmp_path / "pytorch_lora_weights.safetensors")
    same_updates(adapter, {k: 2 * d for k, d in deltas(trained, LoraLayer).items()})
    assert adapter.facts["format"] == "diffusers"
    assert adapter.facts["alpha_source"] == "absent"
    assert adapter.facts["alpha"] is None


def test_diffusers_own_file_with_metadata_has_its_alpha(trained, same_updates, tmp_path):
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(trained))
    StableDiffusionPipeline.save_lora_weights(
        str(tmp_path),
        unet_lora_layers=state,
        unet_lora_adapter_metadata=trained.peft_config["default"].to_dict(),
    )
    adapter = read_adapter(tmp_path)
    same_updates(adapter, deltas(trained, LoraLayer))
    assert adapter.facts["alpha_source"] == "metadata"
    assert adapter.facts["alpha"] == {"2": len(adapter)}
    assert adapter.facts["trainer"] == "diffusers"


def test_diffusers_kohya_converter(trained, same_updates, tmp_path):
    state = get_peft_model_state_dict(trained)
    kohya = convert_state_dict_to_kohya({f"unet.{key}": value for key, value in state.items()})
    save_file({k: v.contiguous() for k, v in kohya.items()}, tmp_path / "kohya.safetensors")
    adapter = read_adapter(tmp_path / "kohya.safetensors")
    # The converter writes alpha = rank, whatever was trained.
    same_updates(adapter, {k: 2 * d for k, d in deltas(trained, LoraLayer).items()})
    assert adapter.facts["format"] == "kohya"
    assert adapter.facts["alpha_source"] == "tensor"


def test_old_attention_processors_with_and_without_the_unets_prefix(
    trained, same_updates, tmp_path
):
    state = {}
    for key, value in get_peft_model_state_dict(trained).items():
        name = key.replace(".to_out.0.", ".to_out.")
        for part in ("q", "k", "v", "out"):
            name = name.replace(f".to_{part}.lora_A", f".processor.to_{part}_lora.down")
            name = name.replace(f".to_{part}.lora_B", f".processor.to_{part}_lora.up")
        state[name] = value.contiguous()
    wanted = {k: 2 * d for k, d in deltas(trained, LoraLayer).items()}
    for prefix in ("", "unet."):
        file = tmp_path / f"{prefix}processors.bin"
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, file)
        adapter = read_adapter(file)
        same_updates(adapter, wanted)
        assert adapter.facts["format"] == "diffusers-attn-procs"


def test_a_peft_adapter_of_another_kind_is_refused(unet, tmp_path):
    config = IA3Config(target_modules=ATTENTION, feedforward_modules=[])
    get_peft_model(unet, config).save_pretrained(str(tmp_path))
    with pytest.raises(AdapterFileError, match=r"IA3"):
        read_adapter(tmp_path)
    with pytest.raises(AdapterFileError, match="IA3"):
        read_adapter(tmp_path / "adapter_model.safetensors")


def test_an_initialisation_that_changes_the_base_weights_is_refused(unet, tmp_path):
    get_peft_model(unet, LoraConfig(r=2, target_modules=ATTENTION)).save_pretrained(str(tmp_path))
    file = tmp_path / "adapter_config.json"
    config = json.loads(file.read_text()) | {"init_lora_weights": "pissa_niter_4"}
    file.write_text(json.dumps(config))
    with pytest.raises(AdapterFileError, match="pissa_niter_4"):
        read_adapter(tmp_path)
