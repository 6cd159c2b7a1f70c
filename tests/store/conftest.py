from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.places import bucket
from lorastyle.records import AdapterSpec, Role
from lorastyle.store.adapter_store import AdapterStore
from tests.s3 import S3Server

BUCKET_NUMBERS = itertools.count()


@pytest.fixture
def layout() -> AdapterLayout:
    modules = [
        TargetModule("up.attn1.to_q", "self_attention", 6, 5),
        TargetModule("up.attn2.to_k", "cross_attention", 7, 4),
        TargetModule("up.ff.net.0", "feed_forward", 9, 6),
    ]
    return AdapterLayout.of_modules(3, modules)


@pytest.fixture
def make_store(tmp_path: Path, layout: AdapterLayout) -> Callable[..., AdapterStore]:
    def make(**changes: Any) -> AdapterStore:
        values: dict[str, Any] = {
            "base": {"name": "miniature", "sha256": "ab"},
            "alpha": 6.0,
            "n_rows": 5,
            "init": {"initialisation": "shared", "init_seed": 0},
        }
        chosen = changes.pop("layout", layout)
        return AdapterStore.create(tmp_path / "adapters.zarr", chosen, **(values | changes))

    return make


@pytest.fixture
def store(make_store: Callable[..., AdapterStore]) -> AdapterStore:
    return make_store()


@pytest.fixture
def vector(store: AdapterStore) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(store.size).astype(np.float32)


@pytest.fixture
def spec() -> AdapterSpec:
    return AdapterSpec(2, "monet-train-00", "monet", "landscape", Role.TRAIN, 0, ("a",), "x", 1, 0)


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def url(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a store may lie, in a bucket of its own."""
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    # The client of another server is not reused.
    bucket._client.cache_clear()
    name = f"bucket-{next(BUCKET_NUMBERS)}"
    server.make_bucket(name)
    yield f"s3://{name}/runs/adapters.zarr"
    bucket._client.cache_clear()
