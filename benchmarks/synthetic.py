"""Stores of any size with planted artists: what benchmarks read instead of trained adapters.

    vector = common mean + latent directions, decaying, artist-wise + white noise

The mean is much longer than the spread, as in adapters that share their initial
`lora_A`; the spectrum decays slowly, which is what separates exact PCA from
sketches of it. A row depends on nothing but the arguments and its number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from os import cpu_count
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.records import AdapterSpec, Role
from lorastyle.store.adapter_store import AdapterStore

Matrix = npt.NDArray[np.float32]

PAPER_COLUMNS = 5_984_256
"""Stable Diffusion 1.5 at rank 16: what the paper trains."""
SD15_GROUPS = (
    ("down_blocks.0", 2, 320),
    ("down_blocks.1", 2, 640),
    ("down_blocks.2", 2, 1280),
    ("mid_block", 1, 1280),
    ("up_blocks.1", 3, 1280),
    ("up_blocks.2", 3, 640),
    ("up_blocks.3", 3, 320),
)
"""Where its transformer blocks are, how many, and their channels."""
SD15_TEXT_WIDTH = 768
SHARES = {"self_attention": 1_597_440, "cross_attention": 1_591_296, "feed_forward": 2_795_520}
"""Columns of its sub-networks; other sizes keep the proportions."""
MODULES_A_SUB_NETWORK = 8

N_LATENTS = 256
DECAY = 0.7
"""The k-th latent direction has variance `k ** -0.7`."""
ARTIST_SHARE = 0.6
"""The part of a latent direction's variance that lies between artists."""
NOISE_FLOOR = 0.01
"""White noise adds as much variance to every direction: a quarter of the 100th's."""
MEAN_ENERGY = 25.0
"""Squared length of the mean, in units of a centred row's."""

TILE = 8_192
"""Columns over which the latent directions are drawn; the next tile has them anew, shuffled."""
BATCH = 16
"""Rows made at once: 400 MB at the paper's size."""


def make_store(
    path: Path | str, n_rows: int, n_columns: int, *, n_artists: int, seed: int, rank: int = 16
) -> AdapterStore:
    """An `AdapterStore` of `n_rows` committed adapters; the same arguments give the same bytes.

    Row i is artist `i % n_artists`, so that streaming methods see every artist in
    every batch. Holds `BATCH` rows a core in memory. Raises ValueError where
    `n_columns` is no multiple of the rank or too few for three sub-networks.
    """
    store = AdapterStore.create(
        path,
        layout_for(n_columns, rank),
        base={"name": "synthetic", "sha256": "0" * 64},
        alpha=float(rank),
        n_rows=n_rows,
        init={"initialisation": "shared", "init_seed": seed},
    )
    world = PlantedArtists(n_rows, n_columns, n_artists, seed)
    # One BLAS thread each: sums then come in one order, whatever the number of cores.
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count() or 1) as pool:
        pending: deque[Future[None]] = deque()
        for batch in world.batches():
            pending.append(pool.submit(_commit, store, world, batch))
            if len(pending) > (cpu_count() or 1):
                pending.popleft().result()
        for future in pending:
            future.result()
    return store


def _commit(store: AdapterStore, world: PlantedArtists, batch: range) -> None:
    for row, vector in zip(batch, world.rows(batch), strict=True):
        store.commit(row, vector, _spec(row, world.n_artists), {"wall_s": 0.0})


def _spec(row: int, n_artists: int) -> AdapterSpec:
    index, number = divmod(row, n_artists)
    artist = f"artist-{number:03d}"
    return AdapterSpec(
        row=row,
        adapter_id=f"{artist}-train-{index:03d}",
        artist=artist,
        genre=f"genre-{number % 5}",
        role=Role.TRAIN,
        index=index,
        image_ids=(f"{artist}-image-{index:03d}",),
        token="",
        noise_seed=row,
        init_seed=0,
    )


