"""An adapter in, its kin out: against PCA of the updates themselves."""

import shutil

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.embedding.spaces import load_space
from lorastyle.embedding.stage import embed
from lorastyle.errors import AdapterFileError, LayoutMismatchError, StageError
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.runs import Run
from lorastyle.search import gallery
from lorastyle.search.found import Found, vote
from lorastyle.search.search import search
from lorastyle.search.sketches import SketchPlacer, run_sketches
from tests.wild import ARTISTS, flat


@pytest.fixture
def query(tmp_path, painter):
    """`query(artist, seed, rank, format)` writes a file that the run has not seen."""

    def write(artist, seed=1000, rank=4, kind="kohya", **changes):
        path = tmp_path / ("query" if kind == "peft" else "query.safetensors")
        write_adapter(painter.adapter(artist, seed, rank, "query", **changes), path, kind)
        return path

    return write


@pytest.mark.parametrize("sub_network", ["full", "feed_forward"])
def test_distances_are_those_of_a_pca_of_the_updates(wild, wild_run, query, sub_network):
    path = query("bela", rank=16)
    found = search(
        wild_run,
        path,
        top_k=18,
        representation="delta",
        sub_network=sub_network,
        n_components=5,
    )
    files = {one.path.stem: read_adapter(one.path) for one in find_candidates([wild])}
    parts = {"full": ("self_attention", "cross_attention", "feed_forward")}
    wanted = parts.get(sub_network, (sub_network,))

    def direction(adapter: Adapter) -> np.ndarray:
        vector = flat(adapter.only(wanted))
        return vector / np.linalg.norm(vector)

    names = sorted(files)
    gallery = np.stack([direction(files[name]) for name in names])
    pca = PCA(5, svd_solver="full").fit(gallery)
    point = pca.transform(direction(read_adapter(path))[None])
    distances = np.linalg.norm(pca.transform(gallery) - point, axis=1)
    expected = dict(zip(names, distances, strict=True))
    assert len(found.neighbours) == 18
    for one in found.neighbours:
        assert one.distance == pytest.approx(expected[one.adapter_id], abs=2e-5)
    assert [one.adapter_id for one in found.neighbours][:6] == sorted(names, key=expected.get)[:6]


@pytest.mark.parametrize("artist", ARTISTS)
@pytest.mark.parametrize(("rank", "kind"), [(2, "peft"), (8, "kohya"), (32, "diffusers")])
def test_the_artist_is_found_whatever_rank_and_format(wild_run, query, artist, rank, kind):
    found = search(wild_run, query(artist, rank=rank, kind=kind), top_k=6)
    assert found.artists[0].artist == artist
    assert found.artists[0].score > 0.9
    assert {one.artist for one in found.neighbours} == {artist}
    assert not found.duplicates
    assert found.representation == "delta-aligned" and "mixed origin" in found.why


def test_the_same_weights_are_found_again_in_another_format(wild, wild_run, tmp_path):
    again = tmp_path / "again"
    write_adapter(read_adapter(wild / "chen-02.safetensors"), again, "peft", dtype="float16")
    found = search(wild_run, again)
    assert [(one.adapter_id, one.verdict) for one in found.duplicates] == [
        ("chen-02", "same_weights")
    ]
    assert found.neighbours[0].adapter_id == "chen-02"


def test_the_same_file_is_found_by_its_bytes(wild, wild_run):
    found = search(wild_run, wild / "anna-00.safetensors")
    assert [(one.adapter_id, one.verdict) for one in found.duplicates] == [
        ("anna-00", "identical_bytes")
    ]
    assert found.neighbours[0].distance == pytest.approx(0, abs=1e-3)


def test_an_adapter_of_some_modules_is_compared_on_those(wild_run, painter, tmp_path):
    whole = painter.adapter("bela", 1000, 4, "part")
    path = tmp_path / "part.safetensors"
    write_adapter(whole.only(("self_attention", "cross_attention")), path, "diffusers")
    found = search(wild_run, path, top_k=6)
    assert found.sub_network == "full"
    assert 0.1 < found.coverage < 0.9
    assert {one.artist for one in found.neighbours} == {"bela"}
    with pytest.raises(StageError, match="self_attention or cross_attention"):
        search(wild_run, path, sub_network="feed_forward")


def test_neighbours_without_a_module_in_common_are_no_duplicates(painter, tmp_path):
    """A database of attention alone and of feed-forward alone, and one of both."""
    parts = (("self_attention", "cross_attention"), ("feed_forward",))
    for number in range(6):
        adapter = painter.adapter("anna", number, name=f"a{number}").only(parts[number % 2])
        write_adapter(adapter, tmp_path / "in" / f"a{number}.safetensors", "kohya")
    run = Run.create(tmp_path / "run", experiment_for_adapters("run", "miniature"))
    ingest(run, find_candidates([tmp_path / "in"]))
    embed(run)
    found = search(run, tmp_path / "in" / "a1.safetensors", sub_network="full")
    assert [one.adapter_id for one in found.duplicates] == ["a1"]


def test_a_stranger_is_said_to_be_far_from_all(wild_run, query):
    assert not search(wild_run, query("anna")).is_far
    stranger = search(wild_run, query(None, noise=1.0))
    assert stranger.nearest_distance > search(wild_run, query("anna")).nearest_distance


