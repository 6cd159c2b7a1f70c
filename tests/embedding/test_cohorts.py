"""Gram matrices of adapters of mixed ranks and modules, against the updates themselves."""

import numpy as np
import pandas as pd
import pytest

from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.embedding.coverage import coverage, shared_cosine
from lorastyle.embedding.energies import energies_of
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import compute_sums
from lorastyle.embedding.groups import groups_for, sub_network_groups
from lorastyle.embedding.kept import Wanted
from lorastyle.embedding.placing import Others, place_updates
from lorastyle.embedding.style_space import build_space
from lorastyle.embedding.update import update_grams
from lorastyle.errors import StageError
from lorastyle.store.cohorts import cohorts_of
from lorastyle.store.ingested import IngestedStore

BLOCK = "mid_block.attentions.0.transformer_blocks.0"
MODULES = [
    TargetModule(f"{BLOCK}.attn1.to_q", "self_attention", 9, 7),
    TargetModule(f"{BLOCK}.attn1.to_k", "self_attention", 8, 7),
    TargetModule(f"{BLOCK}.attn2.to_k", "cross_attention", 9, 5),
    TargetModule(f"{BLOCK}.ff.net.2", "feed_forward", 8, 6),
]
RANKS = (4, 1, 3, 16, 2, 4, 7, 1)
LEFT_OUT = {1: [0, 1], 4: [3], 6: [2, 3]}
"""Modules that an adapter does not change, by adapter."""


@pytest.fixture(scope="module")
def adapters() -> list[Adapter]:
    rng = np.random.default_rng(5)
    return [
        Adapter.of(
            f"a{number}",
            [
                ModuleUpdate(
                    ModuleKey("unet", module.name),
                    rng.standard_normal((rank, module.in_features)).astype(np.float32),
                    rng.standard_normal((module.out_features, rank)).astype(np.float32),
                    float(rng.uniform(0.1, 2)),
                )
                for position, module in enumerate(MODULES)
                if position not in LEFT_OUT.get(number, [])
            ],
        )
        for number, rank in enumerate(RANKS)
    ]


@pytest.fixture
def store(tmp_path, adapters) -> IngestedStore:
    store = IngestedStore.create(tmp_path / "ingested", MODULES, {"family": "tiny"})
    with store.writing() as writer:
        for adapter in adapters:
            writer.add(adapter, {"adapter_id": adapter.name, "artist": "x", "role": "train"}, {})
    return store


def explicit(adapters: list[Adapter], parts: set[str]) -> np.ndarray:
    """Cosines of the updates on the modules that both change, from the updates themselves."""
    cosines = np.zeros((len(adapters), len(adapters)))
    for i, a in enumerate(adapters):
        for j, b in enumerate(adapters):
            shared = [k for k in a.updates.keys() & b.updates.keys() if a.updates[k].part in parts]
            if shared:
                x, y = (
                    np.concatenate([each.updates[key].delta().ravel() for key in shared])
                    for each in (a, b)
                )
                cosines[i, j] = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    return cosines


def explicit_aligned(adapters: list[Adapter], parts: set[str]) -> np.ndarray:
    """The formula of docs/mixed-origins.md from the updates and their projections."""
    aligned = np.zeros((len(adapters), len(adapters)))
    for i, a in enumerate(adapters):
        for j, b in enumerate(adapters):
            found, most = 0.0, 0.0
            for key in a.updates.keys() & b.updates.keys():
                if a.updates[key].part not in parts:
                    continue
                x, y = a.updates[key].delta(), b.updates[key].delta()
                norms = np.linalg.norm(x), np.linalg.norm(y)
                attainable = min(
                    np.linalg.norm(x @ np.linalg.pinv(y, rcond=1e-6) @ y) / norms[0],
                    np.linalg.norm(y @ np.linalg.pinv(x, rcond=1e-6) @ x) / norms[1],
                )
                weight = np.sqrt(norms[0] * norms[1])
                found += weight * (x * y).sum() / norms[0] / norms[1]
                most += weight * attainable
            aligned[i, j] = found / most if most else 0
    return aligned


def table_of(store: IngestedStore, adapters: list[Adapter]) -> pd.DataFrame:
    """In the order of the adapters, whatever their ranks' stores say."""
    table = store.table().set_index("adapter_id", drop=False)
    return table.loc[[adapter.name for adapter in adapters]].reset_index(drop=True)


def by_module(layout):
    return groups_for(layout, layout.modules)


