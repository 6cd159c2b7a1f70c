from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.embedding.gram import GramSet
from lorastyle.records import AdapterSpec, Role
from lorastyle.store.adapter_store import AdapterStore

N_ADAPTERS = 17
COUNTS = {
    Role.TRAIN: 6,
    Role.VAL: 2,
    Role.TEST: 2,
    Role.QUERY_CALIBRATION: 2,
    Role.QUERY_VAL: 2,
    Role.QUERY_TEST: 2,
}
ARTISTS = ("anna", "bela", "chen", "dora", "emil")


def make_specs() -> list[AdapterSpec]:
    keys = [
        (role, index, artist)
        for role, count in COUNTS.items()
        for index in range(count)
        for artist in ARTISTS
    ]
    return [
        AdapterSpec(
            row,
            f"{artist}-{role}-{index:02d}",
            artist,
            "still life",
            role,
            index,
            (f"{artist}/0.png",),
            "xq7",
            row,
            0,
        )
        for row, (role, index, artist) in enumerate(keys)
    ]


@pytest.fixture
def specs() -> list[AdapterSpec]:
    return make_specs()


@pytest.fixture(scope="session")
def layout() -> AdapterLayout:
    modules = [
        TargetModule(f"block{i}.{kind}", sub_network, out_features + i, 11)
        for i in range(3)
        for kind, sub_network, out_features in (
            ("attn1.to_q", "self_attention", 9),
            ("attn2.to_k", "cross_attention", 12),
            ("ff.net.0", "feed_forward", 20),
        )
    ]
    return AdapterLayout.of_modules(2, modules)


@pytest.fixture(scope="session")
def vectors(layout: AdapterLayout) -> np.ndarray:
    """A large common start, as adapters have, and small differences."""
    rng = np.random.default_rng(3)
    common = 30 * rng.standard_normal(layout.size)
    return (common + rng.standard_normal((N_ADAPTERS, layout.size))).astype(np.float32)


@pytest.fixture(scope="session")
def store(
    tmp_path_factory: pytest.TempPathFactory, layout: AdapterLayout, vectors: np.ndarray
) -> AdapterStore:
    """Adapters in rows 1, 3, 5 and so on; the rows between are not there."""
    store = AdapterStore.create(
        tmp_path_factory.mktemp("store") / "adapters.zarr",
        layout,
        base={"name": "none"},
        alpha=1.0,
        n_rows=2 * N_ADAPTERS,
        init={},
    )
    for i, vector in enumerate(vectors):
        store.commit(2 * i + 1, vector, {"adapter_id": f"a{i}", "artist": "x"}, {})
    return store


@pytest.fixture
def rows() -> np.ndarray:
    return np.arange(N_ADAPTERS) * 2 + 1


@pytest.fixture(scope="session")
def styled() -> tuple[GramSet, np.ndarray]:
    """80 adapters of five artists with the vectors they came from, (80, 400)."""
    rng = np.random.default_rng(11)
    specs = make_specs()
    centres = {artist: 3 * rng.standard_normal(400) for artist in ARTISTS}
    points = np.stack([centres[spec.artist] + rng.standard_normal(400) for spec in specs])
    rows = [
        {
            "row": spec.row,
            "adapter_id": spec.adapter_id,
            "artist": spec.artist,
            "genre": spec.genre,
            "role": spec.role.value,
            "index": spec.index,
        }
        for spec in specs
    ]
    half = points[:, :250] @ points[:, :250].T, points[:, 250:] @ points[:, 250:].T
    sums = {"factors": {"self_attention": half[0], "feed_forward": half[1]}}
    return GramSet(pd.DataFrame(rows), sums), points


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    return tmp_path / "run"
