from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.records import AdapterSpec, Role
from lorastyle.store.adapter_store import AdapterStore


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
