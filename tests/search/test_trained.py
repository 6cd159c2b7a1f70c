"""Searching a run of trained adapters: by factors where a query began where they did."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.initial import initial_vector
from lorastyle.adapters.layout import AdapterLayout
from lorastyle.config import parse_experiment
from lorastyle.embedding.projection import project_adapters
from lorastyle.embedding.spaces import load_space
from lorastyle.embedding.stage import embed
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.stage import ingest
from lorastyle.records import AdapterSpec, Role
from lorastyle.runs import Run
from lorastyle.search.search import search
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import stored_adapter
from lorastyle.store.members import rows_by_name

RANK = 4
ARTISTS = ("anna", "bela", "chen")


@pytest.fixture
def run(tmp_path, painter) -> Run:
    """18 adapters as training leaves them: near one initial lora_A, lora_B by artist."""
    run = Run.create(tmp_path / "run", parse_experiment({"protocol": {"calibration": 1}}))
    layout = AdapterLayout.of_modules(RANK, painter.modules)
    start = initial_vector(layout, 0)
    store = AdapterStore.create(
        run.store_path,
        layout,
        base={"name": "miniature"},
        alpha=2.0,
        n_rows=18,
        init={"initialisation": "shared"},
        initial=start,
    )
    specs = [
        AdapterSpec(row, f"{artist}-{row}", artist, "g", Role.TRAIN, row // 3, ("x",), "t", row, 0)
        for row, artist in ((row, ARTISTS[row % 3]) for row in range(18))
    ]
    for spec in specs:
        store.commit(spec.row, trained(store, spec.artist, spec.row), spec, {})
    pd.DataFrame([spec.to_dict() for spec in specs]).to_parquet(run.plan_path)
    run.finish("train", {}, {"n_adapters": 18}, 0.0)
    embed(run)
    return run


def trained(store: AdapterStore, artist: str, seed: int, moved: float = 0.3) -> np.ndarray:
    style = np.random.default_rng([ARTISTS.index(artist), 5]).standard_normal(store.size)
    own = np.random.default_rng([seed, 6]).standard_normal(store.size)
    assert store.initial is not None
    spread = np.abs(store.initial).mean()
    return (store.initial + moved * spread * (style + 0.5 * own)).astype(np.float32)


@pytest.fixture
def exported(run, tmp_path):
    """`exported(vector, format)`: a file of an adapter of the run's layout."""

    def write(vector: np.ndarray, kind: str):
        store = AdapterStore.open(run.store_path)
        aside = AdapterStore.create(
            tmp_path / f"aside-{kind}.zarr",
            store.layout,
            base={},
            alpha=store.alpha,
            n_rows=1,
            init={},
        )
        aside.commit(0, vector, {"adapter_id": "query"}, {})
        path = tmp_path / ("query" if kind == "peft" else f"query-{kind}.safetensors")
        write_adapter(stored_adapter(aside, 0), path, kind)
        return path

    return write


@pytest.mark.parametrize("kind", ["kohya", "diffusers", "peft"])
def test_factors_are_compared_where_the_query_began_where_the_run_did(run, exported, kind):
    """Whatever the format does with alpha, and by a known way of placing vectors."""
    store = AdapterStore.open(run.store_path)
    vector = trained(store, "bela", 900)
    path = exported(vector, kind)
    found = search(run, path, top_k=18, sub_network="full", n_components=3)
    assert (found.representation, found.method) == ("factors", "exact")
    assert found.artists[0].artist == "bela" and not found.duplicates
    space = load_space(run.embedding_path, "retrieval", "factors", "full")
    point = project_adapters(store, space, vector[None])[0, :3]
    for one in found.neighbours:
        place = space.scores(np.array([one.row]))[0, :3]
        assert one.distance == pytest.approx(np.linalg.norm(place - point), rel=1e-4, abs=1e-4)


def test_another_start_or_rank_is_compared_by_updates_and_says_so(run, exported, painter, tmp_path):
    store = AdapterStore.open(run.store_path)
    vector = trained(store, "chen", 901)
    away = vector - store.initial + initial_vector(store.layout, 77)
    found = search(run, exported(away, "kohya"))
    assert found.representation == "delta" and "began with another lora_A" in found.why
    other = tmp_path / "rank.safetensors"
    write_adapter(painter.adapter("anna", 3, 8), other, "kohya")
    found = search(run, other)
    assert found.representation == "delta" and "rank or modules" in found.why


def test_adapters_from_elsewhere_join_the_trained_ones_in_the_ranking(run, exported):
    store = AdapterStore.open(run.store_path)
    path = exported(trained(store, "anna", 902), "peft")
    added = ingest(run, find_candidates([path])).added
    assert rows_by_name(run)["query"] == added[0].row > 1 << 32
    again = exported(trained(store, "anna", 902), "kohya")
    found = search(run, again, representation="delta")
    assert found.n_gallery == 19
    assert [(one.adapter_id, one.verdict) for one in found.duplicates] == [
        ("query", "same_weights")
    ]
    assert found.neighbours[0].role == "ingested"
    assert found.neighbours[0].distance == pytest.approx(0, abs=1e-3)


def test_a_later_checkpoint_is_told_from_another_adapter_of_the_artist(run, exported):
    """All began with one lora_A: that says nothing here."""
    store = AdapterStore.open(run.store_path)
    (vector,) = store.read_rows([7])
    step = np.random.default_rng(8).standard_normal(store.size)
    later = vector + 0.06 * np.abs(store.initial).mean() * step
    found = search(run, exported(later.astype(np.float32), "kohya"))
    assert [(one.adapter_id, one.verdict) for one in found.duplicates] == [("bela-7", "same_run")]


def test_its_own_adapters_are_found_again(run, tmp_path):
    store = AdapterStore.open(run.store_path)
    path = tmp_path / "own.safetensors"
    write_adapter(stored_adapter(store, 4), path, "diffusers", dtype="bfloat16")
    found = search(run, path)
    assert found.duplicates[0].adapter_id == "bela-4"
    assert found.duplicates[0].verdict == "same_weights"
