"""BLIP, by what transformers makes of the same folder; and folders that are no captioner."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lorastyle.corpus.captioner import Captioner, load_captioner
from lorastyle.corpus.captioner_files import find_captioner
from lorastyle.errors import CorpusError, HubError
from tests.base.conftest import COMMIT, write_snapshot
from tests.base.test_hub import NAME, ask, serving

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the colours that CLIP, and BLIP after it, was trained on."""


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (40 + 9 * n, 60, 3), dtype=np.uint8) for n in range(4)]
    return [*noise, *(np.full((36, 50, 3), grey, np.uint8) for grey in (0, 128, 255))]


@pytest.fixture(scope="module")
def captioner(tiny_blip: Path) -> Captioner:
    return load_captioner(str(tiny_blip), device="cpu")


@pytest.fixture(scope="module")
def texts(captioner: Captioner, images: list[np.ndarray]) -> list[str]:
    return captioner.describe(images)


@pytest.fixture
def copy(tiny_blip: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the captioner, with some files changed, or removed where they are None."""

    def make(**changed: dict[str, Any] | bytes | None) -> Path:
        folder = shutil.copytree(tiny_blip, tmp_path / "copy")
        for key, content in changed.items():
            path = folder / key.replace("__", ".")
            if isinstance(content, dict):
                kept = json.loads(path.read_text()) if path.exists() else {}
                path.write_text(json.dumps(kept | content))
            elif content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        return folder

    return make


def test_what_it_says_is_what_transformers_says(
    tiny_blip: Path, images: list[np.ndarray], texts: list[str]
) -> None:
    """Pixels by hand, words by hand, and the search as LAVIS asks for it."""
    import torch
    from transformers import BlipForConditionalGeneration

    model = BlipForConditionalGeneration.from_pretrained(tiny_blip)
    words = (tiny_blip / "vocab.txt").read_text().split()
    for image, text in zip(images, texts, strict=True):
        small = Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)
        pixels = (np.asarray(small, np.float64) / 255 - MEAN) / STD
        tokens = model.generate(
            pixel_values=torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32),
            do_sample=False,
            num_beams=3,
            max_length=30,
            min_length=10,
        )
        # The first asks for a description; padding and the end are among the first five.
        assert text.split() == [words[token] for token in tokens[0].tolist()[1:] if token > 4]
    assert len(set(texts)) == len(images)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_size_of_a_batch_does_not_matter(
    captioner: Captioner, images: list[np.ndarray], texts: list[str], batch_size: int
) -> None:
    assert captioner.describe(images, batch_size) == texts


def test_images_are_described_as_they_are_seen(
    captioner: Captioner, images: list[np.ndarray], texts: list[str]
) -> None:
    unseen = Image.fromarray(images[0])
    unseen.putalpha(0)
    on_its_side = Image.fromarray(np.rot90(images[1]).copy())
    on_its_side.getexif()[0x0112] = 6
    white, upright = texts[6], texts[1]
    blank = captioner.describe([Image.new("RGB", unseen.size, "white")])
    assert captioner.describe([unseen, on_its_side]) == [*blank, upright]
    assert blank == [white]


def test_no_images_have_no_texts_and_other_arrays_are_refused(captioner: Captioner) -> None:
    assert captioner.describe([]) == []
    with pytest.raises(CorpusError, match=r"uint8 \(H, W, 3\), and this one float32 \(4, 4, 3\)"):
        captioner.describe([np.zeros((4, 4, 3), np.float32)])  # type: ignore[list-item]


def test_it_travels_by_name_and_says_the_same(
    captioner: Captioner, images: list[np.ndarray], texts: list[str]
) -> None:
    parcel = pickle.dumps(captioner)
    assert len(parcel) < 1_000
    assert pickle.loads(parcel).describe(images[:2]) == texts[:2]


def test_where_the_name_means_another_model_it_is_refused(copy: Callable[..., Path]) -> None:
    folder = copy()
    parcel = pickle.dumps(load_captioner(str(folder)))
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text().replace("monet", "manet"))
    with pytest.raises(CorpusError, match="is not the same model here"):
        pickle.loads(parcel).describe([np.zeros((4, 4, 3), np.uint8)])


def test_what_a_repository_asks_of_a_search_changes_nothing(
    copy: Callable[..., Path], images: list[np.ndarray], texts: list[str]
) -> None:
    wishes = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 5.0, "num_beams": 1}
    folder = copy(generation_config__json=wishes)
    assert load_captioner(str(folder)).describe(images) == texts


def test_tensors_of_older_releases_are_no_reason_to_refuse(
    copy: Callable[..., Path], images: list[np.ndarray], texts: list[str]
) -> None:
    """Positions were saved once, and the output layer's weights beside the ones it shares."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = copy()
    tensors = load_file(folder / "model.safetensors")
    tensors["text_decoder.bert.embeddings.position_ids"] = torch.arange(40)[None]
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    words = tensors["text_decoder.bert.embeddings.word_embeddings.weight"]
    tensors["text_decoder.cls.predictions.decoder.weight"] = words.clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert load_captioner(str(folder)).describe(images) == texts


def test_the_hash_is_of_names_and_digests_of_what_is_loaded(tiny_blip: Path) -> None:
    whole = hashlib.sha256()
    generation = tiny_blip / "generation_config.json"
    assert generation.exists()  # captions are written by our own settings
    for path in sorted(set(tiny_blip.iterdir()) - {generation}):
        whole.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    assert find_captioner(str(tiny_blip)).identity().sha256 == whole.hexdigest()


def test_shards_are_one_model(
    tiny_blip: Path, tmp_path: Path, images: list[np.ndarray], texts: list[str]
) -> None:
    from transformers import BlipForConditionalGeneration

    folder = shutil.copytree(tiny_blip, tmp_path / "shards")
    (folder / "model.safetensors").unlink()
    model = BlipForConditionalGeneration.from_pretrained(tiny_blip)
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-0000*"))) > 1
    assert load_captioner(str(folder)).describe(images) == texts


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    def remove(tensors: dict[str, Any]) -> None:
        for name in names:
            del tensors[name]

    return remove


def with_one_more(tensors: dict[str, Any]) -> None:
    tensors["text_decoder.extra.weight"] = tensors["visual.bias"] = next(iter(tensors.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("vision_model.post_layernorm.bias"),
            r"lacks 1 tensors .* first 'vision_model\.post_layernorm\.bias'",
        ),
        (with_one_more, r"holds 2 tensors that have no place in it, first 'text_decoder\.extra"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    copy: Callable[..., Path], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy()
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(CorpusError, match=message):
        load_captioner(str(folder))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config__json": {"model_type": "clip"}}, r"is a model of type 'clip'"),
        ({"config__json": b"no json"}, r"is no model: cannot read its config\.json"),
        ({"config__json": None}, r"cannot read its config\.json: No such file"),
        ({"model__safetensors": None, "pytorch_model__bin": b"x"}, "and pickles are not read"),
        ({"model__safetensors": b"cut"}, "cannot load captioner"),
        ({"preprocessor_config__json": None}, "has no image processor"),
        ({"tokenizer__json": None, "vocab__txt": None}, "has no tokenizer"),
        ({"tokenizer__json": b"{}"}, "cannot load captioner"),
        (
            {"preprocessor_config__json": {"size": {"height": 64, "width": 64}}},
            "sees images of 32 x 32, and its image processor makes them 64 x 64",
        ),
    ],
)
def test_a_folder_that_is_no_captioner_is_refused_in_a_sentence(
    copy: Callable[..., Path], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(CorpusError, match=message) as refused:
        load_captioner(str(copy(**changed)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["blip", "a/b/c", "./blip", "blip@v1"])
def test_a_name_that_means_nothing_is_refused(name: str) -> None:
    with pytest.raises(CorpusError, match="neither a folder nor a hub id"):
        find_captioner(name)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_cached_model_is_that_of_the_folder_and_its_commit_is_known(
    tiny_blip: Path, hub_cache: Path, captioner: Captioner
) -> None:
    write_snapshot(hub_cache, NAME, tiny_blip, ref="v1")
    identity = find_captioner(f"{NAME}@v1").identity()
    assert (identity.sha256, identity.revision) == (captioner.identity.sha256, COMMIT)
    with pytest.raises(HubError, match=rf"'{NAME}' is not whole .* cannot be fetched"):
        find_captioner(NAME)


def test_a_download_that_was_cut_short_is_not_taken_for_the_model(
    tiny_blip: Path, hub_cache: Path
) -> None:
    (write_snapshot(hub_cache, NAME, tiny_blip) / "model.safetensors").unlink()
    with pytest.raises(HubError, match=r"is not whole .* cannot be fetched"):
        find_captioner(NAME)


def test_only_the_files_that_are_loaded_are_fetched(
    copy: Callable[..., Path], captioner: Captioner, tmp_path: Path
) -> None:
    there = copy(pytorch_model__bin=b"a pickle", modeling__py=b"raise SystemExit")
    code = (
        "import sys; from lorastyle.corpus.captioner_files import find_captioner;"
        "found = find_captioner(sys.argv[1]).identity(); print(found.sha256, found.revision)"
    )
    with serving(there) as (endpoint, served):
        done = ask(code, endpoint, tmp_path / "home", f"{NAME}@v1")
    assert done.stdout.split() == [captioner.identity.sha256, COMMIT], done.stderr
    assert {"pytorch_model.bin", "modeling.py", "generation_config.json"}.isdisjoint(served)


def test_of_a_model_of_another_kind_no_weights_are_fetched(
    copy: Callable[..., Path], tmp_path: Path
) -> None:
    there = copy(config__json={"model_type": "llama"})
    code = (
        "import sys; from lorastyle.corpus.captioner_files import find_captioner\n"
        "try: find_captioner(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    with serving(there) as (endpoint, served):
        done = ask(code, endpoint, tmp_path / "home", f"{NAME}@v1")
    assert "CorpusError" in done.stdout and "is a model of type 'llama'" in done.stdout
    assert "model.safetensors" not in served
