"""Adapters in the wild whose styles are planted, in the shipped miniature's modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.ingest.family import modules_of_base

ARTISTS = ("anna", "bela", "chen")
FORMATS = ("kohya", "diffusers", "peft")
RANKS = (2, 4, 8)
SUFFIX = {"kohya": ".safetensors", "diffusers": ".safetensors", "peft": ""}


class Painter:
    """Makes adapters whose updates are an artist's, and noise; ranks and gauges are by chance."""

    def __init__(self, seed: int = 0) -> None:
        self.modules, _ = modules_of_base("miniature")
        rng = np.random.default_rng(seed)
        self.hands = {
            artist: {
                module.name: (
                    rng.standard_normal((2, module.in_features)),
                    rng.standard_normal((module.out_features, 2)),
                )
                for module in self.modules
            }
            for artist in ARTISTS
        }

    def adapter(
        self, artist: str | None, seed: int, rank: int = 4, name: str = "a", noise: float = 0.3
    ) -> Adapter:
        """Of no artist where None."""
        rng = np.random.default_rng([seed, 77])
        updates = []
        for module in self.modules:
            A = noise * rng.standard_normal((rank, module.in_features))
            B = noise * rng.standard_normal((module.out_features, rank))
            if artist is not None:
                A[:2] += self.hands[artist][module.name][0]
                B[:, :2] += self.hands[artist][module.name][1]
            gauge = rng.standard_normal((rank, rank)) + 3 * np.eye(rank)
            updates.append(
                ModuleUpdate(
                    ModuleKey("unet", module.name),
                    (np.linalg.inv(gauge) @ A).astype(np.float32),
                    (B @ gauge).astype(np.float32),
                    0.5,
                )
            )
        return Adapter.of(name, updates)


def flat(adapter: Adapter) -> np.ndarray:
    """The updates themselves as one vector, for references."""
    return np.concatenate([update.delta().ravel() for _, update in sorted(adapter.updates.items())])


def write_wild(painter: Painter, folder: Path) -> None:
    """18 adapters in three formats and ranks, six of each artist."""
    for number in range(18):
        artist, kind = ARTISTS[number % 3], FORMATS[number // 3 % 3]
        name = f"{artist}-{number:02d}"
        adapter = painter.adapter(artist, number, RANKS[number // 6], name)
        write_adapter(adapter, folder / f"{name}{SUFFIX[kind]}", kind)
