"""Placing by updates in the space of a union of modules: against the updates themselves."""

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.embedding.energies import energies_of
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.placing import Others, place_updates
from lorastyle.embedding.style_space import StyleSpace, build_space
from lorastyle.errors import StageError
from lorastyle.store.cohorts import cohorts_of
from lorastyle.store.ingested import IngestedStore

ARTISTS = ("anna", "bela", "chen")
UNIONS = {
    "full-cross_attention": lambda name: ".attn2." not in name,
    "to_v+ff_out": lambda name: name.endswith((".to_v", ".ff.net.2")),
    "up&attention": lambda name: name.startswith("up_blocks.") and ".attn" in name,
}


@pytest.fixture(scope="module")
def adapters(painter) -> list[Adapter]:
    """12 to fit on, of every rank; two to place, of which one has no up blocks."""
    fit = [painter.adapter(ARTISTS[n % 3], n, (2, 4, 8)[n % 3], f"a{n:02d}") for n in range(12)]
    whole = painter.adapter("bela", 500, 3, "whole")
    kept = [one for one in whole.updates.values() if not one.key.module.startswith("up_blocks")]
    return [*fit, whole, Adapter.of("part", kept)]


@pytest.fixture(scope="module")
def store(tmp_path_factory, painter, adapters) -> IngestedStore:
    store = IngestedStore.create(tmp_path_factory.mktemp("store") / "i", painter.modules, {})
    with store.writing() as writer:
        for adapter in adapters:
            writer.add(adapter, {"adapter_id": adapter.name, "artist": "x", "role": "train"}, {})
    return store


def rows_of(store: IngestedStore, adapters: list[Adapter]) -> np.ndarray:
    table = store.table().set_index("adapter_id")
    return table.loc[[adapter.name for adapter in adapters], "row"].to_numpy(np.int64)


def explicit(adapter: Adapter, names: list[str]) -> np.ndarray:
    return np.concatenate([adapter.updates[ModuleKey("unet", n)].delta().ravel() for n in names])


def unit(vectors: list[np.ndarray]) -> np.ndarray:
    return np.stack([vector / np.linalg.norm(vector) for vector in vectors])


def space_in(store, fit: list[Adapter], points: np.ndarray, expression: str) -> StyleSpace:
    """A space whose fit adapters have these unit vectors."""
    table = store.table().set_index("adapter_id", drop=False)
    table = table.loc[[adapter.name for adapter in fit]].reset_index(drop=True)
    grams = GramSet(table, {"delta": {"self_attention": points @ points.T}})
    space = build_space(grams, None, "retrieval", "delta", "full")
    return dataclasses.replace(space, sub_network=expression)


@pytest.mark.parametrize("expression", UNIONS)
def test_updates_are_placed_where_sklearn_places_their_modules(
    store, adapters, painter, expression
):
    fit, whole = adapters[:12], adapters[12]
    names = [module.name for module in painter.modules if UNIONS[expression](module.name)]
    points = unit([explicit(adapter, names) for adapter in fit])
    space = space_in(store, fit, points, expression)
    rows = rows_of(store, [whole])
    others = Others(cohorts_of(store, rows), energies_of(store, rows))
    placed = place_updates(store, space, energies_of(store, space.fit_rows), others)
    reference = PCA(6, svd_solver="full").fit(points)
    of_fit = space.scores(rows_of(store, fit))[:, :6]
    signs = np.sign((reference.transform(points) * of_fit).sum(axis=0))
    expected = reference.transform(unit([explicit(whole, names)])) * signs
    np.testing.assert_allclose(placed.scores[:, :6], expected, atol=2e-5)
    np.testing.assert_allclose(placed.coverage, 1)


def test_what_lacks_modules_of_the_union_is_compared_on_those_it_has(store, adapters, painter):
    fit, part = adapters[:12], adapters[13]
    expression = "to_v+ff_out"
    names = [module.name for module in painter.modules if UNIONS[expression](module.name)]
    shared = [name for name in names if not name.startswith("up_blocks")]
    assert 0 < len(shared) < len(names)
    points = unit([explicit(adapter, names) for adapter in fit])
    space = space_in(store, fit, points, expression)
    rows = rows_of(store, [part])
    others = Others(cohorts_of(store, rows), energies_of(store, rows))
    placed = place_updates(store, space, energies_of(store, space.fit_rows), others)
    # Cosines of the shared modules alone, in the order of the space's rows.
    cosines = (unit([explicit(a, shared) for a in fit]) @ unit([explicit(part, shared)]).T).T
    order = np.argsort(rows_of(store, fit))
    np.testing.assert_allclose(placed.scores, space.project(cosines[:, order]), atol=2e-5)
    shares = [
        (explicit(adapter, shared) ** 2).sum() / (explicit(adapter, names) ** 2).sum()
        for adapter in fit
    ]
    np.testing.assert_allclose(placed.coverage, [np.mean(shares)], rtol=1e-5)


@pytest.mark.parametrize("representation", ["factors", "delta@2", "delta-aligned@2"])
def test_only_spaces_of_whole_updates_place_others(store, adapters, painter, representation):
    names = [module.name for module in painter.modules]
    points = unit([explicit(adapter, names) for adapter in adapters[:12]])
    space = space_in(store, adapters[:12], points, "full")
    space = dataclasses.replace(space, representation=representation)
    rows = rows_of(store, adapters[12:13])
    others = Others(cohorts_of(store, rows), energies_of(store, rows))
    with pytest.raises(StageError, match=f"in a space of '{representation}'"):
        place_updates(store, space, energies_of(store, space.fit_rows), others)


def test_what_has_no_module_of_the_union_is_refused(store, adapters, painter):
    fit, part = adapters[:12], adapters[13]
    names = [module.name for module in painter.modules if UNIONS["up&attention"](module.name)]
    points = unit([explicit(adapter, names) for adapter in fit])
    space = space_in(store, fit, points, "up&attention")
    rows = rows_of(store, [part])
    others = Others(cohorts_of(store, rows), energies_of(store, rows))
    with pytest.raises(StageError, match=f"none of the {len(names)} modules of the up&attention"):
        place_updates(store, space, energies_of(store, space.fit_rows), others)
