"""Folders of small painted images, the way users bring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorastyle.config import Experiment, parse_experiment


@pytest.fixture
def paint() -> Callable[..., None]:
    """Write an image of random pixels; the same seed paints the same picture."""

    def write(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    return write


BLIP_WORDS = (
    *("a", "an", "the", "of", "on", "by", "monet", "pond", "boat", "red", "blue", "house"),
    *("tree", "woman", "hat", "lake", "hill"),
)


@pytest.fixture(scope="session")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP for captioning in the true format. Read it, do not change it.

    Its weights are random, so large that what it says, in BLIP_WORDS, depends on what it sees.
    """
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    folder = tmp_path_factory.mktemp("models") / "blip"
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *BLIP_WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    tokens = {"bos_token_id": 5, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(
        text_config={
            **sizes,
            **tokens,
            "vocab_size": len(vocabulary),
            "encoder_hidden_size": 16,
            "max_position_embeddings": 40,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
    )
    model = BlipForConditionalGeneration(config)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def make_folder(tmp_path: Path, paint: Callable[..., None]) -> Callable[..., Path]:
    """A folder ARTIST/000.png ... with so many works of each artist, all different."""

    def make(works: Mapping[str, int], name: str = "art") -> Path:
        for number, (artist, n_works) in enumerate(sorted(works.items())):
            for work in range(n_works):
                paint(tmp_path / name / artist / f"{work:03d}.png", 10_000 * number + work)
        return tmp_path / name

    return make


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """A small experiment over a folder: 3 gallery adapters an artist on 3 images."""

    def make(root: Path, **sections: object) -> Experiment:
        protocol = {
            "train": 3,
            "calibration": 1,
            "val": 1,
            "test": 1,
            "query_calibration": 1,
            "query_val": 2,
            "query_test": 2,
            "images_per_adapter": 3,
            "images_per_query": 2,
            "reserved_val": 4,
            "reserved_test": 4,
            "max_overlap": 0.67,
        }
        corpus = {"source": "folder", "path": str(root), "min_works": 12}
        values: dict[str, object] = {"corpus": corpus, "protocol": protocol}
        for section, settings in sections.items():
            values[section] = {**dict(values.get(section, {})), **dict(settings)}  # type: ignore[call-overload]
        return parse_experiment(values)

    return make
