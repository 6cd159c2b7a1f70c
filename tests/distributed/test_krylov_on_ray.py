from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.distributed.dask_scheduler import dask_scheduler
from lorastyle.distributed.session import Session
from lorastyle.embedding.krylov import krylov_spectrum
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    """60 adapters of 80,000 numbers: three inner chunks, so three tasks a pass."""
    modules = [
        TargetModule("a.attn1", "self_attention", 2000, 3000),
        TargetModule("a.ff", "feed_forward", 2000, 3000),
    ]
    layout = AdapterLayout.of_modules(8, modules)
    store = AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=1.0, n_rows=60, init={}
    )
    rng = np.random.default_rng(0)
    common, few = rng.standard_normal((2, 6, layout.size), dtype=np.float32)
    for row in range(60):
        own = 0.3 * rng.standard_normal(layout.size, dtype=np.float32)
        vector = 20 * common[0] + own + (1 + row % 6) * few[row % 6]
        store.commit(row, vector, {"adapter_id": f"a{row}"}, {})
    return store


@pytest.mark.ray
def test_ray_and_threads_find_the_same_components(local_ray: Session, store: AdapterStore) -> None:
    fit, held_out = AdapterVectors.of(store, np.arange(50)), AdapterVectors.of(store, [55, 52])
    here = krylov_spectrum(fit, 5)
    there = krylov_spectrum(fit, 5, scheduler=dask_scheduler(local_ray))
    assert here.n_passes_ == there.n_passes_
    np.testing.assert_allclose(there.explained_variance_, here.explained_variance_, rtol=1e-6)
    size = np.abs(here.scores_).max()
    np.testing.assert_allclose(there.scores_, here.scores_, atol=1e-6 * size)
    scheduler = dask_scheduler(local_ray)
    placed = there.transform(held_out, scheduler=scheduler)
    np.testing.assert_allclose(placed, here.transform(held_out), atol=1e-6 * size)
