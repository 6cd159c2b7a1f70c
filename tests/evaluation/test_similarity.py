from itertools import product

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lorastyle.evaluation.likeness import similarity_section, similarity_table
from lorastyle.evaluation.protocol import fit_setting
from lorastyle.evaluation.similarity import (
    embedding_similarity,
    principal_scores,
    shuffled_similarity,
)


def brute_force(x, y, count):
    """The largest mean cosine over every choice of signs."""
    x, y = x[:, :count], y[:, :count]
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return max(
        ((x * y * np.array(signs)).sum(axis=1) / lengths).mean()
        for signs in product((1, -1), repeat=count)
    )


@pytest.mark.parametrize("shape", [(40, 12, 9), (9, 30, 14)])
def test_no_choice_of_signs_does_better_and_components_are_scikit_learn_s(shape):
    n, p, q = shape
    rng = np.random.default_rng(n)
    style = rng.normal(size=(n, 3)) * [5, 3, 2]
    X = style @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)) + 7
    Y = style @ rng.normal(size=(3, q)) + rng.normal(size=(n, q)) - 3
    counts = [1, 2, 3, 5, 7]
    x, y = (PCA(7, svd_solver="full").fit_transform(each) for each in (X, Y))
    expected = [brute_force(x, y, count) for count in counts]
    np.testing.assert_allclose(embedding_similarity(X, Y, counts), expected, rtol=1e-9)


def test_four_samples_worked_by_hand():
    # Both centred, their axes already the principal ones; x has the first axis mirrored in y.
    x = np.array([[3.0, 1], [3, -1], [-3, 1], [-3, -1]])
    y = np.array([[-4.0, 2], [-4, -2], [4, 2], [4, -2]])
    # One component: cosines are 1 after the mirroring. Two: (3 * 4 + 1 * 2) / (sqrt 10 sqrt 20).
    found = embedding_similarity(x, y, [1, 2, 3])
    np.testing.assert_allclose(found[:2], [1, 14 / np.sqrt(200)])
    assert np.isnan(found[2])


def test_an_embedding_is_like_itself_turned_moved_and_mirrored():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6)) * np.arange(6, 0, -1)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    found = embedding_similarity(x, 5 * (x @ turn) + 2, [1, 3, 6])
    np.testing.assert_allclose(found, 1)


def test_components_that_are_not_there_are_none():
    flat = np.outer(np.arange(8.0), [1, 2, 3])
    assert principal_scores(flat, 3).shape == (8, 1)
    assert principal_scores(np.ones((5, 3)), 3).shape == (5, 0)


def test_samples_that_do_not_correspond_are_refused_or_shuffled():
    with pytest.raises(ValueError, match="8 and 9 samples"):
        embedding_similarity(np.ones((8, 2)), np.ones((9, 2)), [1])
    x = np.random.default_rng(1).normal(size=(200, 4))
    chance = shuffled_similarity(x, x, [2, 4])
    assert ((chance > 0) & (chance < 0.2)).all()


def test_weights_and_features_are_compared_on_the_gallery_adapters(grams, experiment):
    rng = np.random.default_rng(2)
    features = {"one": rng.normal(size=(len(grams.table), 5)), "two": None}
    features["two"] = features["one"] @ rng.normal(size=(5, 5))
    space = fit_setting(grams, None, "factors", "full", experiment).spaces["retrieval"]
    names = list(grams.table["adapter_id"])
    order = rng.permutation(len(names))
    shuffled = {name: vectors[order] for name, vectors in features.items()}
    table = similarity_table("factors/full", space, shuffled, [names[i] for i in order])
    train = (grams.table["role"] == "train").to_numpy()
    pairs = table.set_index(["first", "second", "n_components"])["similarity"]
    expected = embedding_similarity(features["one"][train], features["two"][train], [2, 5])
    np.testing.assert_allclose(pairs["one", "two"][[2, 5]], expected)
    ours = embedding_similarity(space.scores(space.fit_rows), features["one"][train], [3])
    np.testing.assert_allclose(pairs["factors/full", "one", 3], ours[0])
    # The first two adapters have no feature: they are no samples.
    assert train[:2].all()
    fewer = similarity_table("factors/full", space, {"one": features["one"][2:]}, names[2:])
    theirs = PCA(3, svd_solver="full").fit_transform(features["one"][train][2:])
    alone = brute_force(space.scores(space.fit_rows[2:]), theirs, 3)
    assert fewer.set_index("n_components").loc[3, "similarity"] == pytest.approx(alone)
    assert (fewer["n_adapters"] == 22).all()
    section = similarity_section("factors/full", table)
    assert (section["weights"], section["n_adapters"]) == ("factors/full", 24)
    assert [(pair["first"], pair["second"]) for pair in section["pairs"]] == [
        *(("factors/full", "one"), ("factors/full", "two"), ("one", "two"))
    ]
    assert section["pairs"][0]["n_components"] == [2, 3, 4, 5]
