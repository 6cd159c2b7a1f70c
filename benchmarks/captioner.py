"""What describing an image costs: a BLIP of a published size, with random weights.

    python -m benchmarks.captioner [--size base] [--n-images 8] [--device cpu]

Time does not depend on what the weights are, but on how long a description gets: random weights
do not end one, so each has all the tokens it may have. A trained BLIP ends sooner.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lorastyle.corpus.captioner import BATCH_SIZE, load_captioner

SIZES = {
    # Vision: width, layers, heads. The text decoder is BERT-base in both.
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
N_WORDS = 30_524


def write_random_blip(folder: Path, size: str) -> Path:
    """A BLIP for captioning in the true format and of a published size."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    width, n_layers, n_heads = SIZES[size]
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "image_size": 384,
    }
    text = {"num_attention_heads": 12, "vocab_size": N_WORDS, "encoder_hidden_size": width}
    config = BlipConfig(text_config=text, vision_config=vision)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = [*special, *(f"word{n}" for n in range(N_WORDS - len(special)))]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BlipImageProcessorPil().save_pretrained(folder)
    return folder


def measure(folder: Path, n_images: int, device: str) -> dict[str, float]:
    """Seconds to load; an image's, by the clock and of processor time; the process's memory."""
    import torch

    start = time.perf_counter()
    captioner = load_captioner(str(folder), device)
    load_s = time.perf_counter() - start
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (512, 640, 3), dtype=np.uint8) for _ in range(n_images)]
    captioner.describe(images[:1])
    start, cpu_start = time.perf_counter(), time.process_time()
    captioner.describe(images)
    found = {
        "load_s": load_s,
        "s_an_image": (time.perf_counter() - start) / n_images,
        "cpu_s_an_image": (time.process_time() - cpu_start) / n_images,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    if device.startswith("cuda"):
        found["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--n-images", type=int, default=BATCH_SIZE)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="blip-") as folder:
        found = measure(write_random_blip(Path(folder), given.size), given.n_images, given.device)
    print(json.dumps({"size": given.size, "device": given.device, **found}))


if __name__ == "__main__":
    main()
