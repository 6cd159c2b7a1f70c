from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from lorastyle.embedding.space_file import read_archive, write_archive
from lorastyle.embedding.style_space import StyleSpace, build_space, split_rows
from lorastyle.errors import StageError, TooFewAdaptersError


def test_clustering_calibrates_with_the_last_train_adapters_of_each_artist(styled):
    table = styled[0].table
    fit, calibration = split_rows(table, "clustering", 2)
    indices = table.set_index("row")["index"]
    roles = table.set_index("row")["role"]
    assert sorted(set(indices[fit])) == [0, 1, 2, 3]
    assert sorted(set(indices[calibration])) == [4, 5]
    assert set(roles[fit]) == set(roles[calibration]) == {"train"}
    assert (len(fit), len(calibration)) == (20, 10)


def test_retrieval_fits_on_all_train_adapters_and_calibrates_with_queries(styled):
    table = styled[0].table
    fit, calibration = split_rows(table, "retrieval", 2)
    assert len(fit) == 30
    assert set(table.set_index("row")["role"][calibration]) == {"query_calibration"}


def test_an_artist_with_few_adapters_keeps_one_to_fit(styled):
    table = styled[0].table
    thin = table[(table["artist"] != "anna") | (table["index"] == 5)]
    fit, calibration = split_rows(thin, "clustering", 2)
    artists = thin.set_index("row")["artist"]
    assert (artists[fit] == "anna").sum() == 1
    assert (artists[calibration] == "anna").sum() == 0


@pytest.mark.parametrize("task", ["clustering", "retrieval"])
def test_held_out_scores_are_sklearns_projection_and_then_calibrated(styled, task):
    grams, points = styled
    space = build_space(grams, None, task, "factors", "full", n_calibration=2)
    reference = PCA(space.n_components, svd_solver="full").fit(points[space.fit_rows])
    expected_fit = reference.transform(points[space.fit_rows])
    signs = np.sign((space.scores(space.fit_rows) * expected_fit).sum(axis=0))
    np.testing.assert_allclose(space.scores(space.fit_rows) * signs, expected_fit, atol=1e-8)
    rows = space.rows("test" if task == "clustering" else "query_test")
    raw = space.scores(rows, calibrated=False)
    np.testing.assert_allclose(raw * signs, reference.transform(points[rows]), atol=1e-8)
    np.testing.assert_array_equal(space.scores(rows), space.calibration.apply(raw))
    assert space.is_calibrated
    assert not np.allclose(space.scores(rows), raw)


def test_calibration_undoes_the_shrinking_of_held_out_adapters(styled):
    grams, _ = styled
    space = build_space(grams, None, "clustering", "factors", "full", n_calibration=2)
    means = {
        name: np.abs(space.scores(space.rows("test"), calibrated=name, n_components=4)).mean()
        for name in (True, False)
    }
    fit = np.abs(space.scores(space.fit_rows, n_components=4)).mean()
    assert abs(means[True] - fit) < abs(means[False] - fit)


def test_no_held_out_adapter_influences_another_one_s_scores(styled):
    """Nor the fit: leaving the test adapters out of the table changes no score."""
    grams, _ = styled
    whole = build_space(grams, grams.table, "clustering", "factors", "full", n_calibration=2)
    part = grams.table[grams.table["role"] != "test"]
    without = build_space(grams, part, "clustering", "factors", "full", n_calibration=2)
    for rows in (whole.fit_rows, whole.rows("val")):
        np.testing.assert_array_equal(without.scores(rows), whole.scores(rows))


def test_fewer_components_are_the_first_ones(styled):
    grams, _ = styled
    whole = build_space(grams, task="retrieval", sub_network="feed_forward")
    few = build_space(grams, task="retrieval", sub_network="feed_forward", max_components=3)
    rows = whole.rows("query_val")
    assert few.n_components == 3
    np.testing.assert_allclose(few.scores(rows), whole.scores(rows, n_components=3))


