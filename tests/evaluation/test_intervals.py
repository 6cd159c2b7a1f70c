import numpy as np
import pytest
from scipy.stats import norm, t

from lorastyle.evaluation.agreement import (
    ARI_RANGE,
    NMI_RANGE,
    adjusted_rand_index,
    adjusted_rand_indices,
    contingencies,
    normalized_mutual_informations,
)
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
    low, high = jackknife_interval(0.5, left_out, within=(-9.0, 9.0))
    assert (high - low) / 2 == pytest.approx(2.093024 * expected)  # t of 19 degrees, from a table


def labellings(n):
    """All partitions of n items, each once: a new label is the next number."""
    if n == 0:
        return [()]
    return [
        (*rest, label) for rest in labellings(n - 1) for label in range(max(rest, default=-1) + 2)
    ]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_no_ari_and_no_nmi_is_outside_the_range_it_is_said_to_have(n):
    every = np.array(labellings(n))
    assert len(every) == {2: 2, 3: 5, 4: 15, 5: 52, 6: 203}[n]  # Bell's numbers
    tables = [contingencies(truth, every) for truth in every]
    for range_, scores in (
        (ARI_RANGE, adjusted_rand_indices),
        (NMI_RANGE, normalized_mutual_informations),
    ):
        found = np.concatenate([scores(table) for table in tables])
        assert found.min() >= range_[0] - 1e-12 and found.max() == pytest.approx(range_[1])
        if n == 4:
            assert found.min() == pytest.approx(range_[0])


def test_an_interval_over_three_artists_ends_where_the_scores_do():
    # Two adapters each of three artists. Each artist has a cluster, and of the third one adapter
    # is taken for the second's. Worked by hand: of 15 pairs 3 share the artist, 4 the cluster and
    # 2 both, so ARI = (2 - 12/15) / (7/2 - 12/15) = 4/9; without the first artist 0, else 4/7, 1.
    artists = np.array(["a", "a", "b", "b", "c", "c"])
    fit = LabelledVectors(np.array([[0.0], [1], [10], [11], [20], [21]]), artists)
    held_out = LabelledVectors(np.array([[0.0], [1], [10], [11], [12], [21]]), artists)
    left_out = np.array([0.0, 4 / 7, 1.0])
    ends = jackknife_interval(4 / 9, left_out, within=(-9.0, 9.0))
    reach = 4.302653 * np.sqrt(2 * left_out.var())  # t of 2 degrees, from a table
    assert ends == pytest.approx((4 / 9 - reach, 4 / 9 + reach))
    assert ends[0] < -0.5 and ends[1] > 1
    score = cluster_scores(fit, {"test": held_out}, 1)["test"]
    assert score.ari.mean == pytest.approx(4 / 9)
    assert score.intervals == {"ari": (-0.5, 1.0), "nmi": (0.0, 1.0)}


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
