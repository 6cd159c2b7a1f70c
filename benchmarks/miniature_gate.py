"""Does the miniature base deserve to be shipped? Prints the figures and writes a sample sheet.

    python benchmarks/miniature_gate.py --base miniature --sheet sheet.png

(a) The sheet: a person should recognise the captioned scenes.
(b) Adapters learn: trained on ten paintings by an artist the base has never seen, an adapter must
    lower the denoising loss on that artist's *other* paintings, and more than on other artists'.
(c) Weights tell style: adapters of different ten-painting subsets cluster by artist.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of
from lorastyle.base.latents import encode_captions, encode_images
from lorastyle.base.loading import BaseModel, load_base
from lorastyle.base.sampling import sample
from lorastyle.base.target import training_target
from lorastyle.config import TrainingConfig
from lorastyle.corpus.procedural import make_artists, make_schools, paint, sample_scene
from lorastyle.records import AdapterSpec, Role
from lorastyle.training.batches import EncodedImages
from lorastyle.training.trainer import TrainingItem, train_stack

SHEET_CAPTIONS = (
    "a red boat on a calm lake at dusk", "two blue boats on a rough sea at noon",
    "a white house in the snow at night", "two red houses in a green field at noon",
    "a green tree on the sand at dawn", "a yellow tree in a green field in fog",
    "a violet mountain by a calm lake at dawn", "a blue mountain in the snow at noon",
    "a red tower by a rough sea at dusk", "a white tower on the sand at noon",
    "yellow flowers in a vase on a table at noon", "red flowers in a vase on a table at night",
    "green fruit in a bowl on a table at dawn", "a woman in a red hat at noon",
    "a man in a blue coat at dusk", "a woman in a green hat in fog",
)  # fmt: skip
N_TRAIN_IMAGES, N_HELD_OUT = 10, 15
STACK = 16


@dataclass(frozen=True)
class World:
    """Encoded paintings of artists the base never saw, ``n_works`` each, artist-major."""

    images: EncodedImages
    n_artists: int
    n_works: int

    def rows(self, artist: int, works: np.ndarray) -> np.ndarray:
        return artist * self.n_works + works


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    base = load_base(options.base)
    print(f"{base.identity}")
    if options.sheet:
        write_sheet(base, options.sheet)
    world = make_world(base, options.world, options.artists, options.seed)
    settings = TrainingConfig(
        rank=4,
        alpha=options.alpha,
        n_steps=options.steps,
        batch_size=options.batch,
        learning_rate=options.learning_rate,
    )
    print(settings.model_dump(include={"rank", "alpha", "n_steps", "batch_size", "learning_rate"}))
    vectors, artists, seconds = train_adapters(base, world, settings, options.adapters)
    print(f"{seconds / len(vectors):.2f} CPU s an adapter, {len(vectors)} adapters")
    report_losses(base, world, settings, vectors[:: options.adapters])
    report_clusters(vectors, artists)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="miniature")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument(
        "--world",
        choices=("schools", "artists"),
        default="schools",
        help="schools are alike on purpose, and what corpora are made of",
    )
    parser.add_argument("--artists", type=int, default=8)
    parser.add_argument("--adapters", type=int, default=4, help="of each artist")
    parser.add_argument("--seed", type=int, default=7, help="of the artists")
    parser.add_argument("--alpha", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def write_sheet(base: BaseModel, path: Path) -> None:
    images = sample(base, SHEET_CAPTIONS * 2, seed=1)
    rows = [np.concatenate(list(images[i : i + 8]), axis=1) for i in range(0, len(images), 8)]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(path)
    print(f"sheet of {len(images)} samples: {path}")


def make_world(base: BaseModel, kind: str, n_artists: int, seed: int, n_works: int = 45) -> World:
    invent = {"schools": make_schools, "artists": make_artists}[kind]
    images, captions = [], []
    for a, artist in enumerate(invent(n_artists, seed)):
        for w in range(n_works):
            rng = np.random.default_rng([seed, a, w, 3])
            scene = sample_scene(rng)
            images.append(paint(artist, scene, rng, base.identity.image_size))
            captions.append(scene.caption)
    mean, std = encode_images(base, np.stack(images))
    return World(EncodedImages(mean, std, encode_captions(base, captions)), n_artists, n_works)


def train_adapters(
    base: BaseModel, world: World, settings: TrainingConfig, n_each: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Vectors (n, d), artist-major; artists (n,); CPU seconds. Held-out works are never drawn."""
    items, artists = [], []
    for a in range(world.n_artists):
        for k in range(n_each):
            rng = np.random.default_rng([a, k, 17])
            chosen = world.rows(a, rng.choice(world.n_works - N_HELD_OUT, N_TRAIN_IMAGES, False))
            spec = AdapterSpec(
                row=len(items), adapter_id=f"{a}-{k}", artist=str(a), genre="", role=Role.TRAIN,
                index=k, image_ids=(), token="", noise_seed=1000 * a + k, init_seed=0,
            )  # fmt: skip
            seen = world.images
            items.append(
                TrainingItem(
                    spec, seen.latents_mean[chosen], seen.latents_std[chosen], seen.text[chosen]
                )
            )
            artists.append(a)
    begun = time.process_time()
    trained = [
        adapter
        for start in range(0, len(items), STACK)
        for adapter in train_stack(
            base.unet, base.scheduler, items[start : start + STACK], settings
        )
    ]
    seconds = time.process_time() - begun
    return np.stack([t.vector for t in trained]), np.array(artists), seconds


