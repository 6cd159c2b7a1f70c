import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from lorastyle.evaluation.agreement import (
    adjusted_rand_index,
    adjusted_rand_indices,
    contingencies,
    encode,
    normalized_mutual_information,
    normalized_mutual_informations,
    without_each_truth,
)

pairs_of_labels = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.integers(0, 6), min_size=n, max_size=n).map(np.array) for _ in range(2))
    )
)


@given(pairs_of_labels)
def test_ari_equals_scikit_learns(labels):
    truth, found = labels
    assert adjusted_rand_index(truth, found) == pytest.approx(
        adjusted_rand_score(truth, found), abs=1e-12
    )


@given(pairs_of_labels)
def test_nmi_equals_scikit_learns(labels):
    truth, found = labels
    assert normalized_mutual_information(truth, found) == pytest.approx(
        normalized_mutual_info_score(truth, found), abs=1e-12
    )


@given(pairs_of_labels, st.permutations(range(7)))
def test_names_of_clusters_do_not_matter(labels, renamed):
    truth, found = labels
    other = np.array(renamed)[found]
    assert adjusted_rand_index(truth, found) == adjusted_rand_index(truth, other)


def test_ari_worked_by_hand():
    # Pairs together: 1 in both, 2 of 6 in each; expected 2 * 2 / 6 = 2/3, largest 2.
    truth, found = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    assert adjusted_rand_index(truth, found) == pytest.approx((1 - 1 / 3) / (1.5 - 1 / 3))


def test_nmi_worked_by_hand():
    truth, found = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    # H(truth) = 1 bit, H(found) = 1.5 bits, found determines truth: I = 1 bit.
    assert normalized_mutual_information(truth, found) == pytest.approx(1 / 1.25)


def test_contingency_tables_count_pairs():
    tables = contingencies(np.array([0, 0, 1]), np.array([[1, 1, 0], [0, 1, 1]]))
    np.testing.assert_array_equal(tables, [[[0, 2], [1, 0]], [[1, 1], [0, 1]]])


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 8), st.integers(0, 1000))
def test_many_labellings_at_once_score_as_each_alone_by_scikit_learn(n, m, n_labels, seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, n_labels, n), rng.integers(0, n_labels, (m, n))
    tables = contingencies(truth, found)
    np.testing.assert_allclose(
        adjusted_rand_indices(tables),
        [adjusted_rand_score(truth, each) for each in found],
        rtol=0,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        normalized_mutual_informations(tables),
        [normalized_mutual_info_score(truth, each) for each in found],
        rtol=0,
        atol=1e-12,
    )


def test_labels_of_any_kind_become_integers():
    np.testing.assert_array_equal(encode(np.array(["b", "a", "b"])), [1, 0, 1])


@pytest.mark.parametrize(
    ("truth", "found"), [(np.array([0, 1]), np.array([0])), (np.array([], int), np.array([], int))]
)
def test_labellings_that_do_not_fit_are_refused(truth, found):
    with pytest.raises(ValueError, match="cannot be compared"):
        contingencies(truth, found[None])


@given(pairs_of_labels)
@settings(max_examples=30, deadline=None)
def test_without_a_label_both_scores_are_scikit_learns_of_the_rest(labels):
    truth, found = encode(labels[0]), np.stack([labels[1], labels[1][::-1]])
    tables = contingencies(truth, found)
    if tables.shape[1] < 3:
        with pytest.raises(ValueError, match="too few to leave one out"):
            without_each_truth(tables)
        return
    ari, nmi = without_each_truth(tables)
    for label in range(tables.shape[1]):
        rest = truth != label
        for row, each in enumerate(found):
            pair = truth[rest], each[rest]
            assert ari[row, label] == pytest.approx(adjusted_rand_score(*pair), abs=1e-12)
            assert nmi[row, label] == pytest.approx(normalized_mutual_info_score(*pair), abs=1e-12)
