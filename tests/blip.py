"""A captioner of no size in the true format; conftest.py makes it known."""

from __future__ import annotations

from pathlib import Path

import pytest

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