def test_asking_for_more_than_there_is(wild_run, query):
    with pytest.raises(StageError, match="components, not 99"):
        search(wild_run, query("anna"), n_components=99)
    with pytest.raises(StageError, match="no style space fits factors"):
        search(wild_run, query("anna"), representation="factors")
    assert len(search(wild_run, query("anna"), top_k=500).neighbours) == 18


def test_a_large_database_is_searched_by_sketches(wild_run, query, tmp_path, monkeypatch):
    run = Run.open(shutil.copytree(wild_run.directory, tmp_path / "copy"))
    path = query("chen", rank=8)
    wishes = {"top_k": 18, "n_components": 4, "sub_network": "full"}
    exact = search(run, path, representation="delta", **wishes)
    monkeypatch.setattr(gallery, "EXACT_BYTES", 0)
    shutil.rmtree(run.search_path)
    for _ in range(2):  # the second from what the first kept
        found = search(run, path, **wishes)
        assert (exact.method, found.method) == ("exact", "sketch")
        assert found.representation == "delta"
        assert found.coverage == pytest.approx(1)
        distances = {one.adapter_id: one.distance for one in found.neighbours}
        for one in exact.neighbours:
            # 18 cosines, each off by about 0.006, on components of unit vectors.
            assert distances[one.adapter_id] == pytest.approx(one.distance, abs=0.03)
        assert {one.artist for one in found.neighbours[:6]} == {"chen"}
    assert (run.search_path / "sketches.npz").is_file()
    part = search(run, path, sub_network="feed_forward")
    assert part.method == "sketch" and part.artists[0].artist == "chen"


@pytest.mark.parametrize("sub_network", ["full", "self_attention"])
def test_a_placer_gives_what_the_cosines_of_sketches_give(wild_run, painter, sub_network):
    space = load_space(wild_run.embedding_path, "retrieval", "delta", sub_network)
    placer = SketchPlacer(space, run_sketches(wild_run, space.fit_rows))
    adapter = painter.adapter("anna", 700, 8)
    scores, share = placer.place(adapter)

    def wanted(key):
        return sub_network in ("full", adapter.updates[key].part)

    cosines = placer.sketches.plan.sketch_all([adapter]).cosine(placer.sketches, wanted)
    np.testing.assert_allclose(scores, space.project(cosines)[0], atol=1e-5)
    assert share == 1


def test_a_damaged_copy_of_what_was_kept_is_made_again(wild_run, query, tmp_path):
    run = Run.open(shutil.copytree(wild_run.directory, tmp_path / "copy"))
    before = search(run, query("chen"))
    for path in run.search_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-40])
    assert search(run, query("chen")) == before


def test_an_empty_adapter_has_no_style(wild_run, query, tmp_path, painter):
    adapter = painter.adapter(None, 1, noise=0.0, name="empty")
    path = tmp_path / "empty.safetensors"
    write_adapter(adapter, path, "kohya")
    with pytest.raises(StageError, match="changes nothing"):
        search(wild_run, path)


def test_an_adapter_of_another_base_model_is_refused(wild_run, painter, tmp_path):
    adapter = painter.adapter("anna", 1, name="other")
    updates = [
        type(update)(update.key, update.lora_A[:, :-1].copy(), update.lora_B)
        for update in adapter.updates.values()
    ]
    path = tmp_path / "other.safetensors"
    write_adapter(Adapter.of("other", updates), path, "kohya")
    with pytest.raises(LayoutMismatchError, match="another base model"):
        search(wild_run, path)
    (tmp_path / "broken.safetensors").write_bytes(path.read_bytes()[:100])
    with pytest.raises(AdapterFileError):
        search(wild_run, tmp_path / "broken.safetensors")


def test_what_is_ingested_later_is_placed_without_a_new_embedding(wild_run, query, tmp_path):
    run = Run.open(shutil.copytree(wild_run.directory, tmp_path / "copy"))
    search(run, query("anna"))
    added = ingest(run, find_candidates([query("anna")]))
    assert len(added.added) == 1
    found = search(run, query("anna"))
    assert found.n_gallery == 19
    assert [one.verdict for one in found.duplicates] == ["identical_bytes"]
    assert found.neighbours[0].distance == pytest.approx(0, abs=1e-3)


def neighbour(artist: str, distance: float) -> Found:
    return Found(f"{artist}-{distance}", artist, "", "train", distance, 0)


def test_votes_add_up_and_nearness_counts():
    near = (neighbour("a", 1.0), neighbour("b", 2.0), neighbour("b", 4.0))
    artists = vote(near, 2.0)
    assert sum(one.score for one in artists) == pytest.approx(1)
    # By hand: h = 2, so the votes are as exp(-1/8), exp(-4/8) and exp(-16/8).
    weights = np.exp(-np.array([1.0, 4.0, 16.0]) / 8)
    assert [one.artist for one in artists] == ["a", "b"]
    assert artists[0].score == pytest.approx(weights[0] / weights.sum())
    assert artists[1].n_neighbours == 2 and artists[1].nearest == 2.0
    # Where neighbours are usually nearer, the nearest counts more; far from all, never more
    # than its own distance allows.
    assert vote(near, 0.1)[0].score > artists[0].score
    assert vote(near, 0.1)[0].score == vote(near, 1.0)[0].score


def test_the_unlabelled_do_not_vote():
    assert vote((neighbour("", 0.1),), 1.0) == ()
    assert [one.artist for one in vote((neighbour("", 0.1), neighbour("a", 5.0)), 1.0)] == ["a"]
