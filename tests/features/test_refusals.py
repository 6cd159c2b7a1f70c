"""Files that are not what they should be, or that are hostile: one sentence each, nothing run."""

import json
import os
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.errors import FeatureError
from lorastyle.features import pytorch_file, tensor_file
from lorastyle.features.contract import encode_all, image_feature
from tests.features.conftest import N_PROJECTED, mapper_tables, pictures


def refusal(name, **weights):
    with pytest.raises(FeatureError) as refused:
        encode_all(
            image_feature(name, {key: str(value) for key, value in weights.items()}),
            pictures((32, 32)),
        )
    message = str(refused.value)
    assert "\n" not in message
    return message


def changed(folder, tmp_path, change):
    """A copy of a folder after a change of its tensors."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    return copy


def test_missing_and_unexpected_tensors_are_named(clip_folder, tmp_path):
    def change(tensors):
        tensors["visual_projector.weight"] = tensors.pop("visual_projection.weight")
        del tensors["vision_model.encoder.layers.1.mlp.fc2.bias"]

    said = refusal("clip", clip=changed(clip_folder, tmp_path, change))
    assert re.search(
        r"of 40 tensors 2 are missing "
        r"\('vision_model\.encoder\.layers\.1\.mlp\.fc2\.bias', 'visual_projection\.weight'\), "
        r"and 1 unexpected \('visual_projector\.weight'\)",
        said,
    )


@pytest.mark.parametrize("extra", ["backbone.proj", "classifier.weight"])
def test_a_tensor_too_many_is_refused_in_csd(extra, csd_tensors, tmp_path):
    path = tmp_path / "csd.safetensors"
    save_file({**csd_tensors, extra: torch.zeros(2)}, path)
    assert f"0 are missing, and 1 unexpected ('{extra}')" in refusal("csd", csd=path)


def test_a_file_of_another_feature_is_refused(clip_folder, dino_folder, csd_file, mappers):
    assert "'backbone.class_embedding'" in refusal("csd", csd=clip_folder)
    assert "missing ('blocks.0.attn.proj.bias'" in refusal("dino", dino=csd_file)
    assert "unexpected ('backbone.class_embedding'" in refusal("aladin", aladin=csd_file)
    assert "type 'vit'; name a CLIP" in refusal("clip", clip=dino_folder)
    assert "type 'clip_vision_model'" in refusal("dino", dino=clip_folder)
    assert "single file, without a config" in refusal("clip", clip=csd_file)
    narrow = mappers[N_PROJECTED][0]
    mapped = {"abc_dino_backbone": dino_folder, "abc_dino_mapper": narrow}
    assert "(24, 24), and the network before it gives 48" in refusal("abc_dino", **mapped)
    mapped = {"abc_clip_backbone": clip_folder, "abc_clip_mapper": csd_file}
    assert "'real_mapper.bias'" in refusal("abc_clip", **mapped)


def test_half_a_mapper_is_refused(clip_folder, tmp_path):
    torch.save({"real_mapper": mapper_tables(N_PROJECTED)["real_mapper"]}, tmp_path / "m.pth")
    said = refusal("abc_clip", abc_clip_backbone=clip_folder, abc_clip_mapper=tmp_path / "m.pth")
    assert "2 are missing ('synth_mapper.bias', 'synth_mapper.weight')" in said


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vision_model.encoder.layers.0.mlp.fc1.weight", (144, 47)),
        ("vision_model.embeddings.position_embedding.weight", (16, 48)),
        ("vision_model.embeddings.patch_embedding.weight", (48, 3, 4, 16)),
        ("visual_projection.weight", (24, 40)),
        ("visual_projection.weight", (24,)),
    ],
)
def test_a_tensor_of_another_shape_is_named(name, shape, clip_folder, tmp_path):
    copy = changed(clip_folder, tmp_path, lambda tensors: tensors.update({name: torch.ones(shape)}))
    said = refusal("clip", clip=copy)
    assert f"'{name}' of {shape}" in said


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("backbone.conv1.weight", (128, 192)),
        ("backbone.conv1.weight", (100, 3, 8, 8)),
        ("backbone.conv1.weight", (128, 3, 0, 0)),
        ("backbone.positional_embedding", (17,)),
        ("backbone.positional_embedding", (129**2 + 1, 128)),
        ("backbone.positional_embedding", (0, 128)),
        ("backbone.transformer.resblocks.0.mlp.c_fc.weight", ()),
        ("last_layer_style", (64, 40)),
        ("last_layer_style", (128,)),
    ],
)
def test_shapes_that_are_no_network_are_refused(key, shape, csd_tensors, tmp_path):
    path = tmp_path / "csd.safetensors"
    save_file({**csd_tensors, key: torch.ones(shape)}, path)
    assert "CSD '" in refusal("csd", csd=path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = '1000000000'"),
        ({"num_hidden_layers": 500}, "500 layers"),
        ({"num_attention_heads": 0}, "num_attention_heads = '0'"),
        ({"num_attention_heads": 5}, "5 heads and width 48"),
        ({"hidden_size": "48"}, "hidden_size = '48'"),
        ({"patch_size": True}, "patch_size = 'True'"),
        ({"image_size": 8192}, "8192 pixels a side"),
        ({"image_size": 33}, "33 pixels a side in patches of 8"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"layer_norm_eps": None}, "layer_norm_eps None"),
        ({"model_type": ["clip"]}, r"""type "\['clip'\]"; name a CLIP"""),
        ({"model_type": "clip"}, "does not describe a vision model"),
        (None, "no readable config.json"),
        ([1], "no readable config.json"),
    ],
)
def test_configs_that_cannot_be_are_refused(change, said, clip_folder, tmp_path):
    copy = shutil.copytree(clip_folder, tmp_path / "copy")
    text = (copy / "config.json").read_text()
    if isinstance(change, dict):
        text = json.dumps({**json.loads(text), **change})
    elif change is None:
        text = text[:-20]
    else:
        text = json.dumps(change)
    (copy / "config.json").write_text(text)
    assert re.search(said, refusal("clip", clip=copy))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(is_zip, csd_tensors, tmp_path):
    path, made = tmp_path / "csd.pth", tmp_path / "made"
    content = {"model_state_dict": csd_tensors, "args": Malicious(made)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert "it asks to run code" in refusal("csd", csd=path)
    assert not made.exists()


def test_the_objects_beside_the_weights_are_not_built(csd_release, tmp_path):
    """By NumPy's older name, too, under which the released file has them."""
    older = rewritten(
        csd_release, tmp_path / "older.bin",
        lambda name, content: content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"),
    )  # fmt: skip
    assert b"numpy.core.multiarray" in older.read_bytes()
    for path in (csd_release, older):
        content = pytorch_file.read_table(path, path.stat().st_size)
        assert type(content["args"]) is pytorch_file._NotBuilt
        assert not vars(content["args"])
        step = content["opt_bb"]["state"][0]["step"]
        assert type(step) is pytorch_file._NotBuilt
        assert encode_all(image_feature("csd", {"csd": str(path)}), pictures((32, 32))).any()
    assert not [one for one in torch.serialization.get_safe_globals() if isinstance(one, tuple)]


