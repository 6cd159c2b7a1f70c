from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "mixed_origins.py"
ARTISTS, ORIGINS = 3, ("shared-r4", "independent-r4")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("mixed_origins", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while it is being loaded.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def roster() -> pd.DataFrame:
    roles = {"train": 12, "query_val": 2, "query_test": 2}
    rows = [
        {
            "origin": origin,
            "adapter_id": f"{artist}-{role}-{k}",
            "artist": f"{artist}",
            "role": role,
        }
        for origin in ORIGINS
        for role, count in roles.items()
        for artist, k in itertools.product("abc"[:ARTISTS], range(count))
    ]
    return pd.DataFrame(rows)


def test_a_draw_has_each_adapter_once_and_equally_many_of_each_origin(example):
    pool = example.Pool(roster(), {})
    draws = list(pool.draws(ORIGINS))
    assert len(draws) == example.N_DRAWS
    for rows in draws:
        found = pool.table.loc[rows]
        assert found["adapter_id"].nunique() == len(found) == len(roster()) / 2
        counts = found.groupby(["artist", "role"])["origin"].value_counts()
        assert counts.nunique() == 2  # 6 and 6 of the gallery, 1 and 1 of the queries
    assert not np.array_equal(*map(np.sort, draws[:2]))


def test_what_tells_artists_apart_scores_one_and_what_tells_origins_apart_does_not(example):
    table = roster()
    noise = np.random.default_rng(0).standard_normal((len(table), 40)) / 10
    for column, perfect in (("artist", True), ("origin", False)):
        vectors = np.concatenate([pd.get_dummies(table[column]).to_numpy(float), noise], axis=1)
        pool = example.Pool(table, {"planted": vectors @ vectors.T})
        scores = example.score(pool, list(pool.draws(ORIGINS))[:2], vectors @ vectors.T)
        for values in (scores.ari, scores.map_components, scores.map_similarity):
            assert len(values) == 1 + ARTISTS
            assert (values[0] > 0.99) == perfect


def test_the_interval_is_the_jackknifes(example):
    # Of a mean the jackknife's standard error is the usual one.
    values = np.array([0.2, 0.5, 0.4, 0.9])
    without = [np.delete(values, k).mean() for k in range(4)]
    expected = 1.96 * values.std(ddof=1) / 2
    assert example.interval(np.array([values.mean(), *without])) == f"0.500 ± {expected:.3f}"
