"""Galleries in spaces that the embedding left out, and in other forms of calibration."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.layout import AdapterLayout
from lorastyle.adapters.updates import Adapter
from lorastyle.config import parse_experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.spaces import load_space
from lorastyle.embedding.stage import embed, open_source
from lorastyle.errors import ConfigError, StageError
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.stage import ingest
from lorastyle.records import AdapterSpec, Role
from lorastyle.runs import Run
from lorastyle.search.gallery import open_gallery
from lorastyle.search.query import Query, Room
from lorastyle.search.search import search
from lorastyle.search.sketches import SketchPlacer, run_sketches
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import stored_adapter
from tests.wild import ARTISTS, flat

UNION = "full-cross_attention"
PARTS = ("self_attention", "feed_forward")


@pytest.fixture
def wild_copy(wild_run, tmp_path) -> Run:
    return Run.open(shutil.copytree(wild_run.directory, tmp_path / "copy"))


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, painter) -> Run:
    """15 adapters of three artists, and of each two queries that lie off by a scale and a shift."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", parse_experiment({}))
    layout = AdapterLayout.of_modules(2, painter.modules)
    rng = np.random.default_rng(4)
    styles = rng.standard_normal((3, layout.size))
    specs = [
        AdapterSpec(row, f"a{row}", ARTISTS[row % 3], "g", role, row // 3, ("x",), "t", row, 0)
        for row, role in enumerate([Role.TRAIN] * 15 + [Role.QUERY_CALIBRATION] * 6)
    ]
    store = AdapterStore.create(
        run.store_path, layout, base={"name": "miniature"}, alpha=2.0, n_rows=21, init={}
    )
    for spec in specs:
        vector = styles[spec.row % 3] + 0.3 * rng.standard_normal(layout.size)
        if spec.role is Role.QUERY_CALIBRATION:
            vector = 0.5 * vector + 0.2
        store.commit(spec.row, vector.astype(np.float32), spec, {})
    pd.DataFrame([spec.to_dict() for spec in specs]).to_parquet(run.plan_path)
    run.finish("train", {}, {"n_adapters": 21}, 0.0)
    embed(run)
    return run


def distances(scores: np.ndarray) -> np.ndarray:
    return np.linalg.norm(scores[:, None] - scores[None], axis=2)


def test_a_union_that_was_not_embedded_is_the_pca_of_its_updates(wild, wild_copy):
    found = open_gallery(wild_copy, "delta", UNION)
    files = {one.path.stem: read_adapter(one.path) for one in find_candidates([wild])}
    points = np.stack([flat(files[name].only(PARTS)) for name in found.table["adapter_id"]])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    expected = PCA(2, svd_solver="full").fit_transform(points)
    np.testing.assert_allclose(distances(found.scores[:, :2]), distances(expected), atol=2e-5)


def test_what_was_made_is_kept_while_the_embedding_stands(wild_copy, monkeypatch):
    first = open_gallery(wild_copy, "delta", UNION)
    open_gallery(wild_copy, "delta", "full")
    kept = list((wild_copy.search_path / "spaces").rglob("*.npz"))
    assert len(kept) == 1
    with monkeypatch.context() as patch:
        patch.setattr(GramSet, "load", None)
        np.testing.assert_array_equal(open_gallery(wild_copy, "delta", UNION).scores, first.scores)
    # Damaged, it is made again.
    kept[0].write_bytes(kept[0].read_bytes()[:-40])
    np.testing.assert_array_equal(open_gallery(wild_copy, "delta", UNION).scores, first.scores)
    # Other settings of the embedding, of the same Gram matrices.
    again = wild_copy.experiment.model_dump(mode="json")
    again["embedding"]["max_components"] = 3
    (wild_copy.directory / "config.yaml").write_text(parse_experiment(again).to_yaml())
    run = Run.open(wild_copy.directory)
    embed(run, force=True)
    assert open_gallery(run, "delta", UNION).scores.shape == (18, 3)
    assert open_gallery(run, "delta", "full").scores.shape == (18, 3)
    assert len(list((run.search_path / "spaces").rglob("*.npz"))) == 1


def test_what_there_is_no_matrix_of_is_refused(wild_copy):
    with pytest.raises(StageError, match="factors"):
        open_gallery(wild_copy, "factors", UNION)
    with pytest.raises(ConfigError, match="no sub-network 'feed'"):
        search(wild_copy, wild_copy.directory, sub_network="feed")


@pytest.mark.parametrize("form", [None, "full", "simple", "none"])
def test_a_gallery_is_calibrated_as_it_is_asked(trained_run, form):
    for _ in range(2):  # the second from what the first kept
        found = open_gallery(trained_run, "factors", "full", form)
        space = load_space(trained_run.embedding_path, "retrieval", "factors", "full")
        rows = found.table["row"].to_numpy()
        raw = space.scores(rows, calibrated=False)
        if form == "none":
            np.testing.assert_array_equal(found.scores, raw)
        elif form in (None, "full"):
            np.testing.assert_array_equal(found.scores, space.scores(rows))
        queries = found.table["role"] == Role.QUERY_CALIBRATION
        moved = np.abs(found.scores - raw).max(axis=1) > 1e-6
        np.testing.assert_array_equal(moved, queries & (form != "none"))
    full = open_gallery(trained_run, "factors", "full")
    same = np.array_equal(found.scores, full.scores)
    assert same == (form in (None, "full"))


@pytest.mark.parametrize("representation", ["factors", "delta"])
def test_an_adapter_of_the_run_is_placed_where_it_is(trained_run, representation):
    gallery = open_gallery(trained_run, representation, UNION)
    store = AdapterStore.open(trained_run.store_path)
    query = Query.of(stored_adapter(store, 4), Room(store))
    place = query.place(trained_run, gallery)
    here = np.flatnonzero(gallery.table["row"] == 4)[0]
    spread = np.abs(gallery.scores).max()
    raw = gallery.space.calibration.apply(gallery.scores[here][None])[0]
    np.testing.assert_allclose(place.scores[:14], raw[:14], atol=2e-4 * spread)
    assert place.coverage == pytest.approx(1)


def test_what_a_query_changes(wild_run, painter):
    part = painter.adapter("bela", 5).only(("cross_attention",))
    query = Query.of(part, Room(open_source(wild_run)))
    assert query.changes("full") and query.changes("full-feed_forward") and query.changes("mid")
    assert not query.changes(UNION) and not query.changes("ff_in") and not query.changes("res16")


def test_a_search_by_a_union_finds_the_artist(wild_copy, painter, tmp_path):
    path = tmp_path / "query.safetensors"
    write_adapter(painter.adapter("chen", 900, 16, "query"), path, "kohya")
    found = search(wild_copy, path, sub_network="self_attention + feed_forward", top_k=6)
    assert found.sub_network == "self_attention+feed_forward"
    assert {one.artist for one in found.neighbours} == {"chen"}
    write_adapter(painter.adapter("chen", 900).only(("cross_attention",)), path, "kohya")
    with pytest.raises(StageError, match="no style space fits"):
        search(wild_copy, path, sub_network=UNION)


def test_later_adapters_join_the_gallery_of_a_union(wild_copy, painter, tmp_path):
    """But not those that change nothing in it."""
    before = open_gallery(wild_copy, "delta", UNION)
    whole = painter.adapter("anna", 901, 8, "whole")
    write_adapter(whole, tmp_path / "in" / "whole.safetensors", "kohya")
    other = painter.adapter("anna", 902, 8, "other").only(("cross_attention",))
    write_adapter(other, tmp_path / "in" / "other.safetensors", "kohya")
    ingest(wild_copy, find_candidates([tmp_path / "in"]))
    after = open_gallery(wild_copy, "delta", UNION)
    assert list(after.table["adapter_id"][18:]) == ["whole"]
    np.testing.assert_allclose(after.scores[:18], before.scores, atol=1e-12)
    near = np.argsort(distances(after.scores)[18])[1:4]
    assert set(after.table["artist"].iloc[near]) == {"anna"}


@pytest.mark.parametrize("expression", [UNION, "self_attention&to_v+ff_out", "mid"])
def test_sketches_are_compared_on_the_modules_of_a_union(wild_run, painter, expression):
    space = load_space(wild_run.embedding_path, "retrieval", "delta", "full")
    sketches = run_sketches(wild_run, space.fit_rows)
    chosen = {
        UNION: lambda name: ".attn2." not in name,
        "self_attention&to_v+ff_out": lambda name: name.endswith(("attn1.to_v", "ff.net.2")),
        "mid": lambda name: name.startswith("mid_block."),
    }[expression]
    object.__setattr__(space, "sub_network", expression)
    adapter: Adapter = painter.adapter("anna", 700, 8)
    cosines = sketches.plan.sketch_all([adapter]).cosine(sketches, lambda key: chosen(key.module))
    for targets in ((), painter.modules):
        scores, share = SketchPlacer(space, sketches, targets).place(adapter)
        np.testing.assert_allclose(scores, space.project(cosines)[0], atol=1e-5)
        assert share == 1
