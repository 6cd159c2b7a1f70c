from __future__ import annotations

import json
import shutil

import dask
import numpy as np
import pandas as pd
import pytest

from lorastyle.config import parse_experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.spaces import load_space
from lorastyle.embedding.stage import bring_up_to_date, embed
from lorastyle.errors import StageError, StoreError, TooFewAdaptersError
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore


@pytest.fixture
def run(run_directory, specs) -> Run:
    """Planned, with the train stage recorded as done, and no adapter in the store."""
    run = Run.create(run_directory, parse_experiment({"compute": {"memory_gib": 0.1}}))
    pd.DataFrame([spec.to_dict() for spec in specs]).to_parquet(run.plan_path)
    run.finish("train", {}, {"n_adapters": len(specs)}, 0.0)
    return run


@pytest.fixture
def store(run, layout, specs) -> AdapterStore:
    return AdapterStore.create(
        run.store_path, layout, base={}, alpha=2.0, n_rows=len(specs), init={}
    )


def fill(store, specs) -> None:
    rng = np.random.default_rng(0)
    for spec in specs:
        store.commit(spec.row, rng.standard_normal(store.size).astype(np.float32), spec, {})


def test_embedding_once_is_enough(run, store, specs):
    fill(store, specs)
    first = embed(run)
    assert (first.skipped, first.outputs["n_adapters"]) == (False, len(specs))
    again = embed(run)
    assert again.skipped
    assert again.outputs == first.outputs
    shutil.rmtree(run.embedding_path)
    assert embed(run, scheduler=dask.get, force=True).outputs == first.outputs
    grams = GramSet.load(run.embedding_path)
    assert grams.digest() == first.outputs["digest"]
    assert grams.table["artist"].tolist() == [spec.artist for spec in specs]


def test_unusable_adapters_are_left_out_and_named(run, store, specs):
    fill(store, specs[4:])
    store.commit(0, np.zeros(store.size, np.float32), specs[0], {})
    store.commit(1, np.full(store.size, np.nan, np.float32), specs[1], {})
    store.quarantine(2, specs[2], "no images")
    outputs = embed(run).outputs
    assert outputs["n_adapters"] == len(specs) - 4
    assert outputs["left_out"] == {"absent": 1, "failed": 1, "non_finite": 1, "zero": 1}
    assert outputs["left_out_adapters"]["anna-train-00"] == "zero"
    matrix = GramSet.load(run.embedding_path).matrix("delta", "full")
    assert np.isfinite(matrix).all()


def test_rows_that_an_earlier_plan_left_behind_are_not_embedded(run, store, specs):
    store.grow(len(specs) + 1)
    fill(store, specs)
    store.commit(len(specs), np.ones(store.size, np.float32), {"adapter_id": "old"}, {})
    assert embed(run).outputs["n_adapters"] == len(specs)


def test_new_adapters_make_the_embedding_stale(run, store, specs):
    fill(store, specs[:-1])
    embed(run)
    fill(store, specs)
    with pytest.raises(StageError, match=r"inputs of 'embed' .* changed \(store\)"):
        embed(run)
    assert embed(run, force=True).outputs["n_adapters"] == len(specs)
    record = json.loads((run.embedding_path / "pass.json").read_text())
    assert record["n_new"] == 1


def test_spaces_that_cannot_be_fitted_are_named_and_the_others_written(run, store, specs):
    """Too few train adapters for some spaces; the matrices are there all the same."""
    fill(store, [spec for spec in specs if spec.role != "train" or spec.index > 3][:40])
    outputs = embed(run).outputs
    absent = outputs["absent_spaces"]
    assert len(absent) + outputs["n_spaces"] == 16
    for name in absent:
        task, representation, sub_network = name.split("/")
        with pytest.raises(StageError, match=f"no style space {task}/{representation}"):
            load_space(run.embedding_path, task, representation, sub_network)


def test_embedding_waits_for_training(run, store):
    run.manifest_path("train").unlink()
    with pytest.raises(StageError, match="no finished 'train' stage"):
        embed(run)


def test_nothing_to_embed_is_said(run, store, specs):
    fill(store, specs[:1])
    with pytest.raises(TooFewAdaptersError, match="has 1 usable adapters"):
        embed(run)
    assert run.manifest("embed") is None


def test_a_run_without_store_is_said(run):
    with pytest.raises(StoreError, match="is not an adapter store"):
        embed(run)


def swept(run: Run, **sweep) -> Run:
    """The same run, whose sweep asks for something."""
    values = {"compute": {"memory_gib": 0.1}, "sweep": sweep}
    return Run.create(run.directory, parse_experiment(values), force=True)


def test_what_the_sweep_tries_is_embedded_and_has_no_space(run, store, specs):
    fill(store, specs)
    plain = embed(run).outputs
    assert "swept" not in plain
    assert plain["sub_networks"] == ["full", "feed_forward", "self_attention", "cross_attention"]
    wider = swept(run, sub_networks=["to_q", "full", "mid"], truncated_ranks=[1])
    with pytest.raises(StageError, match=r"changed \(sweep\)"):
        embed(wider)
    outputs = bring_up_to_date(wider).outputs
    assert outputs["swept"] == {"representations": ["delta@1"], "sub_networks": ["to_q"]}
    assert (outputs["representations"], outputs["n_spaces"]) == (["factors", "delta"], 16)
    grams = GramSet.load(run.embedding_path)
    assert grams.has("delta@1", "to_q") and grams.has("factors", "feed_forward+to_q")
    assert bring_up_to_date(wider).skipped


def test_a_union_of_what_is_embedded_takes_no_other_embedding(run, store, specs):
    fill(store, specs)
    embed(run)
    assert embed(swept(run, sub_networks=["attention", "full-cross_attention"])).skipped


def test_matrices_that_are_finer_than_what_is_wanted_are_kept(run, store, specs):
    fill(store, specs)
    finer = swept(run, sub_networks=["by-module"])
    digest = embed(finer).outputs["digest"]
    plain = embed(swept(run), force=True).outputs
    record = json.loads((run.embedding_path / "pass.json").read_text())
    assert (record["n_new"], plain["digest"]) == (0, digest)
    assert GramSet.load(run.embedding_path).has("delta", "block1.*")


def test_a_style_space_of_any_union_is_written_and_read(run, store, specs):
    fill(store, specs)
    networks = ["full-cross_attention", "block*.attn1.*&to_q", "down.1"]
    values = {"embedding": {"sub_networks": networks}, "compute": {"memory_gib": 0.1}}
    unions = Run.create(run.directory, parse_experiment(values), force=True)
    outputs = embed(unions).outputs
    assert outputs["sub_networks"] == networks[:2]
    for name in networks[:2]:
        space = load_space(run.embedding_path, "retrieval", "factors", name)
        assert space.sub_network == name
    with pytest.raises(StageError, match=r"no style space retrieval/factors/down\.1"):
        load_space(run.embedding_path, "retrieval", "factors", "down.1")
