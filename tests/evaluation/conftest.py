import numpy as np
import pandas as pd
import pytest

from lorastyle.config import parse_experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.records import SUB_NETWORKS, Role

COUNTS = {"train": 6, "val": 2, "test": 2, "query_calibration": 2, "query_val": 2, "query_test": 2}
N_ARTISTS = 4


def make_table(n_artists=N_ARTISTS, counts=COUNTS):
    lines = [
        {
            "adapter_id": f"artist{artist}-{role.value}-{index:02d}",
            "artist": f"artist{artist}",
            "genre": f"genre{artist % 2}",
            "role": role.value,
            "index": index,
        }
        for role in Role
        for index in range(counts.get(role.value, 0))
        for artist in range(n_artists)
    ]
    table = pd.DataFrame(lines)
    table.insert(0, "row", np.arange(len(table)))
    return table


def make_grams(n_artists=N_ARTISTS, counts=COUNTS, noise=0.6, seed=0, width=60):
    """Artists around centres, held-out ones shrunken: what PCA of few adapters does to them."""
    rng = np.random.default_rng(seed)
    table = make_table(n_artists, counts)
    artist = table["artist"].str.removeprefix("artist").astype(int).to_numpy()
    sums = {"factors": {}, "delta": {}}
    for sub_network in SUB_NETWORKS:
        centres = rng.normal(size=(n_artists, width))
        vectors = centres[artist] + noise * rng.normal(size=(len(table), width)) * 3
        sums["factors"][sub_network] = vectors @ vectors.T
        sums["delta"][sub_network] = vectors @ vectors.T
    return GramSet(table, sums)


def make_experiment(**sections):
    values = {
        "corpus": {"n_artists": N_ARTISTS},
        "protocol": {
            **COUNTS,
            "calibration": 2,
            "images_per_adapter": 3,
            "images_per_query": 2,
            "reserved_val": 4,
            "reserved_test": 4,
            "max_overlap": 1.0,
        },
        "embedding": {"max_components": 8},
        "evaluation": {"n_kmeans_seeds": 3, "features": ["pixel_mean", "colour_histogram"]},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse_experiment(values)


@pytest.fixture
def grams():
    return make_grams()


@pytest.fixture
def experiment():
    return make_experiment()


@pytest.fixture
def new_grams():
    return make_grams


@pytest.fixture
def new_experiment():
    return make_experiment


@pytest.fixture
def counts():
    return dict(COUNTS)
