"""Each learned feature, whole, against the network of transformers that its weights came from."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.features import clip as clip_room
from lorastyle.features import configs
from lorastyle.features import dino as dino_room
from lorastyle.features.contract import encode_all, image_feature, takes_pictures
from lorastyle.features.layouts import OPENAI_CLIP
from tests.features.conftest import N_PROJECTED, N_STYLE, SIDE, SIZES, make_clip, pictures

SEEN = pictures(*SIZES)
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def clip_pixels(images, side=SIDE):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    return processor(images=list(images), return_tensors="pt")["pixel_values"]


def dino_pixels(images, side=SIDE):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side * 256 // 224}, crop_size={"height": side, "width": side},
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    return processor(images=list(images), return_tensors="pt")["pixel_values"]


def clip_vectors(network, images):
    return network(clip_pixels(images)).image_embeds.numpy()


def dino_vectors(network, images):
    return network(dino_pixels(images)).last_hidden_state[:, 0].numpy()


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_clip_is_transformers_clip_with_its_processor(clip, clip_folder):
    feature = image_feature("clip", {"clip": str(clip_folder)})
    found = encode_all(feature, SEEN)
    assert found.shape == (len(SEEN), feature.dimension) == (4, N_PROJECTED)
    np.testing.assert_allclose(found, clip_vectors(clip, SEEN), **TOLERANCE)


def test_clip_takes_the_image_half_out_of_a_whole_model_in_a_pickle(clip, tmp_path):
    """As `openai/clip-vit-base-patch32` has it: both halves and the buffers of old versions."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    config = CLIPConfig(
        text_config=text, vision_config=clip.config.to_dict(), projection_dim=N_PROJECTED
    )
    whole = CLIPModel(config).eval()
    whole.vision_model.load_state_dict(clip.vision_model.state_dict())
    whole.visual_projection.load_state_dict(clip.visual_projection.state_dict())
    whole.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    found = encode_all(image_feature("clip", {"clip": str(tmp_path)}), SEEN)
    np.testing.assert_allclose(found, clip_vectors(clip, SEEN), **TOLERANCE)


def test_clip_with_the_true_gelu_and_in_half_precision_and_shards(tmp_path):
    """As `laion/CLIP-ViT-*` are trained; transformers writes shards above a size."""
    network = make_clip(hidden_act="gelu", seed=9)
    half = make_clip(hidden_act="gelu", seed=9).half()
    half.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    network.load_state_dict({name: one.float() for name, one in half.state_dict().items()})
    found = encode_all(image_feature("clip", {"clip": str(tmp_path)}), SEEN)
    np.testing.assert_allclose(found, clip_vectors(network, SEEN), **TOLERANCE)


def test_dino_is_the_class_token_of_transformers_vit(dino, dino_folder):
    feature = image_feature("dino", {"dino": str(dino_folder)})
    np.testing.assert_allclose(encode_all(feature, SEEN), dino_vectors(dino, SEEN), **TOLERANCE)
    assert (feature.dimension, feature.image_size) == (48, 36)


@pytest.mark.parametrize("is_zip", [True, False])
def test_dinos_own_file_is_the_same_network_by_other_names(
    is_zip, timm_vit, timm_tensors, tmp_path
):
    """In PyTorch's format, and in that of before 1.6."""
    path = tmp_path / "dino_vitbase16_pretrain.pth"
    torch.save(timm_tensors, path, _use_new_zipfile_serialization=is_zip)
    found = encode_all(image_feature("dino", {"dino": str(path)}), SEEN)
    np.testing.assert_allclose(found, dino_vectors(timm_vit, SEEN), **TOLERANCE)


@pytest.mark.parametrize(("name", "width"), [("abc_clip", N_PROJECTED), ("abc_dino", 48)])
@pytest.mark.parametrize("generated", [False, True])
def test_abc_maps_originals_and_generated_images_each_its_way(
    name, width, generated, clip, dino, clip_folder, dino_folder, mappers
):
    path, table = mappers[width]
    is_clip = name == "abc_clip"
    weights = {
        f"{name}_backbone": str(clip_folder if is_clip else dino_folder),
        f"{name}_mapper": str(path),
    }
    feature = image_feature(name, weights, generated=generated)
    before = clip_vectors(clip, SEEN) if is_clip else dino_vectors(dino, SEEN)
    chosen = table["synth_mapper" if generated else "real_mapper"]
    expected = unit(before @ chosen["weight"].numpy().T + chosen["bias"].numpy())
    np.testing.assert_allclose(encode_all(feature, SEEN), expected, **TOLERANCE)