def rewritten(source, target, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return target


def same(_name, content):
    return content


def test_files_that_are_no_weights_are_refused(csd_release, csd_file, tmp_path):
    path = tmp_path / "it.bin"

    def said(content):
        path.write_bytes(content)
        return refusal("csd", csd=path)

    whole = csd_release.read_bytes()
    assert "zip table cannot be read" in said(whole[: len(whole) // 2])
    assert "no whole safetensors file" in said(csd_file.read_bytes()[:-100])
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n"):
        assert "neither a safetensors file nor" in said(content)
    assert "its pickles cannot be read" in said(b"\x80\x02}q\x00.")
    rewritten(csd_release, path, same, zipfile.ZIP_DEFLATED)
    assert "compressed zip" in refusal("csd", csd=path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
    assert "without PyTorch weights" in refusal("csd", csd=path)
    torch.save([torch.zeros(3)], path)
    assert "holds a list" in refusal("csd", csd=path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clip/data.pkl", b"")
        archive.writestr("clip/code/__torch__.py", b"")
    assert "TorchScript archive" in refusal("csd", csd=path)


def test_sizes_are_limited(csd_release, csd_file, csd_tensors, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "MAX_BYTES", 1000)
    assert "more than the limit of 1,000" in refusal("csd", csd=csd_file)
    monkeypatch.undo()
    monkeypatch.setattr(pytorch_file, "MAX_INDEX_BYTES", 100)
    assert "a pickle of" in refusal("csd", csd=csd_release)
    monkeypatch.undo()
    monkeypatch.setattr(pytorch_file, "MAX_TENSORS", 1)
    torch.save(csd_tensors, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert "more than 100 instructions" in refusal("csd", csd=tmp_path / "old.bin")


@pytest.mark.parametrize("is_one", [True, False])
def test_tensors_that_claim_more_than_the_file_has_are_refused(is_one, timm_tensors, tmp_path):
    """One number that is expanded; or many names for the same numbers."""
    shared = torch.zeros(10**5)
    extra = (
        {"head.weight": torch.zeros(1).expand(10**6, 10**6)}
        if is_one
        else {f"head.{number}": shared[:-1] for number in range(50)}
    )
    torch.save({**timm_tensors, **extra}, tmp_path / "it.pt")
    said = refusal("aladin", aladin=tmp_path / "it.pt")
    assert "claims more numbers than it holds" in said


@pytest.mark.parametrize("kind", ["integers", "complex", "sparse"])
def test_numbers_of_other_kinds_are_refused(kind, timm_tensors, tmp_path):
    wrong = {
        "integers": torch.ones(4, 128, dtype=torch.int8),
        "complex": torch.ones(4, 128, dtype=torch.complex64),
        "sparse": torch.ones(4, 128).to_sparse(),
    }[kind]
    torch.save({**timm_tensors, "head.weight": wrong}, tmp_path / "it.pt")
    assert "stores 'head.weight' as torch." in refusal("aladin", aladin=tmp_path / "it.pt")


def test_weights_that_are_not_finite_give_no_features(clip_folder, tmp_path):
    copy = changed(
        clip_folder, tmp_path, lambda tensors: tensors["visual_projection.weight"].fill_(np.nan)
    )
    assert "image feature clip gives numbers that are not finite" in refusal("clip", clip=copy)
