"""Gram matrices of adapters that were never made: planted artists in the paper's protocol.

A sub-network's vectors would be, as in `benchmarks.synthetic`, latent coordinates along 256
directions, partly an artist's and partly an adapter's own, and white noise in as many columns as
Stable Diffusion 1.5 has at rank 16. Only inner products are drawn. Those of the coordinates are
exact. Two vectors of white noise of length d have an inner product of variance d, and each has one
of variance 1 with a direction: for long vectors both are normal, and that is what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.synthetic import (
    DECAY,
    N_LATENTS,
    NOISE_FLOOR,
    PAPER_COLUMNS,
    SHARES,
    layout_for,
)
from lorastyle.config import Experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.groups import Partition
from lorastyle.records import Role

Matrix = npt.NDArray[np.float64]

ROLES = (Role.TRAIN, Role.VAL, Role.QUERY_CALIBRATION, Role.QUERY_VAL)
ARTIST_SHARES = {"self_attention": 0.35, "cross_attention": 0.3, "feed_forward": 0.4}
"""The part of a latent direction's variance that lies between artists: scores then are near the
paper's, and k-means has work to do."""
QUERY_SPREAD = 2.0
"""Variance of a query's own part, in units of another adapter's: it has seen fewer images."""
N_GENRES = 5


def planted_grams(experiment: Experiment, seed: int, roles: Sequence[Role] = ROLES) -> GramSet:
    """All that a sweep reads, `factors` only: no test adapters unless asked for, no store."""
    table = adapters(experiment, roles)
    rng = np.random.default_rng(seed)
    sums = {
        name: _gram(table, n_columns, ARTIST_SHARES[name], rng)
        for name, n_columns in SHARES.items()
    }
    modules = Partition.of_names(SHARES, layout_for(PAPER_COLUMNS).targets)
    return GramSet(table, {"factors": sums}, groups_hold=modules)


def adapters(experiment: Experiment, roles: Sequence[Role] = ROLES) -> pd.DataFrame:
    """A line for each adapter, artist by artist within a role."""
    artists = range(experiment.corpus.n_artists or 0)
    table = pd.DataFrame(
        [
            {
                "adapter_id": f"artist-{artist:03d}-{role.value}-{index:03d}",
                "artist": f"artist-{artist:03d}",
                "genre": f"genre-{artist % N_GENRES}",
                "role": role.value,
                "index": index,
            }
            for role in roles
            for artist in artists
            for index in range(experiment.protocol.count(role))
        ]
    )
    table.insert(0, "row", np.arange(len(table)))
    return table


def _gram(
    table: pd.DataFrame, n_columns: int, artist_share: float, rng: np.random.Generator
) -> Matrix:
    latents, n = _latents(table, artist_share, rng), len(table)
    n_fit = int((table["role"] == Role.TRAIN.value).sum())
    # As in benchmarks.synthetic: noise gives every component of the fit a variance of the floor.
    scale = np.sqrt(NOISE_FLOOR * (n_fit - 1) / n_columns)
    along = scale * rng.standard_normal((n, N_LATENTS)) @ latents.T
    between = rng.standard_normal((n, n)) * scale**2 * np.sqrt(n_columns / 2)
    noise = between + between.T
    np.fill_diagonal(
        noise, scale**2 * (n_columns + np.sqrt(2 * n_columns) * rng.standard_normal(n))
    )
    gram = latents @ latents.T + along + along.T + noise
    return np.asarray(gram * n_columns / sum(SHARES.values()))


def _latents(table: pd.DataFrame, artist_share: float, rng: np.random.Generator) -> Matrix:
    artist = pd.factorize(table["artist"])[0]
    of_artists = rng.standard_normal((int(artist.max()) + 1, N_LATENTS))[artist]
    own = rng.standard_normal((len(table), N_LATENTS)) * np.sqrt(_own_variances(table))[:, None]
    variances = np.arange(1, N_LATENTS + 1) ** -DECAY
    mixed = np.sqrt(artist_share) * of_artists + np.sqrt(1 - artist_share) * own
    return np.asarray(mixed * np.sqrt(variances))


def _own_variances(table: pd.DataFrame) -> Matrix:
    spread: Mapping[str, float] = {role.value: QUERY_SPREAD for role in Role if role.is_query}
    return np.array([spread.get(role, 1.0) for role in table["role"]])
