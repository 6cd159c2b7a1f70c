"""Factors without training, against scikit-learn on raw vectors and the ordinary evaluation."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, average_precision_score

from lorastyle.ablation.embedded import Embedded, ablate_embedded
from lorastyle.ablation.factors import FACTORS
from lorastyle.ablation.galleries import gallery_table
from lorastyle.ablation.measuring import RememberingGrams
from lorastyle.ablation.request import Request
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import split_rows
from lorastyle.errors import ConfigError, StageError
from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.stage import evaluate
from lorastyle.evaluation.swept import FinishedSweep
from lorastyle.runs import Run
from tests.evaluation.conftest import make_experiment

QUICK = ("components", "sub-networks", "calibration", "gallery-size")


def ablated(database, factor, values=None, experiment=None, **more):
    request = Request(FACTORS[factor], values, **more)
    return ablate_embedded(database.embedded(experiment), request)


def level(ablation, value):
    (found,) = (one for one in ablation.levels if one.value == value)
    return found


@pytest.fixture(scope="module")
def metrics(database, tmp_path_factory):
    """What `lorastyle evaluate` writes of the whole database."""
    run = database.saved(tmp_path_factory.mktemp("runs") / "run")
    evaluate(run)
    return json.loads(run.metrics_path.read_text())


def ours(entry):
    """Without what only an ablation adds."""
    return {name: value for name, value in entry.items() if name not in ("drift_of_two", "floor")}


def test_all_adapters_of_an_artist_are_the_ordinary_evaluation_exactly(database, metrics):
    found = ablated(database, "gallery-size", ("4", "6"))
    (clustering,) = level(found, "4").entries["clustering"]
    (retrieval,) = level(found, "6").entries["retrieval"]
    assert ours(clustering) == metrics["clustering"]["factors/full"]
    assert ours(retrieval) == metrics["retrieval"]["factors/full"]
    assert level(found, "6").absent == {"clustering": "an artist has at most 4 to fit on"}


def test_the_chosen_count_a_sub_network_and_a_form_are_the_ordinary_evaluation_too(
    database, metrics
):
    by_count = ablated(database, "components")
    by_form = ablated(database, "calibration", ("full",))
    by_part = ablated(database, "sub-networks", ("full", "feed_forward"))
    for task in ("clustering", "retrieval"):
        (chosen,) = (one for one in by_count.levels if task in one.chosen_for)
        expected = metrics[task]["factors/full"]
        assert chosen.number == expected["n_components"]
        assert ours(chosen.entries[task][0]) == expected
        (form,) = level(by_form, "full").entries[task]
        assert ours(form) == expected
        for one in by_part.levels:
            assert ours(one.entries[task][0]) == metrics[task][f"factors/{one.value}"]


def scores_by_hand(database, task, m, draw):
    """PCA by scikit-learn on the raw vectors of a drawn database, calibrated by SciPy's line.

    Returns fit and test scores, and their artists.
    """
    n_calibration = database.experiment.protocol.calibration
    table = gallery_table(database.table, task, n_calibration, m, draw)
    fit_rows, calibration_rows = split_rows(table, task, n_calibration)
    held_out = table.loc[table["role"] == {"clustering": "test"}.get(task, "query_test"), "row"]
    pca = PCA(database.experiment.embedding.max_components, svd_solver="full")
    pca.fit(database.vectors[fit_rows])
    artists = database.table["artist"].to_numpy().astype(str)
    fit, calibration, test = (
        pca.transform(database.vectors[np.asarray(rows)])
        for rows in (fit_rows, calibration_rows, held_out)
    )
    means = [
        pd.DataFrame(scores).groupby(artists[np.asarray(rows)]).mean()
        for scores, rows in ((calibration, calibration_rows), (fit, fit_rows))
    ]
    for k in range(test.shape[1]):
        line = linregress(means[0][k], means[1][k])
        test[:, k] = test[:, k] * line.slope + line.intercept
    return fit, artists[fit_rows], test, artists[held_out]


def test_a_drawn_database_scores_as_its_vectors_alone_do(database):
    m, n_draws = 3, 2
    found = level(ablated(database, "gallery-size", (str(m),), n_draws=n_draws), str(m))
    aris, precisions = [], []
    for draw in range(n_draws):
        count = found.entries["retrieval"][draw]["n_components"]
        fit, artists, test, theirs = scores_by_hand(database, "retrieval", m, draw)
        distances = np.linalg.norm(test[:, None, :count] - fit[None, :, :count], axis=2)
        precisions.append(
            np.mean(
                [
                    average_precision_score(artists == artist, -row)
                    for artist, row in zip(theirs, distances, strict=True)
                ]
            )
        )
        count = found.entries["clustering"][draw]["n_components"]
        fit, artists, test, theirs = scores_by_hand(database, "clustering", m, draw)
        for seed in range(database.experiment.evaluation.n_kmeans_seeds):
            # Signs of components turn nothing that k-means sees.
            k_means = KMeans(4, n_init=1, random_state=seed).fit(fit[:, :count])
            aris.append(adjusted_rand_score(theirs, k_means.predict(test[:, :count])))
    numbers = found.numbers()
    assert numbers["map/test"].value == pytest.approx(np.mean(precisions))
    assert numbers["map/test"].draws_std == pytest.approx(np.std(precisions, ddof=1))
    assert numbers["ari/test"].value == pytest.approx(np.mean(aris))


def test_a_part_scores_as_a_gram_set_of_those_rows_alone(database):
    rows = gallery_table(database.table, "retrieval", 2, 2, draw=1)["row"].to_numpy()
    part = database.vectors[rows]
    table = database.table[database.table["row"].isin(rows)].reset_index(drop=True)
    # Another origin: PCA does not mind.
    alone = GramSet(table, {"factors": {"full": (part - 5) @ (part - 5).T}})
    # Recall looks at as many as an artist has, as if the protocol had asked for no more.
    experiment = database.experiment.model_copy(
        update={
            "evaluation": database.experiment.evaluation.model_copy(update={"top_k": 2}),
        }
    )
    expected = ablate_embedded(
        Embedded(RememberingGrams.of(alone), experiment),
        Request(FACTORS["calibration"], ("full",)),
    )
    found = level(ablated(database, "gallery-size", ("2",), n_draws=2), "2")
    entry, (other,) = found.entries["retrieval"][1], expected.levels[0].entries["retrieval"]
    assert entry["n_components"] == other["n_components"]
    for score in ("map", "map_at_k", "recall_at_k"):
        assert entry["test"][score] == pytest.approx(other["test"][score], abs=1e-12)


def dealt_anew(database, seed=5):
    """The same adapters, those of test said to be of others."""
    table = database.table.copy()
    test = table["role"].isin(["test", "query_test"])
    table.loc[test, "artist"] = np.random.default_rng(seed).permutation(table.loc[test, "artist"])
    return type(database)(
        GramSet(table, database.grams.sums), database.vectors, database.experiment
    )


@pytest.mark.parametrize("factor", QUICK)
def test_nothing_that_is_chosen_depends_on_test_labels(database, factor):
    experiment = make_experiment(
        embedding={"max_components": 5, "representations": ["factors"]},
        evaluation={"features": [], "n_kmeans_seeds": 2},
        sweep={"calibration_forms": ["full", "simple", "none"]},
    )
    values = {
        "gallery-size": ("2", "4"),
        "components": ("1", "4"),
        "sub-networks": ("full", "feed_forward"),
    }.get(factor)
    first = ablated(database, factor, values, experiment, n_draws=1)
    second = ablated(dealt_anew(database), factor, values, experiment, n_draws=1)
    assert [one.value for one in first.levels] == [one.value for one in second.levels]
    differs = False
    for one, other in zip(first.levels, second.levels, strict=True):
        assert one.chosen_for == other.chosen_for
        for task in one.entries:
            for ours, theirs in zip(one.entries[task], other.entries[task], strict=True):
                for name in ("n_components", "calibration", "val"):
                    assert ours[name] == theirs[name]
                differs |= ours["test"] != theirs["test"]
    assert differs


def test_without_calibration_the_drift_is_the_same_after_as_before(database):
    found = ablated(database, "calibration")
    assert [one.value for one in found.levels] == ["full", "simple", "none"]
    none, full = (level(found, form).numbers() for form in ("none", "full"))
    for task in ("clustering", "retrieval"):
        key = f"drift/{task}/val"
        assert none[f"{key}/after"].value == none[f"{key}/before"].value
        assert full[f"{key}/after"].value != full[f"{key}/before"].value


def test_one_adapter_an_artist_has_scores_and_no_drift(database):
    numbers = level(ablated(database, "gallery-size", ("1",)), "1").numbers()
    assert 0 < numbers["map/test"].value <= 1
    # Of four adapters one is the right one, at each rank as likely.
    assert numbers["floor/map/test"].value == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert not any(key.startswith("drift") for key in numbers)


def test_curves_of_a_finished_sweep_are_taken_and_those_of_other_settings_are_not(database):
    lines = [dict.fromkeys(CURVE_COLUMNS, 0.0) | {"n_components": k} for k in range(1, 8)]
    results = pd.DataFrame(lines).assign(key="factors/feed_forward", calibration="full")
    results.loc[2, ["ari_mean", "map"]] = 1.0
    here = database.embedded()
    usual = ablate_embedded(here, Request(FACTORS["sub-networks"], ("full", "feed_forward")))
    swept = replace(here, swept=FinishedSweep(results, {}, database.experiment))
    found = ablate_embedded(swept, Request(FACTORS["sub-networks"], ("full", "feed_forward")))
    assert found.levels[0].to_dict() == usual.levels[0].to_dict()
    for entries in found.levels[1].entries.values():
        assert entries[0]["n_components"] == 3


@pytest.mark.parametrize(
    ("factor", "values", "error", "said"),
    [
        ("components", ("3", "8"), ConfigError, "8 components, and the largest style space has 7"),
        ("gallery-size", ("7",), ConfigError, "7 adapters an artist, and the most to fit on is 6"),
        ("sub-networks", ("up",), StageError, "names none of the 3 modules"),
    ],
)
def test_values_that_the_adapters_do_not_have_are_refused(database, factor, values, error, said):
    with pytest.raises(error, match=said):
        ablated(database, factor, values)


def test_a_representation_that_is_not_embedded_is_refused(database):
    with pytest.raises(StageError, match="delta is not embedded, only factors"):
        ablated(database, "components", representations=("delta",))


def test_a_run_that_is_not_embedded_is_refused(database, tmp_path):
    run = Run.create(tmp_path / "run", database.experiment)
    with pytest.raises(StageError, match="lorastyle embed"):
        Embedded.of(run)