@pytest.mark.parametrize("form", ["released", "weights alone", "without the content head"])
def test_csd_is_clip_and_its_style_head(form, csd_backbone, csd_tensors, csd_release, tmp_path):
    path = csd_release
    if form != "released":
        path = tmp_path / "csd.safetensors"
        without = {"last_layer_content"} if form == "without the content head" else set()
        save_file({k: v for k, v in csd_tensors.items() if k not in without}, path)
    found = encode_all(image_feature("csd", {"csd": str(path)}), SEEN)
    pooled = csd_backbone.vision_model(clip_pixels(SEEN)).pooler_output
    expected = unit((pooled @ csd_tensors["last_layer_style"]).numpy())
    assert found.shape == (4, N_STYLE)
    np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_the_layout_of_csd_has_as_many_tensors_as_the_released_checkpoint():
    assert len(set(OPENAI_CLIP.keys(24, "backbone."))) + len(("style", "content")) == 297


@pytest.mark.parametrize("name", ["clip", "dino"])
def test_what_a_config_leaves_out_is_as_in_transformers(name, clip_folder, dino_folder, tmp_path):
    from transformers import CLIPVisionConfig, ViTConfig

    reference = (CLIPVisionConfig if name == "clip" else ViTConfig)().to_dict()
    ours = {**configs.DEFAULTS, **(clip_room if name == "clip" else dino_room).DEFAULTS}
    assert ours == {key: reference[key] for key in ours}
    folder = shutil.copytree(clip_folder if name == "clip" else dino_folder, tmp_path / "it")
    before = encode_all(image_feature(name, {name: str(folder)}), SEEN)
    given = json.loads((folder / "config.json").read_text())
    short = {key: value for key, value in given.items() if ours.get(key) != value}
    assert len(short) < len(given)
    (folder / "config.json").write_text(json.dumps(short))
    after = encode_all(image_feature(name, {name: str(folder)}), SEEN)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("has_head", [False, True])
def test_aladin_is_a_vision_transformer_with_or_without_a_head(
    has_head, timm_vit, timm_tensors, tmp_path
):
    generator = torch.Generator().manual_seed(6)
    head = {
        "head.weight": torch.randn(10, 128, generator=generator),
        "head.bias": torch.randn(10, generator=generator),
    }
    tensors = {**timm_tensors, **(head if has_head else {})}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "aladin.pt")
    found = encode_all(image_feature("aladin", {"aladin": str(tmp_path / "aladin.pt")}), SEEN)
    expected = dino_vectors(timm_vit, SEEN)
    if has_head:
        expected = expected @ head["head.weight"].numpy().T + head["head.bias"].numpy()
    np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_a_batch_a_single_image_and_encode_agree(clip_folder):
    feature = image_feature("clip", {"clip": str(clip_folder)})
    images = pictures(*[(64, 64)] * 5)
    batched = encode_all(feature, images, batch_size=2)
    np.testing.assert_allclose(feature.encode(np.stack(images)), batched, atol=1e-5)
    assert encode_all(feature, []).shape == feature.encode(np.zeros((0, 9, 9, 3), np.uint8)).shape


def test_what_is_no_rgb_image_is_refused(clip_folder):
    with pytest.raises(ValueError, match="uint8"):
        image_feature("clip", {"clip": str(clip_folder)}).encode(np.zeros((1, 64, 64, 3)))


def test_an_identity_is_of_the_weights_and_not_of_their_name(clip_folder, mappers, tmp_path):
    def identity(name, generated=False, **weights):
        named = {key: str(value) for key, value in weights.items()}
        return image_feature(name, named, generated=generated).identity()

    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    assert identity("clip", clip=clip_folder) == identity("clip", clip=copy)
    assert identity("clip", clip=copy) == identity("clip", clip=copy, generated=True)
    mapped = {"abc_clip_backbone": copy, "abc_clip_mapper": mappers[N_PROJECTED][0]}
    assert identity("abc_clip", **mapped) != identity("abc_clip", generated=True, **mapped)
    before = identity("clip", clip=copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["visual_projection.weight"] *= 2
    save_file(tensors, copy / "model.safetensors")
    assert identity("clip", clip=copy) != before


def test_whether_a_feature_takes_pictures_is_known_without_its_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert takes_pictures(image_feature("clip", {"clip": str(tmp_path)}))
    assert not takes_pictures(image_feature("colour_histogram"))
