import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.clustering import assign, cluster_scores, fit_centroids
from lorastyle.evaluation.labelled import LabelledVectors


def blobs(n_artists=5, each=6, spread=0.3, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_artists, 4))
    artists = np.repeat(np.arange(n_artists), each)
    vectors = centres[artists] + spread * rng.normal(size=(len(artists), 4)) + shift
    return LabelledVectors(vectors, artists.astype(str))


def test_held_out_adapters_are_assigned_as_scikit_learn_predicts():
    fit, held_out = blobs(), blobs(seed=1)
    reference = KMeans(5, n_init=1, random_state=3).fit(fit.vectors)
    labels, centroids = fit_centroids(fit.vectors, 5, seed=3)
    np.testing.assert_array_equal(labels, reference.labels_)
    np.testing.assert_array_equal(
        assign(held_out.vectors, centroids), reference.predict(held_out.vectors)
    )


def test_scores_are_means_and_deviations_over_seeds():
    fit, held_out = blobs(spread=0.8), blobs(spread=0.8, seed=1)
    scores = cluster_scores(fit, {"val": held_out}, n_seeds=4)
    expected = {"train": [], "val": []}
    for seed in range(4):
        means = KMeans(5, n_init=1, random_state=seed).fit(fit.vectors)
        for name, part, labels in (
            ("train", fit, means.labels_),
            ("val", held_out, means.predict(held_out.vectors)),
        ):
            pair = (
                adjusted_rand_score(part.artists, labels),
                normalized_mutual_info_score(part.artists, labels),
            )
            expected[name].append(pair)
    for name, pairs in expected.items():
        ari, nmi = np.transpose(pairs)
        assert scores[name].ari.mean == pytest.approx(ari.mean())
        assert scores[name].ari.std == pytest.approx(ari.std())
        assert scores[name].nmi.mean == pytest.approx(nmi.mean())
        assert scores[name].nmi.std == pytest.approx(nmi.std())


def test_a_held_out_set_that_drifted_as_a_whole_scores_low():
    fit = blobs(spread=0.05)
    scores = cluster_scores(
        fit, {"near": blobs(spread=0.05, seed=1), "far": blobs(spread=0.05, seed=1, shift=30)}, 3
    )
    assert scores["near"].ari.mean > 0.8
    assert scores["far"].ari.mean < 0.3


def test_the_same_seeds_give_the_same_scores():
    arguments = (blobs(spread=1.0), {"val": blobs(spread=1.0, seed=2)}, 3)
    assert cluster_scores(*arguments) == cluster_scores(*arguments)


def test_an_empty_held_out_set_has_no_score():
    nothing = LabelledVectors(np.empty((0, 4)), np.empty(0, str))
    assert set(cluster_scores(blobs(), {"val": nothing}, 1)) == {"train"}


def test_coinciding_adapters_lower_the_score_and_nothing_else():
    artists = np.array(["a", "a", "b", "b"])
    scores = cluster_scores(LabelledVectors(np.ones((4, 2)), artists), {}, 1)
    assert scores["train"].ari.mean == 0


def test_fewer_adapters_than_clusters_are_refused():
    with pytest.raises(TooFewAdaptersError, match="2 adapters cannot make 3 clusters"):
        fit_centroids(np.zeros((2, 2)), 3, 0)


def test_labels_must_fit_their_vectors():
    with pytest.raises(ValueError, match="do not label"):
        LabelledVectors(np.zeros((3, 2)), np.array(["a", "b"]))