def test_without_calibration_adapters_scores_stay_raw(styled):
    grams, _ = styled
    space = build_space(grams, n_calibration=0)
    assert not space.is_calibrated
    rows = space.rows("val")
    np.testing.assert_array_equal(space.scores(rows), space.scores(rows, calibrated=False))


def test_a_space_knows_whose_adapters_the_rows_are(styled):
    grams, _ = styled
    space = build_space(grams, n_calibration=2)
    rows = space.rows("val")[[3, 0]]
    expected = grams.table.set_index("row").loc[rows, "artist"].tolist()
    assert space.artists(rows).tolist() == expected
    assert space.artists(np.array([], np.int64)).tolist() == []
    assert space.scores(np.array([], np.int64)).shape == (0, space.n_components)
    with pytest.raises(KeyError, match="row 999"):
        space.artists(np.array([999]))


def test_a_space_needs_fit_adapters_and_a_known_sub_network(styled):
    grams, _ = styled
    held_out = grams.table[grams.table["role"] == "test"]
    with pytest.raises(TooFewAdaptersError, match="at least 2 fit adapters, there are 0"):
        build_space(grams, held_out)
    with pytest.raises(StageError, match="no Gram matrix for factors/cross_attention"):
        build_space(grams, sub_network="cross_attention")


@pytest.fixture
def space(styled) -> StyleSpace:
    return build_space(styled[0], n_calibration=2)


def test_unseen_adapters_are_placed_by_their_products_about_any_origin(styled, space):
    _, points = styled
    rows = space.rows("val")
    for calibrated in (True, False):
        expected = space.scores(rows, calibrated=calibrated)
        same_origin = space.project(points[rows] @ points[space.fit_rows].T, calibrated=calibrated)
        np.testing.assert_allclose(same_origin, expected, atol=1e-9)
        moved = points + 5
        fit = moved[space.fit_rows]
        means = (fit @ fit.T).mean(axis=0)
        found = space.project(moved[rows] @ fit.T, fit_means=means, calibrated=calibrated)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    few = space.project(points[rows] @ points[space.fit_rows].T, n_components=2)
    np.testing.assert_allclose(few, space.scores(rows, n_components=2), atol=1e-9)
    with pytest.raises(StageError, match=r"shape \(2, 3\), .* each of its 20 fit adapters"):
        space.project(np.ones((2, 3)))


@pytest.mark.parametrize("task", ["clustering", "retrieval"])
@pytest.mark.parametrize("max_components", [None, 3])
def test_a_saved_space_comes_back_bit_by_bit(styled, tmp_path, task, max_components):
    grams, points = styled
    space = build_space(grams, task=task, n_calibration=2, max_components=max_components)
    space.save(tmp_path / "spaces" / "there.npz")
    again = StyleSpace.load(tmp_path / "spaces" / "there.npz")
    for name in ("task", "representation", "sub_network", "n_components", "is_calibrated"):
        assert getattr(again, name) == getattr(space, name)
    pd.testing.assert_frame_equal(again.table, space.table)
    everyone = space.table["row"].to_numpy()
    cross = points @ points[space.fit_rows].T
    for calibrated in (True, False):
        options = {"calibrated": calibrated}
        found, expected = again.scores(everyone, **options), space.scores(everyone, **options)
        np.testing.assert_array_equal(found, expected)
        found, expected = again.project(cross, **options), space.project(cross, **options)
        np.testing.assert_array_equal(found, expected)
    for name in ("explained_variance_ratio_", "scores_", "negative_share_"):
        np.testing.assert_array_equal(getattr(again.pca, name), getattr(space.pca, name))
    np.testing.assert_array_equal(again.calibration_rows, space.calibration_rows)


