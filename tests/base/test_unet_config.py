"""A U-Net known without weights, against the U-Net that diffusers makes of it."""

import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from lorastyle.adapters.family import family_modules
from lorastyle.adapters.layout import AdapterLayout
from lorastyle.adapters.targets import layout_of
from lorastyle.base.known import KNOWN
from lorastyle.base.unet_config import image_size_of, unet_config
from lorastyle.errors import BaseModelError, HubError
from lorastyle.ingest.family import modules_of_base
from tests.adapters.unets import UNETS
from tests.base.conftest import configs_only, write_snapshot

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD21 = "stabilityai/stable-diffusion-2-1"


def empty(values):
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(values)


def shapes(unet):
    return {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}


def test_stable_diffusion_15_by_name_has_the_papers_size(hub_cache):
    described = unet_config(SD15)
    layout = layout_of(empty(described.values), rank=16)
    assert layout.size == 5_984_256
    assert layout_of(empty(described.values), 16, "feed_forward").size == 2_795_520
    assert SD15 in described.source and described.vae is None
    assert image_size_of(SD15) == 512


@pytest.mark.parametrize(("name", "family"), [(SD15, "sd1"), (SD21, "sd2")])
def test_what_is_built_in_is_the_unet_of_the_family(name, family, hub_cache):
    values = unet_config(name).values
    assert shapes(empty(values)) == shapes(empty(UNETS[family]))
    expected = AdapterLayout.of_modules(1, family_modules(family))
    assert layout_of(empty(values), rank=1).targets == expected.targets
    heads = UNETS[family]["attention_head_dim"]
    assert values["attention_head_dim"] == heads


def test_of_all_that_are_known_by_name_size_and_prediction_agree(hub_cache):
    for name, known in KNOWN.items():
        assert image_size_of(name) == image_size_of(f"{name}@fp16") == known.image_size
        # Of 2.x those of 768 pixels predict velocities.
        assert (known.image_size == 768) == (known.prediction_type == "v_prediction")


def test_of_a_folder_and_of_the_cache_it_is_their_config(folders, loaded, hub_cache, tmp_path):
    assert unet_config("miniature").values == UNet2DConditionModel.load_config(
        unet_config("miniature").source.removesuffix("/unet/config.json"), subfolder="unet"
    )
    configs = configs_only(folders["sd2"], tmp_path / "configs")
    write_snapshot(hub_cache, SD21, configs)
    assert shapes(empty(unet_config(SD21).values)) == shapes(loaded["sd2"].unet)
    assert image_size_of(SD21) == image_size_of(str(configs)) == 64


def test_the_size_of_images_follows_the_autoencoder(folders, tmp_path):
    """Three levels make one latent of 4 x 4 pixels, not 8 x 8."""
    copy = configs_only(folders["sd1"], tmp_path / "copy")
    config = copy / "vae" / "config.json"
    text = config.read_text()
    four = '"block_out_channels": [\n    8,\n    8,\n    8,\n    8\n  ]'
    assert four in text
    config.write_text(text.replace(four, '"block_out_channels": [8, 8, 8]'))
    assert image_size_of(str(copy)) == 32


@pytest.fixture
def bare(tmp_path):
    """Of a single file no more than the header tells: the widths of SD 1.x, nearly no weights."""

    def write(width, name="bare"):
        tensors = {
            "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
            "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight": (
                torch.zeros(2, width)
            ),
            "first_stage_model.post_quant_conv.weight": torch.zeros(4, 4, 1, 1),
            "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(width),
        }
        save_file(tensors, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return write


def test_of_a_single_file_only_the_header_is_read(bare, hub_cache):
    for width, family in ((768, "sd1"), (1024, "sd2")):
        values = unet_config(str(bare(width))).values
        assert shapes(empty(values)) == shapes(empty(UNETS[family]))
        assert image_size_of(str(bare(width))) == 512
    file = bare(1024, "large")
    file.with_suffix(".yaml").write_text("model: {params: {parameterization: v}}")
    assert image_size_of(str(file)) == 768
    with pytest.raises(BaseModelError, match=r"640 wide: of no known .*bare\.config"):
        unet_config(str(bare(640)))


def test_configs_beside_a_single_file_come_first(bare, folders, hub_cache):
    file = bare(768)
    configs = configs_only(folders["sd1"], file.with_suffix(".config"))
    assert image_size_of(str(file)) == 64
    shutil.rmtree(configs / "tokenizer")
    with pytest.raises(BaseModelError, match="has no 'tokenizer' folder"):
        unet_config(str(file))


def test_adapters_alone_have_room_by_any_form_of_a_base_model(bare, hub_cache):
    file = str(bare(768))
    for name in (file, SD15, "sd1"):
        assert set(modules_of_base(name)[0]) == set(family_modules("sd1"))
    with pytest.raises(BaseModelError, match="for adapters alone name sd1, sd2, sdxl"):
        modules_of_base("./nowhere")


@pytest.mark.parametrize("name", ["nowhere", "./x/y", "artist/unknown"])
def test_where_there_is_none_it_says_so(name, hub_cache):
    with pytest.raises((BaseModelError, HubError), match=f"'{name}'"):
        unet_config(name)


def test_a_config_that_is_none_is_refused(folders, tmp_path):
    copy = configs_only(folders["sd1"], tmp_path / "copy")
    config = copy / "unet" / "config.json"
    for content in ("[", "3", '"text"', " " * (2**20 + 1)):
        config.write_text(content)
        with pytest.raises(BaseModelError, match=r"no readable unet/config\.json"):
            unet_config(str(copy))
