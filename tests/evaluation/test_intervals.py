import numpy as np
import pytest
from scipy.stats import norm, t

from lorastyle.evaluation.agreement import adjusted_rand_index
from lorastyle.evaluation.clustering import cluster_scores
from lorastyle.evaluation.intervals import bootstrap_means, jackknife_error, jackknife_interval
from lorastyle.evaluation.labelled import LabelledVectors
from lorastyle.evaluation.retrieval import RetrievalScores, intervals

N_ARTISTS, N_QUERIES = 40, 5


def drawn_scores(rng, between):
    """Queries whose scores have mean 0.5: a part of each is their artist's."""
    artist = np.repeat(np.arange(N_ARTISTS), N_QUERIES)
    own = rng.normal(size=len(artist)) * np.sqrt(1 - between)
    shared = (rng.normal(size=N_ARTISTS) * np.sqrt(between))[artist]
    return 0.5 + 0.1 * (own + shared), artist


def coverage(between, by_artist):
    """How often an interval of 95 % holds the mean that the scores were drawn about."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        scores, artist = drawn_scores(rng, between)
        groups = artist if by_artist else np.arange(len(scores))
        low, high = bootstrap_means(scores[:, None], groups, n_resamples=500)[0]
        hits += low <= 0.5 <= high
    return hits / 300


def test_artists_drawn_again_cover_the_truth_where_queries_do_not():
    assert coverage(between=0.6, by_artist=True) == pytest.approx(0.95, abs=0.03)
    assert coverage(between=0.6, by_artist=False) < 0.8
    assert coverage(between=0.0, by_artist=False) == pytest.approx(0.95, abs=0.03)


def test_the_ends_are_quantiles_of_means_over_drawn_artists():
    rng = np.random.default_rng(0)
    sizes = [1, 2, 3, 1, 2, 3, 4]
    values, groups = rng.random(sum(sizes)), np.repeat(list("abcdefg"), sizes)
    drawn = np.random.default_rng(0).integers(7, size=(400, 7))
    by_name = [values[groups == name] for name in "abcdefg"]
    means = [np.concatenate([by_name[i] for i in one]).mean() for one in drawn]
    # Expanded as Student's interval of 7 is beside the normal one.
    tail = norm.sf(t.ppf(0.975, 6) * np.sqrt(7 / 6))
    found = bootstrap_means(values[:, None], groups, n_resamples=400, seed=0)[0]
    np.testing.assert_allclose(found, np.quantile(means, [tail, 1 - tail]))


def test_draws_in_small_blocks_are_the_same_draws(monkeypatch):
    values, groups = np.random.default_rng(0).random((30, 2)), np.repeat(np.arange(10), 3)
    whole = bootstrap_means(values, groups, n_resamples=501)
    monkeypatch.setattr("lorastyle.evaluation.intervals.MOST_COUNTS", 70)
    np.testing.assert_array_equal(bootstrap_means(values, groups, n_resamples=501), whole)


def test_equal_scores_have_an_interval_of_no_width_and_one_group_has_none():
    np.testing.assert_array_equal(bootstrap_means(np.full((4, 1), 0.3), np.arange(4)), [[0.3, 0.3]])
    with pytest.raises(ValueError, match="at least 2, there are 1"):
        bootstrap_means(np.ones((3, 1)), np.zeros(3))


def test_queries_that_cannot_be_answered_are_in_no_interval():
    values = np.array([1.0, 0.5, np.nan, 0.0])
    scores = RetrievalScores(values, values, values)
    artists = np.array(["a", "b", "stranger", "b"])
    answered = RetrievalScores(*[values[[0, 1, 3]]] * 3)
    assert intervals(scores, artists) == intervals(answered, artists[[0, 1, 3]])
    assert intervals(scores, np.array(["a"] * 4)) == {}


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).random(20)
    left_out = np.array([np.delete(values, i).mean() for i in range(20)])
    expected = values.std(ddof=1) / np.sqrt(20)
    assert jackknife_error(left_out) == pytest.approx(expected)
    low, high = jackknife_interval(0.5, left_out, highest=9.0)
    assert (high - low) / 2 == pytest.approx(2.093024 * expected)  # t of 19 degrees, from a table
    assert jackknife_interval(1.0, left_out)[1] == 1.0


def confused(rng, n_artists=40):
    """Artists of whom each has a habit of its own of being taken for another."""
    truth = np.repeat(np.arange(n_artists), 3)
    own = rng.beta(1.5, 1.5, n_artists)[truth]
    return truth, np.where(rng.random(len(truth)) < own, truth, rng.integers(n_artists, size=120))


def test_the_jackknife_over_artists_knows_how_far_an_ari_scatters():
    rng = np.random.default_rng(4)
    scores, errors = [], []
    for _ in range(150):
        truth, found = confused(rng)
        scores.append(adjusted_rand_index(truth, found))
        rest = [truth != artist for artist in range(40)]
        left_out = [adjusted_rand_index(truth[keep], found[keep]) for keep in rest]
        errors.append(jackknife_error(np.array(left_out)))
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.15)


def test_held_out_artists_have_an_interval_and_the_fit_ones_none():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 4))

    def part(n):
        artist = np.repeat(np.arange(5), n)
        return LabelledVectors(centres[artist] + rng.normal(size=(5 * n, 4)), artist.astype(str))

    two = LabelledVectors(centres[:2], np.array(["0", "1"]))
    found = cluster_scores(part(6), {"test": part(3), "two": two}, 4)
    assert set(found["test"].to_dict()["ci"]) == {"ari", "nmi"}
    for name in ("ari", "nmi"):
        low, high = found["test"].intervals[name]
        assert low < getattr(found["test"], name).mean < high <= 1
    assert "ci" not in found["train"].to_dict()
    assert "ci" not in found["two"].to_dict()