def wanted(
    store: IngestedStore,
    table: pd.DataFrame,
    groups=sub_network_groups,
    representations=("delta",),
) -> Wanted:
    records = store.committed()
    checksums = [str(records[int(row)].checksum) for row in table["row"]]
    return Wanted(store, table, checksums, representations, groups(store.layout))


PARTS = {
    "full": {"self_attention", "cross_attention", "feed_forward"},
    "self_attention": {"self_attention"},
    "feed_forward": {"feed_forward"},
}


@pytest.mark.parametrize("memory_gib", [1.0, 2e-5])
def test_cosines_of_mixed_adapters_are_those_of_their_shared_modules(
    store, adapters, tmp_path, memory_gib
):
    update = update_grams(
        wanted(store, table_of(store, adapters)), tmp_path / "e", memory_gib=memory_gib
    )
    for grams in (update.grams, GramSet.load(tmp_path / "e")):
        for sub_network, parts in PARTS.items():
            found = grams.matrix("delta", sub_network)
            np.testing.assert_allclose(found, explicit(adapters, parts), atol=2e-6)


@pytest.mark.parametrize("memory_gib", [1.0, 4e-5])
def test_aligned_similarities_are_those_of_the_formula(store, adapters, tmp_path, memory_gib):
    table = table_of(store, adapters)
    both = wanted(store, table, representations=("delta", "delta-aligned"))
    update_grams(both, tmp_path / "e", memory_gib=memory_gib)
    grams = GramSet.load(tmp_path / "e")
    assert grams.representations == ("delta", "delta-aligned")
    for sub_network, parts in PARTS.items():
        found = grams.matrix("delta-aligned", sub_network)
        np.testing.assert_allclose(found, explicit_aligned(adapters, parts), atol=5e-6)
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("representation", ["delta", "delta-aligned"])
def test_others_are_placed_where_the_space_put_them(store, adapters, tmp_path, representation):
    """A fit adapter is projected to its own scores; one left out to where a PCA projects it."""
    table = table_of(store, adapters)
    grams = update_grams(
        wanted(store, table, representations=(representation,)), tmp_path / "e"
    ).grams
    fitted, rest = table.iloc[:6], table.iloc[6:]
    space = build_space(
        grams, fitted.assign(artist="x", index=range(6)), "retrieval", representation, "full"
    )
    everyone = Others(cohorts_of(store, table["row"]), energies_of(store, table["row"]))
    order = {int(row): place for place, row in enumerate(table["row"])}
    placed = place_updates(store, space, energies_of(store, space.fit_rows), everyone).scores
    at_fit = placed[[order[int(row)] for row in space.fit_rows]]
    np.testing.assert_allclose(at_fit, space.scores(space.fit_rows), atol=1e-5)
    gram = grams.matrix(representation, "full")
    here = [order[int(row)] for row in space.fit_rows]
    expected = space.pca.transform(gram[np.ix_([order[int(row)] for row in rest["row"]], here)])
    np.testing.assert_allclose(placed[6:], expected, atol=1e-5)


def test_unions_of_single_modules_know_their_energies(store, adapters, tmp_path):
    table = table_of(store, adapters)
    grams = update_grams(wanted(store, table, by_module), tmp_path / "e").grams
    np.testing.assert_allclose(
        grams.matrix("delta", "full"), explicit(adapters, PARTS["full"]), atol=2e-6
    )


def test_ingested_adapters_that_are_added_later_are_multiplied_alone(store, adapters, tmp_path):
    table = table_of(store, adapters)
    update_grams(wanted(store, table.iloc[:6]), tmp_path / "e")
    update = update_grams(wanted(store, table), tmp_path / "e")
    assert update.record["n_new"] == 2
    np.testing.assert_allclose(
        update.grams.matrix("delta", "full"), explicit(adapters, PARTS["full"]), atol=2e-6
    )


def test_factors_of_ingested_adapters_are_not_compared(store, adapters):
    with pytest.raises(StageError, match="differ in rank"):
        compute_sums(store, table_of(store, adapters)["row"], ("factors",))


def test_updates_of_ingested_adapters_are_not_cut(store, adapters):
    with pytest.raises(StageError, match="delta@2 cannot be compared"):
        compute_sums(store, table_of(store, adapters)["row"], ("delta", "delta@2"))


def test_coverage_is_the_smaller_share_on_shared_modules():
    energies = np.array([[3.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(coverage(energies, energies), [[1, 0.75], [0.75, 1]])


def test_adapters_without_a_module_in_common_have_cosine_zero():
    products = np.array([[1.0, 0.0], [0.0, 4.0]])
    assert shared_cosine(products, products).tolist() == [[1, 0], [0, 1]]