def test_missing_names_and_any_script_survive_the_file(styled, tmp_path):
    grams, _ = styled
    table = grams.table.assign(genre=None, adapter_id=lambda t: "藝術家 \n" + t["adapter_id"])
    space = build_space(grams, table, n_calibration=0)
    space.save(tmp_path / "space.npz")
    again = StyleSpace.load(tmp_path / "space.npz")
    pd.testing.assert_frame_equal(again.table, space.table)
    assert not again.is_calibrated


def test_saving_twice_is_the_same_file_and_holds_no_pickle(space, tmp_path):
    space.save(tmp_path / "a.npz")
    StyleSpace.load(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


def test_a_file_that_is_no_space_is_refused_in_a_sentence(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    pickled = io.BytesIO()
    np.savez(pickled, **{"facts.json": np.array([Hostile()], object)})
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("raw.npy", bytes(10**6))
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        archive.writestr("raw.npy", start + header.encode())
    single = io.BytesIO()
    np.save(single, np.ones(3))
    for content in (
        b"",
        b"hello",
        pickle.dumps(Hostile()),
        *(stream.getvalue() for stream in (pickled, bomb, huge, single)),
    ):
        (tmp_path / "space.npz").write_bytes(content)
        with pytest.raises(StageError, match=r"space.npz is not a style space, or is damaged"):
            StyleSpace.load(tmp_path / "space.npz")
    assert not (tmp_path / "owned").exists()
    with pytest.raises(StageError, match=r"cannot be read .* save the style space there first"):
        StyleSpace.load(tmp_path / "nothing.npz")


def test_a_damaged_space_is_never_read_as_another_one(space, tmp_path):
    """Cut anywhere, or any byte turned: a sentence, or the very space where nothing is read."""
    path = tmp_path / "space.npz"
    space.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(content), 20):
        path.write_bytes(content[:cut])
        with pytest.raises(StageError, match="is not a style space, or is damaged"):
            StyleSpace.load(path)
    expected = space.scores(space.rows("val"))
    for position in rng.integers(0, len(content), 60):
        turned = bytearray(content)
        turned[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(turned)
        try:
            again = StyleSpace.load(path)
        except StageError:
            continue
        np.testing.assert_array_equal(again.scores(again.rows("val")), expected)


def other_parts() -> dict[str, tuple[dict, dict]]:
    return {
        "no fit rows": ({"fit_rows": np.zeros(0, np.int64)}, {}),
        "rows of nobody": ({"fit_rows": np.arange(20) + 900}, {}),
        "scores of fewer": ({"_raw": np.zeros((3, 2))}, {}),
        "a scale that is none": ({"scale": np.full(19, np.nan)}, {}),
        "negative variance": ({"pca/eigenvalues": -np.ones(19)}, {}),
        "another task": ({}, {"task": "forgery"}),
        "no table": ({}, {"table": 3}),
        "a table without artists": ({}, {"table": []}),
        "facts that are a list": ({"facts.json": np.frombuffer(b"[[]]", np.uint8)}, {}),
        "deep facts": ({"facts.json": np.frombuffer(b"[" * 100_000, np.uint8)}, {}),
    }


@pytest.mark.parametrize("name", other_parts())
def test_parts_that_do_not_belong_together_are_refused(space, tmp_path, name):
    arrays, facts = other_parts()[name]
    path = tmp_path / "space.npz"
    space.save(path)
    there, known = read_archive(path)
    write_archive(path, there | arrays, known | facts)
    with pytest.raises(StageError, match="is not a style space, or is damaged"):
        StyleSpace.load(path)


def test_a_space_of_a_later_version_is_named(space, tmp_path):
    path = tmp_path / "space.npz"
    space.save(path)
    arrays, facts = read_archive(path)
    text = json.dumps(facts | {"version": 2}).encode()
    np.savez(path, **arrays, **{"facts.json": np.frombuffer(text, np.uint8)})
    with pytest.raises(StageError, match="version 2, this release reads 1; open it with"):
        StyleSpace.load(path)
