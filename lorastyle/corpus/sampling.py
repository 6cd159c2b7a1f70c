"""Which images go to which split, and which of them to which adapter.

Everything random is keyed by (seed, artist, purpose), so that neither the order
of artists nor the number of query adapters changes another draw.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lorastyle.config import ProtocolConfig
from lorastyle.errors import ConfigError
from lorastyle.records import Role, Split

Sets = NDArray[np.int64]
"""(count, n_images) of 0 and 1: which images each set holds."""

N_RESTARTS = 40
N_RANDOM_TRIES = 30
N_SWAPS = 100


def stable_seed(*key: object) -> int:
    """A 63-bit integer from JSON-able values: the same in every process and version.

    >>> stable_seed(0, "monet-train-00") == stable_seed(0, "monet-train-00")
    True
    """
    text = json.dumps(key, separators=(",", ":"), allow_nan=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def split_images(
    artist: str, image_ids: Sequence[str], protocol: ProtocolConfig, seed: int
) -> dict[Split, tuple[str, ...]]:
    """An artist's images by split, disjoint and covering; the rest is for training.

    Raises ConfigError where the reserved images leave too few to train on.
    """
    n_reserved = protocol.reserved_val + protocol.reserved_test
    needed = n_reserved + max(protocol.images_per_adapter, protocol.images_per_query)
    if len(image_ids) < needed:
        raise ConfigError(
            f"{artist} has {len(image_ids)} works and the protocol needs {needed}: "
            f"reserved_val={protocol.reserved_val}, reserved_test={protocol.reserved_test} and "
            f"{needed - n_reserved} to train on; raise corpus.min_works to {needed}"
        )
    rng = np.random.default_rng(stable_seed(seed, artist, "split"))
    shuffled = [str(image_id) for image_id in rng.permutation(sorted(image_ids))]
    return {
        Split.VAL: tuple(sorted(shuffled[: protocol.reserved_val])),
        Split.TEST: tuple(sorted(shuffled[protocol.reserved_val : n_reserved])),
        Split.TRAIN: tuple(sorted(shuffled[n_reserved:])),
    }


def sample_sets(
    artist: str,
    splits: Mapping[Split, Sequence[str]],
    protocol: ProtocolConfig,
    seed: int,
) -> dict[Role, list[tuple[str, ...]]]:
    """The image sets of each role's adapters of one artist, in order of index.

    Gallery sets are random, but share at most `max_overlap` of their images.
    All others are spread as far apart as their pool allows. No two sets of a
    role are equal. Raises ConfigError, with the numbers, where that cannot be.
    """
    sets: dict[Role, list[tuple[str, ...]]] = {}
    for role in Role:
        pool = splits[role.image_split]
        size, count = protocol.n_images(role), protocol.count(role)
        rng = np.random.default_rng(stable_seed(seed, artist, role.value))
        if role is Role.TRAIN:
            limit = max_shared(size, protocol.max_overlap)
            drawn = draw_sets(len(pool), size, count, limit, rng)
        else:
            limit = size - 1
            drawn = spread_sets(len(pool), size, count, rng)
        if drawn is None:
            raise ConfigError(_refusal(artist, role, len(pool), size, count, limit))
        sets[role] = [tuple(pool[image] for image in np.flatnonzero(row).tolist()) for row in drawn]
    return sets


def max_shared(size: int, max_overlap: float) -> int:
    """Most images two sets may share; equal sets are never allowed."""
    return min(math.floor(max_overlap * size + 1e-9), size - 1)


def draw_sets(
    n_images: int, size: int, count: int, limit: int, rng: np.random.Generator
) -> Sets | None:
    """`count` random sets of `size` images of which no two share more than `limit`.

    Each set is drawn at random until it fits those before it, so that the sets
    are plain random ones where the bound hardly matters; where it does, a misfit
    is mended by swapping images, and a dead end starts over. None: not found.
    """
    if size > n_images or least_shared(n_images, size, count) > limit:
        return None
    for _ in range(N_RESTARTS):
        sets = np.zeros((count, n_images), dtype=np.int64)
        for position in range(count):
            fitting = _fitting_set(sets[:position], size, limit, rng)
            if fitting is None:
                break
            sets[position] = fitting
        else:
            return sets
    return None


def spread_sets(n_images: int, size: int, count: int, rng: np.random.Generator) -> Sets | None:
    """Like `draw_sets`, with the smallest limit for which sets are found."""
    for limit in range(least_shared(n_images, size, count), max(size, 1)):
        sets = draw_sets(n_images, size, count, limit, rng)
        if sets is not None:
            return sets
    return None


def least_shared(n_images: int, size: int, count: int) -> int:
    """A lower bound on the largest overlap among `count` sets of `size` images.

    Pairs of sets meet sum over images of (uses choose 2) times, which is least
    when all images are used equally often; the largest overlap is at least the
    mean. `size` itself where there are fewer different sets than `count`.

    >>> least_shared(n_images=15, size=10, count=3)
    5
    """
    if count < 2:
        return 0
    if math.comb(n_images, size) < count:
        return size
    uses, extra = divmod(count * size, n_images)
    meetings = (n_images - extra) * math.comb(uses, 2) + extra * math.comb(uses + 1, 2)
    return -(-meetings // math.comb(count, 2))


def _fitting_set(
    others: Sets, size: int, limit: int, rng: np.random.Generator
) -> NDArray[np.int64] | None:
    for _ in range(N_RANDOM_TRIES):
        candidate = np.zeros(others.shape[1], dtype=np.int64)
        candidate[rng.choice(others.shape[1], size, replace=False)] = 1
        if (others @ candidate <= limit).all():
            return candidate
    return _mended(candidate, others, limit, rng)


def _mended(
    candidate: NDArray[np.int64], others: Sets, limit: int, rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Swap images, each time the swap that leaves the least overlap above `limit`."""
    for _ in range(N_SWAPS):
        shared = others @ candidate
        if (shared <= limit).all():
            return candidate
        inside, outside = np.flatnonzero(candidate), np.flatnonzero(candidate == 0)
        if not len(outside):
            return None
        after = shared[:, None, None] - others[:, inside, None] + others[:, None, outside]
        excess = np.maximum(after - limit, 0).sum(axis=0)
        # Ties are broken at random: a fixed choice walks in circles.
        best = rng.choice(np.flatnonzero(excess == excess.min()))
        leaves, enters = np.unravel_index(best, excess.shape)
        candidate[inside[leaves]], candidate[outside[enters]] = 0, 1
    return None


def _refusal(artist: str, role: Role, n_images: int, size: int, count: int, limit: int) -> str:
    bound = least_shared(n_images, size, count)
    verdict = (
        f"cannot exist (some two share at least {bound})"
        if bound > limit or size > n_images
        else f"were not found in {N_RESTARTS} attempts"
    )
    name = "images_per_query" if role.is_query else "images_per_adapter"
    split = role.image_split.value
    loosen = ", raise protocol.max_overlap" if role is Role.TRAIN else ""
    more = "raise corpus.min_works" if split == "train" else f"raise protocol.reserved_{split}"
    return (
        f"{artist} has {n_images} {split} images, of which {count} sets of {size} sharing at most "
        f"{limit} {verdict}; lower protocol.{role.value} or protocol.{name}{loosen}, or {more}"
    )
