"""Runs beside a run: what differs in them, where they lie, and how they are measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorastyle.ablation.factors import FACTORS
from lorastyle.ablation.request import Request
from lorastyle.ablation.sisters import (
    ablate_sisters,
    refuse_other_images,
    sister_experiment,
    sister_location,
    wanted_values,
)
from lorastyle.distributed.ablating import ablate
from lorastyle.distributed.rank_runs import experiment_at_rank
from lorastyle.embedding.gram import GramSet
from lorastyle.errors import ConfigError, StageError
from lorastyle.evaluation.selection import evaluate_setting
from lorastyle.records import UNLABELLED
from lorastyle.runs import Run
from lorastyle.runs.differences import differences
from tests.ablation.conftest import make_database
from tests.evaluation.conftest import make_experiment

INDEPENDENT = "training.initialisation: 'shared' there, 'independent' here"


@pytest.mark.parametrize(
    ("factor", "value", "difference"),
    [
        ("initialisation", "independent", INDEPENDENT),
        ("images", "2", "protocol.images_per_adapter: 3 there, 2 here"),
    ],
)
def test_a_sister_differs_in_one_setting(factor, value, difference):
    experiment = make_experiment(sweep={"ranks": [4, 16]}, compute={"n_actors": 2})
    sister = sister_experiment(experiment, factor, value)
    assert differences(experiment, sister) == [difference]
    assert sister.compute == experiment.compute
    assert sister.name == f"run-{factor}-{value}"


def test_a_value_that_does_not_go_with_the_others_is_refused():
    with pytest.raises(ConfigError, match=r"images 9: .*exceeds reserved_val=4: reserve more"):
        sister_experiment(make_experiment(), "images", "9")


def test_values_are_those_named_or_some_at_and_below_the_run_s_own(database, tmp_path):
    run = database.saved(tmp_path / "run", make_experiment(training={"rank": 8}))

    def values(factor, named=None):
        return wanted_values(run, Request(FACTORS[factor], named))

    assert values("rank") == ("2", "4", "8")
    assert values("rank", ("16", "2")) == ("2", "16")
    assert values("images") == ("1", "3")
    assert values("initialisation") == ("shared", "independent")
    swept = replace(run, experiment=make_experiment(training={"rank": 8}, sweep={"ranks": [32]}))
    assert wanted_values(swept, Request(FACTORS["rank"])) == ("8", "32")


def test_they_lie_below_the_run_and_ranks_where_the_sweep_has_them(database, tmp_path):
    run = database.saved(tmp_path / "run")
    assert sister_location(run, "images", "3") == run.directory
    assert sister_location(run, "images", "2") == run.directory / "ablations/images/2"
    assert sister_location(run, "rank", "4") == run.directory / "ranks/4"
    away = replace(run, url="s3://team/run")
    assert sister_location(away, "images", "2") == "s3://team/run/ablations/images/2"


def test_other_images_are_refused(database, tmp_path):
    runs = []
    for name, catalogue in (("a", "1f"), ("b", "1f"), ("c", "2e"), ("d", None)):
        run = Run.create(tmp_path / name, database.experiment)
        run.finish("plan", {}, {"catalogue": catalogue} if catalogue else {}, 0.0)
        runs.append(run)
    refuse_other_images(runs[0], runs[1])
    for other in runs[2:]:
        with pytest.raises(StageError, match="bring the images back"):
            refuse_other_images(runs[0], other)
    with pytest.raises(StageError, match="bring the images back"):
        refuse_other_images(runs[3], runs[3])


def with_truncated(database):
    """Updates, and the same cut to rank 2: of other vectors."""
    cut = make_database(seed=8).grams.sums["factors"]
    sums = {"delta": database.grams.sums["factors"], "delta@2": cut}
    return GramSet(database.table, sums), GramSet(database.table, {"delta": cut})


def test_each_rank_is_scored_as_its_adapters_alone(database, tmp_path):
    experiment = make_experiment(
        training={"rank": 4},
        embedding={"max_components": 5, "representations": ["delta"]},
        evaluation={"features": [], "n_kmeans_seeds": 2},
    )
    grams, cut = with_truncated(database)
    run = replace(database, grams=grams).saved(tmp_path / "run", experiment)
    other = make_database(seed=9).grams.sums["factors"]
    sister = replace(database, grams=GramSet(database.table, {"delta": other}))
    sister.saved(tmp_path / "run" / "ranks" / "1", experiment_at_rank(experiment, 1))
    request = Request(FACTORS["rank"], ("1", "2", "4"))
    found = ablate_sisters(run, request, ("1", "4"))
    assert [(one.value, one.how) for one in found.levels] == [
        *(("1", "trained"), ("4", "trained"), ("2", "truncated"))
    ]
    sets = (sister.grams, GramSet(database.table, {"delta": grams.sums["delta"]}), cut)
    for one, alone in zip(found.levels, sets, strict=True):
        curve = evaluate_setting(alone, None, "delta", "full", experiment)["curves"]["full"]
        (entry,) = one.entries["retrieval"]
        point = curve[entry["n_components"] - 1]
        assert entry["val"]["map"] == pytest.approx(point["map"], abs=1e-12)
    assert len(found.notes) == 1 and "SVD" in found.notes[0]


def test_adapters_from_elsewhere_cannot_be_trained_otherwise_but_the_rest_is_measured(
    database, tmp_path
):
    table = database.table[database.table["role"] == "train"]
    here = table["row"].to_numpy()
    table = table.reset_index(drop=True)
    table.loc[::6, "artist"] = UNLABELLED
    sums = {name: gram[here][:, here] for name, gram in database.grams.sums["factors"].items()}
    grams = GramSet(table.assign(row=range(len(table))), {"delta": sums})
    experiment = make_experiment(
        corpus={"source": "adapters", "n_artists": None},
        embedding={"max_components": 4, "representations": ["delta"]},
    )
    run = replace(database, grams=grams).saved(tmp_path / "run", experiment)
    with pytest.raises(ConfigError, match="images is of adapters that are trained here"):
        ablate(run, Request(FACTORS["images"]))
    for factor in ("calibration", "gallery-size", "components"):
        found = ablate(run, Request(FACTORS[factor], n_draws=1))
        for one in found.levels:
            assert "clustering" in one.absent or 0 < one.numbers()["nmi/train"].value <= 1
            assert "ari/test" not in one.numbers()


@pytest.mark.parametrize("factor", ["initialisation", "images", "rank"])
def test_before_embedding_nothing_is_trained(database, tmp_path, factor):
    run = Run.create(tmp_path / "run", database.experiment)
    with pytest.raises(StageError, match="lorastyle embed"):
        ablate(run, Request(FACTORS[factor]))
    assert not (run.directory / "ablations").exists()
