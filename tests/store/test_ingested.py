"""Adapters in the wild, of any rank, in one place."""

import numpy as np
import pytest

from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LayoutMismatchError, StoreError
from lorastyle.store.cohorts import cohorts_of
from lorastyle.store.ingested import MAX_RANK, IngestedStore, Located, locate, number, rank_class

MODULES = [
    TargetModule(
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "self_attention", 9, 7
    ),
    TargetModule(
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", "cross_attention", 9, 5
    ),
    TargetModule("down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2", "feed_forward", 8, 6),
]


def adapter(rng, rank, modules=MODULES, name="a", scaling=0.5) -> Adapter:
    return Adapter.of(
        name,
        [
            ModuleUpdate(
                ModuleKey("unet", module.name),
                rng.standard_normal((rank, module.in_features)).astype(np.float32),
                rng.standard_normal((module.out_features, rank)).astype(np.float32),
                scaling,
            )
            for module in modules
        ],
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def store(tmp_path) -> IngestedStore:
    return IngestedStore.create(tmp_path / "ingested", MODULES, {"family": "tiny"})


def add(store: IngestedStore, *adapters: Adapter) -> list[int]:
    with store.writing() as writer:
        return [writer.add(each, {"adapter_id": each.name}, {}).row for each in adapters]


@pytest.mark.parametrize("rank", [1, 3, 4, 5, 16])
def test_an_adapter_of_any_rank_comes_back_with_its_update(store, rng, rank):
    given = adapter(rng, rank)
    (row,) = add(store, given)
    found = store.adapter(row)
    assert found.updates.keys() == given.updates.keys()
    for key, update in given.updates.items():
        np.testing.assert_allclose(found.updates[key].delta(), update.delta(), atol=1e-6)
        assert found.updates[key].rank == rank


def test_energies_are_the_squared_norms_and_zero_where_nothing_changes(store, rng):
    whole, part = adapter(rng, 3), adapter(rng, 5, MODULES[1:2])
    rows = add(store, whole, part)
    expected = [
        [
            (each.updates[key].delta() ** 2).sum() if key in each.updates else 0
            for key in (ModuleKey("unet", module.name) for module in MODULES)
        ]
        for each in (whole, part)
    ]
    np.testing.assert_allclose(store.energies(rows), expected, rtol=1e-6)


def test_rows_are_numbered_across_ranks_and_stay_when_opened_again(store, rng):
    rows = add(
        store, adapter(rng, 4, name="a"), adapter(rng, 7, name="b"), adapter(rng, 3, name="c")
    )
    rows += add(IngestedStore.open(store.directory), adapter(rng, 8, name="d"))
    assert len(set(rows)) == 4 and min(rows) > 1 << 32
    assert [locate(row) for row in rows] == [(4, 0), (8, 0), (4, 1), (8, 1)]
    table = IngestedStore.open(store.directory).table()
    assert dict(zip(table["row"], table["adapter_id"], strict=True)) == dict(
        zip(rows, "abcd", strict=True)
    )


def test_cohorts_place_each_row_where_it_was_asked_for(store, rng):
    rows = add(store, *(adapter(rng, rank, name=str(rank)) for rank in (4, 16, 3, 9)))
    asked = [rows[i] for i in (2, 1, 0, 3)]
    cohorts = cohorts_of(store, asked)
    assert {int(p) for cohort in cohorts for p in cohort.places} == {0, 1, 2, 3}
    for cohort in cohorts:
        for local, place in zip(cohort.rows, cohort.places, strict=True):
            assert locate(asked[place]).row == local


def test_an_adapter_of_another_base_model_is_refused_with_both_shapes(store, rng):
    other = [TargetModule(MODULES[0].name, "self_attention", 9, 8)]
    with pytest.raises(LayoutMismatchError, match=r"\(9, 8\), in tiny it is \(9, 7\)"):
        add(store, adapter(rng, 2, other))
    elsewhere = [TargetModule("mid_block.attn1.to_q", "self_attention", 9, 7)]
    with pytest.raises(LayoutMismatchError, match=r"changes 1 modules \(unet\), none of the 3"):
        add(store, adapter(rng, 2, elsewhere))


def test_other_modules_are_not_kept_but_do_no_harm(store, rng):
    extra = TargetModule("down_blocks.0.resnets.0.conv1", "feed_forward", 4, 4)
    (row,) = add(store, adapter(rng, 2, [*MODULES, extra]))
    assert len(store.adapter(row)) == len(MODULES)


def test_a_zero_adapter_is_kept_out_of_the_table(store, rng):
    empty = adapter(rng, 2, scaling=0.0)
    add(store, empty)
    assert store.table().empty
    assert [record.status for record in store.committed().values()] == ["zero"]


def test_two_writers_at_once_are_one_too_many(store):
    refused = pytest.raises(StoreError, match="another process is ingesting")
    with store.writing(), refused, store.writing():
        pass


def test_a_run_holds_adapters_of_one_base_model(store):
    assert IngestedStore.create(store.directory, MODULES[::-1], {"family": "tiny"}) == store
    with pytest.raises(StoreError, match=r"3 modules\), these have 2"):
        IngestedStore.create(store.directory, MODULES[:2], {"family": "other"})


def test_rank_classes_are_powers_of_two_up_to_a_limit():
    assert [rank_class(rank) for rank in (1, 2, 3, 64, 65, MAX_RANK)] == [1, 2, 4, 64, 128, 128]
    with pytest.raises(LayoutMismatchError, match="rank 129 is above 128"):
        rank_class(129)
    assert locate(number(Located(128, 7))) == (128, 7)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 9}', '{"version": 1, "layout": 3}'])
def test_a_damaged_index_is_named(store, text):
    (store.directory / "index.json").write_text(text)
    with pytest.raises(StoreError, match=r"index\.json cannot be read"):
        IngestedStore.open(store.directory)
