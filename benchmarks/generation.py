"""Images of many adapters: stacked, and one adapter at a time through diffusers' pipeline.

    python -m benchmarks.generation RUN [--n-adapters 8] [--n-steps 30]

Prints processor seconds an image (on a GPU seconds), the best of three, and how far both differ.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.base.loading import BaseModel
from lorastyle.base.sampling import initial_noise, sampler
from lorastyle.base.sampling_settings import Sampling
from lorastyle.generation.generator import Generator
from lorastyle.generation.orders import open_base
from lorastyle.generation.subjects import read_subjects
from lorastyle.generation.wanted import WantedImage
from lorastyle.runs import Run
from lorastyle.store.members import read_member, rows_by_name

BATCH_SIZES = (1, 10, 20, 80)
REPEATS = 3

Wanted = Sequence[Sequence[WantedImage]]
Made = Sequence[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--n-adapters", type=int, default=8)
    parser.add_argument("--n-steps", type=int, default=30)
    given = parser.parse_args()
    run, sampling = Run.open(given.run), Sampling(n_steps=given.n_steps, guidance_scale=3.0)
    base = open_base(run)
    base.unet.float()  # the pipeline has one precision for all of its parts
    subjects = read_subjects(run, list(rows_by_name(run).values())[: given.n_adapters])
    adapters = [read_member(run, subject.row) for subject in subjects]
    wanted = [subject.wanted() for subject in subjects]
    n_images = sum(map(len, wanted))
    print(f"{n_images} images of {len(adapters)} adapters, {given.n_steps} steps")
    ours: Made = []
    for batch_size in BATCH_SIZES:
        generator = Generator(base, sampling, batch_size=batch_size)
        ours, spent_s = timed(lambda: generator.generate(adapters, wanted))  # noqa: B023
        print(f"stacked, {batch_size:3d} images at once: {spent_s / n_images:.4f} s an image")
    theirs, spent_s = timed(lambda: one_by_one(base, adapters, wanted, sampling))
    print(f"diffusers, an adapter at a time: {spent_s / n_images:.4f} s an image")
    apart = max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))
    print(f"farthest apart: {apart:.2f} of 255 (rounding alone is up to 0.5)")


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What it makes, and the least time of three."""
    # What others do on a shared machine does not count; a GPU's work is not the processor's.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    spent = []
    for _ in range(REPEATS):
        start = clock()
        made = make()
        spent.append(clock() - start)
    return made, min(spent)


def one_by_one(
    base: BaseModel, adapters: Sequence[Adapter], wanted: Wanted, sampling: Sampling
) -> Made:
    """As diffusers' documentation has it: load the adapter, call the pipeline, unload it."""
    pipeline = StableDiffusionPipeline(
        vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer, unet=base.unet,
        scheduler=sampler(base), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for adapter, images in zip(adapters, wanted, strict=True):
            write_adapter(adapter, Path(folder) / "adapter.safetensors", "diffusers")
            pipeline.load_lora_weights(folder, weight_name="adapter.safetensors")
            noise = initial_noise(base, sampling.seed, [image.number for image in images])
            drawn = pipeline(
                [image.prompt for image in images], latents=noise, output_type="np",
                num_inference_steps=sampling.n_steps, guidance_scale=sampling.guidance_scale,
            )  # fmt: skip
            made.append(drawn.images * 255)
            pipeline.unload_lora_weights()
    return made


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    main()
