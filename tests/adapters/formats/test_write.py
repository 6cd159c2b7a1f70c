"""What we write, diffusers and PEFT load with the same effect, and we read back unchanged."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import AdapterFileError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ENDINGS = ("to_q", "to_k", "to_out.0", "ff.net.0.proj", "ff.net.2")
CONVOLUTIONS = ("conv1", "proj_in", "conv_shortcut")


def random(*shape, seed):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return values.astype(np.float32)


def an_adapter(unet, endings=(*ENDINGS, *CONVOLUTIONS), scalings=(0.5, 3.0, 1.25)):
    """Updates of differing rank and scaling, large enough to be seen in the output."""
    updates = []
    for i, (name, layer) in enumerate(sorted(unet.named_modules())):
        if not name.endswith(endings):
            continue
        rank = (4, 2, 7)[i % 3]
        into = int(np.prod(layer.weight.shape[1:]))
        updates.append(
            ModuleUpdate(
                ModuleKey("unet", name),
                random(rank, into, seed=i) * 0.2,
                random(len(layer.weight), rank, seed=i + 1) * 0.2,
                scalings[i % len(scalings)],
                kernel=tuple(layer.weight.shape[2:]),
            )
        )
    assert len(updates) > 20
    return Adapter.of("it", updates)


def output_of(unet):
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 3, 24, generator=generator)
    with torch.no_grad():
        return unet(sample, 7, context).sample


def merged(unet, adapter):
    """The U-Net with every dW added to its weight."""
    other = UNet2DConditionModel.from_config(unet.config)
    state = {key: value.clone() for key, value in unet.state_dict().items()}
    for key, update in adapter.updates.items():
        weight = state[f"{key.module}.weight"]
        weight += torch.from_numpy(update.delta()).reshape(weight.shape).float()
    other.load_state_dict(state)
    return other.eval()


@pytest.mark.parametrize("file_format", ["kohya", "diffusers"])
def test_diffusers_loads_it_with_the_same_output(unet, tmp_path, file_format):
    adapter = an_adapter(unet)
    before, wanted = output_of(unet), output_of(merged(unet, adapter))
    write_adapter(adapter, tmp_path / "it.safetensors", file_format)
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
        str(tmp_path), weight_name="it.safetensors", return_lora_metadata=True
    )
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet, metadata=metadata)
    assert (wanted - before).abs().max() > 0.1
    torch.testing.assert_close(output_of(unet), wanted, rtol=1e-4, atol=1e-4)


def test_peft_loads_its_folder_with_the_same_output(unet, tmp_path):
    adapter = an_adapter(unet)
    before, wanted = output_of(unet), output_of(merged(unet, adapter))
    write_adapter(adapter, tmp_path / "folder", "peft")
    loaded = PeftModel.from_pretrained(unet, str(tmp_path / "folder"))
    assert (wanted - before).abs().max() > 0.1
    torch.testing.assert_close(output_of(loaded.base_model.model), wanted, rtol=1e-4, atol=1e-4)


TOLERANCES = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("file_format", ["kohya", "diffusers", "peft"])
def test_a_round_trip_keeps_every_update(unet, same_updates, tmp_path, file_format, dtype):
    adapter = an_adapter(unet)
    write_adapter(adapter, tmp_path / "it", file_format, dtype=dtype)
    back = read_adapter(tmp_path / "it")
    wanted = {key.module: update.delta() for key, update in adapter.updates.items()}
    same_updates(back, wanted, TOLERANCES[dtype])
    assert back.facts["format"] in (file_format, "lycoris-locon")
    assert {u.kernel for u in back.updates.values()} == {(), (1, 1), (3, 3)}
    assert dtype in back.facts["dtypes"]


def test_text_encoders_come_back_from_each_format(tmp_path, same_updates):
    module = "text_model.encoder.layers.0.mlp.fc1"
    updates = [
        ModuleUpdate(ModuleKey(network, module), random(2, 6, seed=1), random(9, 2, seed=i), 0.5)
        for i, network in enumerate(("text_encoder", "text_encoder_2"))
    ]
    adapter = Adapter.of("texts", updates)
    for file_format in ("kohya", "diffusers"):
        write_adapter(adapter, tmp_path / file_format, file_format)
        back = read_adapter(tmp_path / file_format)
        for update in updates:
            same_updates(back, {module: update.delta()}, 1e-6, update.key.network)
    with pytest.raises(AdapterFileError, match="2 \\(text_encoder, text_encoder_2\\)"):
        write_adapter(adapter, tmp_path / "peft", "peft")


def test_a_padded_rank_and_a_folded_alpha_change_nothing(unet, same_updates, tmp_path):
    adapter = an_adapter(unet)
    wanted = {key.module: update.delta() for key, update in adapter.updates.items()}
    padded = [
        ModuleUpdate(
            u.key,
            np.vstack([u.lora_A, np.zeros((3, u.lora_A.shape[1]), np.float32)]),
            np.hstack([u.lora_B, random(len(u.lora_B), 3, seed=0)]) * np.float32(u.scaling),
            kernel=u.kernel,
        )
        for u in adapter.updates.values()
    ]
    for file_format in ("kohya", "diffusers", "peft"):
        write_adapter(Adapter.of("padded", padded), tmp_path / file_format, file_format)
        same_updates(read_adapter(tmp_path / file_format), wanted)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bfloat16_is_rounded_as_torch_rounds(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("bf16") / "it.safetensors"
    A = np.asarray([values], np.float32)
    with np.errstate(over="ignore"):
        expected = torch.from_numpy(A).to(torch.bfloat16)
    update = ModuleUpdate(ModuleKey("unet", "conv_in"), A, np.ones((2, 1), np.float32))
    write_adapter(Adapter.of("it", [update]), path, "kohya", dtype="bfloat16")
    stored = load_file(path)["lora_unet_conv_in.lora_down.weight"]
    assert torch.equal(stored, expected)


def test_what_float16_does_not_hold_is_refused_and_nothing_is_written(tmp_path):
    large = np.full((1, 4), 1e6, np.float32)
    update = ModuleUpdate(ModuleKey("unet", "conv_in"), large, np.ones((2, 1), np.float32))
    adapter = Adapter.of("large", [update])
    with pytest.raises(AdapterFileError, match=r"1e\+06.*float16"):
        write_adapter(adapter, tmp_path / "it.safetensors", "kohya", dtype="float16")
    assert not list(tmp_path.iterdir())
    with pytest.raises(AdapterFileError, match="'lycoris'"):
        write_adapter(adapter, tmp_path / "it.safetensors", "lycoris")
    with pytest.raises(AdapterFileError, match="0 updates"):
        write_adapter(Adapter.of("none", []), tmp_path / "it.safetensors", "kohya")


def test_updates_scaled_to_nothing_stay_nothing(tmp_path):
    module = ModuleKey("unet", "conv_in"), random(1, 4, seed=0), random(2, 1, seed=0)
    for file_format in ("kohya", "diffusers", "peft"):
        path = tmp_path / file_format
        write_adapter(Adapter.of("it", [ModuleUpdate(*module, 0.0)]), path, file_format)
        assert read_adapter(path).facts["empty"] is True


def test_metadata_goes_into_the_header(tmp_path):
    update = ModuleUpdate(ModuleKey("unet", "conv_in"), random(1, 4, seed=0), random(2, 1, seed=0))
    write_adapter(Adapter.of("it", [update]), tmp_path / "it", "kohya", metadata={"ss_seed": "42"})
    assert read_adapter(tmp_path / "it").facts["seed"] == 42