@torch.no_grad()
def held_out_losses(
    base: BaseModel, world: World, settings: TrainingConfig, vector: np.ndarray | None
) -> np.ndarray:
    """Mean loss on each artist's held-out works, (n_artists,): noise and timesteps are fixed."""
    layout = layout_of(base.unet, settings.rank, settings.sub_network)
    losses = []
    with StackedAdapters(base.unet, layout, 1, scaling=settings.alpha / settings.rank) as stack:
        if vector is not None:
            stack.load(0, vector)
        for a in range(world.n_artists):
            held = world.rows(a, np.arange(world.n_works - N_HELD_OUT, world.n_works))
            source = torch.Generator().manual_seed(5)
            latents = torch.from_numpy(world.images.latents_mean[held]).repeat(4, 1, 1, 1)
            text = torch.from_numpy(world.images.text[held]).repeat(4, 1, 1)
            noise = torch.randn(latents.shape, generator=source)
            timesteps = torch.linspace(20, 980, len(latents)).long()
            timesteps = timesteps[torch.randperm(len(latents), generator=source)]
            noisy = base.scheduler.add_noise(latents, noise, timesteps)
            predicted = base.unet(noisy, timesteps, text).sample
            target = training_target(base.scheduler, latents, noise, timesteps)
            losses.append(float((predicted - target).square().mean()))
    return np.array(losses)


def report_losses(
    base: BaseModel, world: World, settings: TrainingConfig, vectors: np.ndarray
) -> None:
    before = held_out_losses(base, world, settings, None)
    change = np.stack([held_out_losses(base, world, settings, v) for v in vectors]) / before - 1
    own = np.diag(change)
    n = len(own)
    others = (change.sum(1) - own) / (n - 1)
    contrast = own - others

    def shown(values: np.ndarray) -> str:
        return f"{100 * values.mean():+.2f} +- {100 * values.std(ddof=1) / n**0.5:.2f} %"

    print(f"held-out loss of the base: {before.mean():.4f}")
    print(f"change on own artist {shown(own)}, on others {shown(others)}, gap {shown(contrast)}")
    print(
        f"own falls: {np.mean(own < 0):.2f}; own below mean of others: {np.mean(own < others):.2f}"
    )
    nearest = np.mean(change.argmin(1) == np.arange(n))
    print(f"own is the most improved of {n}: {nearest:.2f}")


def report_clusters(vectors: np.ndarray, artists: np.ndarray) -> None:
    n_artists = len(set(artists.tolist()))
    for n_components in (4, 7, 10, 14):
        scores = PCA(n_components, random_state=0).fit_transform(vectors)
        aris = [
            adjusted_rand_score(
                artists, KMeans(n_artists, n_init=10, random_state=s).fit_predict(scores)
            )
            for s in range(10)
        ]
        print(f"ARI at {n_components:2d} components: {np.mean(aris):.3f} +- {np.std(aris):.3f}")


if __name__ == "__main__":
    main()