@dataclass(frozen=True)
class PlantedArtists:
    """The rows of a synthetic store, made when asked for."""

    n_rows: int
    n_columns: int
    n_artists: int
    seed: int

    def batches(self) -> Iterator[range]:
        """All rows, in the batches they are to be made in: products depend on their size."""
        for start in range(0, self.n_rows, BATCH):
            yield range(start, min(start + BATCH, self.n_rows))

    def rows(self, rows: range) -> Matrix:
        """Vectors (m, d) of these rows."""
        vectors = np.empty((len(rows), self.n_columns), np.float32)
        noises = [self._rng(3, row) for row in rows]
        latents = self._latents[rows.start : rows.stop]
        # Tile by tile: a tile of the batch and the directions stay in the cache.
        for number, start in enumerate(range(0, self.n_columns, TILE)):
            part = vectors[:, start : start + TILE]
            for noise, vector in zip(noises, part, strict=True):
                noise.standard_normal(dtype=np.float32, out=vector)
            part *= np.float32(self._noise_scale)
            part += self._mean[start : start + TILE]
            part += self._turned(latents, number) @ self._directions[:, : part.shape[1]]
        return vectors

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, *key]))

    @cached_property
    def _latents(self) -> Matrix:
        """Coordinates (n, q) along the latent directions, of variance k^-0.7."""
        rng = self._rng(0)
        artists = rng.standard_normal((self.n_artists, N_LATENTS))
        own = rng.standard_normal((self.n_rows, N_LATENTS))
        which = np.arange(self.n_rows) % self.n_artists
        mixed = np.sqrt(ARTIST_SHARE) * artists[which] + np.sqrt(1 - ARTIST_SHARE) * own
        return np.asarray(mixed * np.sqrt(_variances()), np.float32)

    @cached_property
    def _directions(self) -> Matrix:
        """The latent directions (q, TILE) over the first tile; of unit length over all columns."""
        drawn = self._rng(1).standard_normal((N_LATENTS, TILE), dtype=np.float32)
        return drawn * np.float32(self.n_columns**-0.5)

    def _turned(self, latents: Matrix, tile: int) -> Matrix:
        """Latents (m, q) for the directions as they are in this tile: shuffled, signs redrawn.

        Drawing q x d numbers anew for every batch of rows would cost more than all
        the rest, and keeping them more memory than there is.
        """
        rng = self._rng(4, tile)
        turned = np.empty_like(latents)
        turned[:, rng.permutation(N_LATENTS)] = latents * rng.choice((-1, 1), N_LATENTS)
        return turned

    @property
    def _noise_scale(self) -> float:
        # n white rows of length d have a covariance with n - 1 eigenvalues scale^2 d / (n - 1).
        return float(np.sqrt(NOISE_FLOOR * (self.n_rows - 1) / self.n_columns))

    @cached_property
    def _mean(self) -> Matrix:
        energy = _variances().sum() + NOISE_FLOOR * (self.n_rows - 1)
        drawn = self._rng(2).standard_normal(self.n_columns, dtype=np.float32)
        return drawn * np.float32(np.sqrt(MEAN_ENERGY * energy / self.n_columns))


def _variances() -> npt.NDArray[np.float64]:
    return np.asarray(np.arange(1, N_LATENTS + 1) ** -DECAY, np.float64)


def layout_for(n_columns: int, rank: int = 16) -> AdapterLayout:
    """Stable Diffusion 1.5's layout at its own size, else three sub-networks in its proportions.

    Raises ValueError where `n_columns` is no multiple of the rank or too few.
    """
    if n_columns == PAPER_COLUMNS and rank == 16:
        return AdapterLayout.of_modules(rank, _sd15_modules())
    width, rest = divmod(n_columns, rank)
    least = 3 * 4 * MODULES_A_SUB_NETWORK
    if rest or width < least:
        raise ValueError(
            f"{n_columns} columns cannot be a layout of rank {rank}; choose a multiple of {rank} "
            f"from {least * rank} on"
        )
    return AdapterLayout.of_modules(rank, _scaled_modules(width))


def _scaled_modules(width: int) -> Iterator[TargetModule]:
    """Modules whose inputs and outputs together are `width`."""
    edges = np.rint(np.cumsum([0, *SHARES.values()]) / PAPER_COLUMNS * width).astype(int)
    for name, start, stop in zip(SHARES, edges, edges[1:], strict=False):
        cuts = np.linspace(start, stop, MODULES_A_SUB_NETWORK + 1).astype(int)
        for number, n_features in enumerate(np.diff(cuts)):
            n_in = int(n_features) * 43 // 100
            yield TargetModule(f"block.{number}.{name}", name, int(n_features) - n_in, n_in)


def _sd15_modules() -> Iterator[TargetModule]:
    for group, n_blocks, c in SD15_GROUPS:
        for number in range(n_blocks):
            yield from _block_modules(f"{group}.attentions.{number}.transformer_blocks.0", c)


def _block_modules(where: str, c: int) -> Iterator[TargetModule]:
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        n_in = SD15_TEXT_WIDTH if name in ("to_k", "to_v") else c
        yield TargetModule(f"{where}.attn1.{name}", "self_attention", c, c)
        yield TargetModule(f"{where}.attn2.{name}", "cross_attention", c, n_in)
    yield TargetModule(f"{where}.ff.net.0.proj", "feed_forward", 8 * c, c)
    yield TargetModule(f"{where}.ff.net.2", "feed_forward", c, 4 * c)
