"""What an image feature costs, beside transformers: published sizes, random weights.

    python -m benchmarks.image_features [--feature clip] [--n-images 16] [--threads 2]

Both prepare the same pictures of 512 x 640 and give the same vectors, to the difference that is
printed. Neither time nor that difference depends on what the weights are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from lorastyle.features.contract import encode_all, image_feature
from lorastyle.features.csd import BACKBONE, STYLE_HEAD
from lorastyle.features.layouts import HUB_CLIP, OPENAI_CLIP
from lorastyle.features.preprocessing import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

Floats = NDArray[np.float32]
Result = TypeVar("Result")

FEATURES = ("clip", "dino", "csd")
VIT_L_14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feature", choices=FEATURES, default="clip")
    parser.add_argument("--n-images", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (512, 640, 3), dtype=np.uint8) for _ in range(given.n_images)]
    with TemporaryDirectory(prefix="feature-") as folder:
        found = measure(given.feature, Path(folder), pictures)
    print(json.dumps({"feature": given.feature, "threads": given.threads, **found}))


def measure(name: str, folder: Path, pictures: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Seconds to load and for an image; the largest difference of a number."""
    reference = random_network(name)
    path = write_weights(name, reference, folder)
    feature = image_feature(name, {name: str(path)})
    _, load_s, _ = timed(lambda: feature.dimension)
    encode_all(feature, pictures[:1])
    ours, wall_s, cpu_s = timed(lambda: encode_all(feature, pictures))
    theirs, their_wall_s, their_cpu_s = timed(lambda: encode_by(name, reference, pictures))
    found = {
        "load_s": load_s,
        "s_an_image": wall_s / len(pictures),
        "cpu_s_an_image": cpu_s / len(pictures),
        "transformers_s_an_image": their_wall_s / len(pictures),
        "transformers_cpu_s_an_image": their_cpu_s / len(pictures),
    }
    return {
        **{key: round(value, 3) for key, value in found.items()},
        "largest_difference": float(f"{np.abs(ours - theirs).max():.1e}"),
        "largest_number": round(float(np.abs(theirs).max()), 2),
    }


def random_network(name: str) -> Any:
    """The network of transformers that a feature should equal."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

    torch.manual_seed(0)
    if name == "dino":
        network = ViTModel(ViTConfig(), add_pooling_layer=False)
    else:
        settings = VIT_L_14 if name == "csd" else {}
        network = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings))
    return network.eval().requires_grad_(False)


def write_weights(name: str, network: Any, folder: Path) -> Path:
    """The network as a feature reads it."""
    network.save_pretrained(folder)
    if name != "csd":
        return folder
    old = load_file(folder / "model.safetensors")
    new = {STYLE_HEAD: old["visual_projection.weight"].t().contiguous()}
    theirs = OPENAI_CLIP.origins(24, BACKBONE)
    for ours, names in HUB_CLIP.origins(24).items():
        (target,) = theirs[ours]
        new[target] = torch.cat([old[one] for one in names]) if len(names) > 1 else old[names[0]]
    save_file(new, folder / "csd.safetensors")
    return folder / "csd.safetensors"


def encode_by(name: str, network: Any, pictures: list[NDArray[np.uint8]]) -> Floats:
    """With transformers' own processor."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    is_dino = name == "dino"
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 256 if is_dino else 224},
        image_mean=list(IMAGENET_MEAN if is_dino else CLIP_MEAN),
        image_std=list(IMAGENET_STD if is_dino else CLIP_STD),
    )
    with torch.inference_mode():
        output = network(processor(images=pictures, return_tensors="pt")["pixel_values"])
        vectors = output.last_hidden_state[:, 0] if is_dino else output.image_embeds
        if name == "csd":
            vectors = torch.nn.functional.normalize(vectors, dim=1)
    return np.asarray(vectors.numpy(), np.float32)


def timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """The result, seconds by the clock, and seconds of processor time."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - cpu_start


if __name__ == "__main__":
    main()
