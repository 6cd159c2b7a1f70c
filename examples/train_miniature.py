"""Train the miniature base model that ships with the package, from nothing but this repository.

    python examples/train_miniature.py --out runs/miniature --work runs/miniature-work

Paints the base artists' corpus, trains the autoencoder and then the U-Net with its text encoder,
and writes a Stable Diffusion folder. One core, about an hour; stop it and run it again, and it
goes on where it was. ``--prediction-type epsilon`` makes the other kind of base.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from lorastyle.base.latents import encode_images
from lorastyle.base.loading import BaseModel
from lorastyle.base.pretraining import (
    Architecture,
    Schedule,
    assemble,
    build_vae,
    normalise_latents,
    train_denoiser,
    train_vae,
    write_folder,
    write_tokenizer,
)
from lorastyle.corpus.procedural import (
    BASE_SEED,
    caption_words,
    make_artists,
    paint,
    sample_scene,
)

# Words that other parts put around captions; one token each, like the scenes' own.
PROMPT_WORDS = ("painting", "of", "picture", "photo", "artwork", "style", "and", "with")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    architecture = Architecture(prediction_type=options.prediction_type)
    images, captions = painted_corpus(
        options.work / "paintings.npz", options.artists, options.works
    )

    torch.manual_seed(0)
    vae = build_vae(architecture)
    train_vae(
        vae,
        images,
        Schedule(options.vae_steps, batch_size=16, learning_rate=2e-2, warmup_steps=30),
        state_file=options.work / "vae.pt",
        on_step=curve("autoencoder", options.vae_steps),
    )
    probe = images[:: max(len(images) // 1024, 1)]
    normalise_latents(vae.requires_grad_(False), probe)

    words = [*caption_words(), *PROMPT_WORDS]
    tokenizer = write_tokenizer(options.work / "tokenizer", words, architecture.n_tokens)
    base = assemble(architecture, vae, tokenizer)
    report_reconstruction(base, images[::97])
    mean, std = cached_latents(options.work / "latents.pt", base, images)
    train_denoiser(
        base,
        mean,
        std,
        captions,
        Schedule(options.unet_steps, batch_size=64, learning_rate=options.learning_rate),
        state_file=options.work / f"unet-{options.prediction_type}.pt",
        on_step=curve("U-Net", options.unet_steps),
        on_snapshot=lambda step: snapshot(base, options.out, step),
        snapshot_every=options.snapshot_every,
    )
    write_folder(base, options.out)
    print(f"wrote {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--work", type=Path, required=True, help="states and caches, for resuming")
    parser.add_argument("--prediction-type", default="v_prediction",
                        choices=("v_prediction", "epsilon"))  # fmt: skip
    parser.add_argument("--artists", type=int, default=96)
    parser.add_argument("--works", type=int, default=90, help="paintings by each artist")
    parser.add_argument("--vae-steps", type=int, default=1600)
    parser.add_argument("--unet-steps", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--snapshot-every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def painted_corpus(cache: Path, n_artists: int, n_works: int) -> tuple[np.ndarray, list[str]]:
    """Images (m, 64, 64, 3) and captions of the base artists, painted once."""
    if not cache.is_file():
        images, captions = [], []
        for a, artist in enumerate(make_artists(n_artists, BASE_SEED)):
            for w in range(n_works):
                rng = np.random.default_rng([BASE_SEED, a, w, 3])
                scene = sample_scene(rng)
                images.append(paint(artist, scene, rng))
                captions.append(scene.caption)
        np.savez(cache, images=np.stack(images), captions=np.array(captions))
    with np.load(cache) as stored:
        images_array, captions_array = stored["images"], stored["captions"]
    print(f"{len(images_array)} paintings", flush=True)
    return images_array, [str(c) for c in captions_array]


def cached_latents(
    cache: Path, base: BaseModel, images: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    if not cache.is_file():
        mean, std = encode_images(base, images, batch_size=32)
        torch.save({"mean": torch.from_numpy(mean).half(), "std": torch.from_numpy(std).half()},
                   cache)  # fmt: skip
    stored = torch.load(cache, weights_only=True)
    mean_t, std_t = stored["mean"], stored["std"]
    spread, noise = float(mean_t.float().std()), float(std_t.float().mean())
    print(f"latents {tuple(mean_t.shape)}: std {spread:.3f}, posterior {noise:.3f}", flush=True)
    return mean_t, std_t


@torch.no_grad()
def report_reconstruction(base: BaseModel, images: np.ndarray) -> None:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    decoded = base.vae.decode(base.vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    mse = ((decoded - pixels) / 2).square().mean(dim=(1, 2, 3))
    print(f"reconstruction: {float(-10 * mse.log10().mean()):.2f} dB PSNR", flush=True)


def snapshot(base: BaseModel, out: Path, step: int) -> None:
    write_folder(base, out)
    print(f"snapshot after {step} steps in {out}", flush=True)


def curve(what: str, n_steps: int, every: int = 50):  # type: ignore[no-untyped-def]
    """A callback that prints the mean loss of each ``every`` steps."""
    losses: list[float] = []
    begun = time.perf_counter()

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if step % every == 0 or step == n_steps:
            mean = float(np.mean(losses[-every:]))
            elapsed = time.perf_counter() - begun
            print(f"{what} {step}/{n_steps}  loss {mean:.4f}  {elapsed:.0f} s", flush=True)

    return on_step


if __name__ == "__main__":
    main()
