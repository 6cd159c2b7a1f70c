"""Representations of updates that are cut to a rank, against the cut updates themselves."""

from __future__ import annotations

import numpy as np
import pytest

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import compute_sums
from lorastyle.embedding.groups import Partition, groups_for
from lorastyle.embedding.measures import (
    base_representation,
    measure_of,
    sum_names,
    truncated_rank,
)
from lorastyle.errors import StageError
from lorastyle.store.adapter_store import AdapterStore

N, RANK = 12, 2


@pytest.fixture
def store(tmp_path, layout) -> AdapterStore:
    return AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=3.0, n_rows=N, init={}
    )


@pytest.fixture
def updates(store, layout) -> list[dict[str, np.ndarray]]:
    """Of each adapter and module: (out, in). One has dependent factors, one leaves a module."""
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((N, layout.size)).astype(np.float32)
    factors = layout.unflatten(vectors)
    for module in layout.modules:
        factors[module, "A"][3, 1] = factors[module, "A"][3, 0]
    factors[layout.modules[0], "B"][5] = 0
    for row, vector in enumerate(vectors):
        store.commit(row, vector, {"adapter_id": f"a{row}", "artist": "x"}, {})
    return [
        {
            module: store.scaling
            * factors[module, "B"][row].astype(np.float64)
            @ factors[module, "A"][row]
            for module in layout.modules
        }
        for row in range(N)
    ]


def cut(update: np.ndarray, rank: int) -> np.ndarray:
    U, values, V = np.linalg.svd(update, full_matrices=False)
    return (U[:, :rank] * values[:rank]) @ V[:rank]


def grams_of(store, representation: str, memory_gib: float = 1.0) -> GramSet:
    groups = groups_for(store.layout, ["block1.*"])
    sums = compute_sums(store, range(N), [representation], groups=groups, memory_gib=memory_gib)
    return GramSet(store.table(), sums, groups_hold=Partition.of(store.layout, groups))


@pytest.mark.parametrize("memory_gib", [1.0, 5e-5])
@pytest.mark.parametrize("expression", ["full", "block1.*", "full-cross_attention"])
def test_cosines_are_those_of_the_cut_updates(store, updates, memory_gib, expression):
    grams = grams_of(store, "delta@1", memory_gib)
    held = {
        "full": lambda name: True,
        "block1.*": lambda name: "block1" in name,
        "full-cross_attention": lambda name: "attn2" not in name,
    }[expression]
    flat = np.array(
        [
            np.concatenate([cut(dW, 1).ravel() for name, dW in each.items() if held(name)])
            for each in updates
        ]
    )
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(grams.matrix("delta@1", expression), flat @ flat.T, atol=3e-6)


def test_aligned_similarities_are_those_of_the_cut_updates(store, updates):
    """The formula of docs/mixed-origins.md, of rank 1: all row spaces are single directions."""
    found, most = np.zeros((2, N, N))
    for module in updates[0]:
        cuts = [cut(each[module], 1) for each in updates]
        norms = np.array([np.linalg.norm(each) for each in cuts])
        for i in range(N):
            for j in range(N):
                if norms[i] and norms[j]:
                    rows = [np.linalg.svd(cuts[one])[2][0] for one in (i, j)]
                    weight = np.sqrt(norms[i] * norms[j])
                    found[i, j] += weight * (cuts[i] * cuts[j]).sum() / norms[i] / norms[j]
                    most[i, j] += weight * abs(rows[0] @ rows[1])
    grams = grams_of(store, "delta-aligned@1")
    assert grams.representations == ("delta-aligned@1",)
    np.testing.assert_allclose(grams.matrix("delta-aligned@1", "full"), found / most, atol=5e-6)


def test_a_rank_that_is_not_lower_gives_the_same_bits(store, updates):
    whole = grams_of(store, "delta").matrix("delta", "full")
    np.testing.assert_array_equal(grams_of(store, "delta@2").matrix("delta@2", "full"), whole)


def test_names_tell_the_measure_and_the_rank():
    assert sum_names("delta@4") == ("delta@4",)
    assert sum_names("delta-aligned@12") == ("delta-aligned@12", "delta-aligned@12+attainable")
    assert base_representation("delta@4") == "delta"
    assert (truncated_rank("delta@4"), truncated_rank("delta")) == (4, None)


@pytest.mark.parametrize(
    "name", ["factors@4", "vibes", "delta@0", "delta@", "delta@4@2", "delta@x"]
)
def test_what_is_no_representation_of_updates_is_refused(store, updates, name):
    with pytest.raises(StageError, match="representation"):
        measure_of(name)
    if name != "vibes":
        with pytest.raises(StageError, match="representation"):
            compute_sums(store, range(N), [name])
