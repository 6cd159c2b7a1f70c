import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    average_precision_score,
    normalized_mutual_info_score,
)

from lorastyle.evaluation.clustering import cluster_scores
from lorastyle.evaluation.curves import (
    CURVE_COLUMNS,
    clustering_curves,
    merged,
    retrieval_curves,
    standard_error,
)
from lorastyle.evaluation.labelled import LabelledVectors
from lorastyle.evaluation.retrieval import rank, score_ranking

N_COMPONENTS, N_SEEDS, TOP_K = 6, 4, 5


def planted(each, seed, scale=1.0, n_artists=6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(n_artists, N_COMPONENTS))
    artists = np.repeat(np.arange(n_artists), each)
    vectors = scale * (centres[artists] + 0.6 * rng.normal(size=(len(artists), N_COMPONENTS)))
    return LabelledVectors(vectors, artists.astype(str))


@pytest.fixture
def fit():
    return planted(8, seed=0)


@pytest.fixture
def held_out():
    return {"full": planted(3, seed=1), "none": planted(3, seed=1, scale=0.4)}


def test_clustering_curves_are_the_cluster_scores_of_each_count(fit, held_out):
    curves = clustering_curves(fit, held_out, N_SEEDS)
    for count in range(1, N_COMPONENTS + 1):
        sets = {name: part.first(count) for name, part in held_out.items()}
        scores = cluster_scores(fit.first(count), sets, N_SEEDS)
        for name, curve in curves.items():
            point = curve.set_index("n_components").loc[count]
            assert point["ari_mean"] == scores[name].ari.mean
            assert point["ari_std"] == scores[name].ari.std
            assert point["nmi_mean"] == scores[name].nmi.mean
            assert point["nmi_std"] == scores[name].nmi.std
            assert point["train_ari_mean"] == scores["train"].ari.mean
            assert point["train_ari_std"] == scores["train"].ari.std


def test_clustering_curves_equal_scikit_learns(fit, held_out):
    curves = clustering_curves(fit, held_out, N_SEEDS)
    for count in range(1, N_COMPONENTS + 1):
        means = [
            KMeans(6, n_init=1, random_state=seed).fit(fit.vectors[:, :count])
            for seed in range(N_SEEDS)
        ]
        train = [adjusted_rand_score(fit.artists, mean.labels_) for mean in means]
        for name, part in held_out.items():
            labels = [mean.predict(part.vectors[:, :count]) for mean in means]
            ari = np.array([adjusted_rand_score(part.artists, each) for each in labels])
            nmi = np.array([normalized_mutual_info_score(part.artists, each) for each in labels])
            point = curves[name].set_index("n_components").loc[count]
            expected = [ari.mean(), ari.std(), ari.std(ddof=1) / 2]
            expected += [nmi.mean(), nmi.std(), nmi.std(ddof=1) / 2]
            expected += [np.mean(train), np.std(train)]
            np.testing.assert_allclose(point, expected, rtol=0, atol=1e-12)


def test_retrieval_curves_are_the_ranking_scores_of_each_count(fit, held_out):
    curves = retrieval_curves(fit, held_out, TOP_K)
    for name, part in held_out.items():
        for count in range(1, N_COMPONENTS + 1):
            squares = sum(
                np.subtract.outer(part.vectors[:, j], fit.vectors[:, j]) ** 2 for j in range(count)
            )
            scores = score_ranking(rank(squares, part.artists, fit.artists), TOP_K)
            point = curves[name].set_index("n_components").loc[count]
            for column, values in scores.to_dict().items():
                if column != "n_queries":
                    assert point[column] == values
            deviation = scores.average_precision.std(ddof=1)
            assert point["map_se"] == pytest.approx(deviation / np.sqrt(len(part)))


def test_retrieval_curves_equal_scikit_learns(fit, held_out):
    curves = retrieval_curves(fit, held_out, TOP_K)
    for name, part in held_out.items():
        for count in range(1, N_COMPONENTS + 1):
            precisions = []
            for query, artist in zip(part.vectors, part.artists, strict=True):
                distance = np.linalg.norm(fit.vectors[:, :count] - query[:count], axis=1)
                precisions.append(average_precision_score(fit.artists == artist, -distance))
            point = curves[name].set_index("n_components").loc[count]
            assert point["map"] == pytest.approx(np.mean(precisions), abs=1e-12)


def test_only_answerable_queries_count(fit):
    known = planted(2, seed=3)
    strangers = np.where(np.arange(len(known)) < 4, "stranger", known.artists)
    mixed = LabelledVectors(known.vectors, strangers)
    rest = LabelledVectors(known.vectors[4:], known.artists[4:])
    curves = retrieval_curves(fit, {"mixed": mixed, "rest": rest}, TOP_K)
    pd.testing.assert_frame_equal(curves["mixed"], curves["rest"])


def test_sets_that_answer_nothing_have_empty_frames(fit):
    nothing = LabelledVectors(np.empty((0, N_COMPONENTS)), np.empty(0, str))
    strangers = LabelledVectors(np.zeros((2, N_COMPONENTS)), np.array(["x", "y"]))
    assert clustering_curves(fit, {"full": nothing}, 1)["full"].empty
    curves = retrieval_curves(fit, {"full": nothing, "none": strangers}, TOP_K)
    assert curves["full"].empty
    assert curves["none"].empty


def test_a_single_value_has_no_standard_error(fit, held_out):
    assert standard_error(np.array([0.3])) == 0
    curve = clustering_curves(fit, held_out, 1)["full"]
    assert (curve["ari_se"] == 0).all()


def test_merged_keeps_every_count_of_either_task(fit, held_out):
    clustering = clustering_curves(fit, held_out, 2)["full"]
    retrieval = retrieval_curves(fit.first(3), {"full": held_out["full"].first(3)}, TOP_K)["full"]
    both = merged(clustering, retrieval)
    assert tuple(both.columns) == CURVE_COLUMNS
    assert both["n_components"].dtype == np.int64
    assert list(both["n_components"]) == [1, 2, 3, 4, 5, 6]
    assert both["map"].notna().sum() == 3
    pd.testing.assert_frame_equal(both[list(clustering.columns)], clustering)


@pytest.mark.parametrize("empty", [None, "frame"])
def test_an_absent_task_leaves_its_cells_empty(fit, held_out, empty):
    nothing = LabelledVectors(np.empty((0, N_COMPONENTS)), np.empty(0, str))
    none = None if empty is None else retrieval_curves(fit, {"full": nothing}, TOP_K)["full"]
    both = merged(clustering_curves(fit, held_out, 2)["full"], none)
    assert len(both) == N_COMPONENTS
    assert both["map"].isna().all()
    assert both["n_components"].dtype == np.int64
    assert merged(None, none).empty
    assert (merged(None, none).dtypes[1:] == np.float64).all()
