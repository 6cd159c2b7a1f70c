"""Nothing held out is looked at before it is scored: no image, no vector, no label."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorastyle.config import parse_experiment
from lorastyle.corpus.planning import make_catalogue, make_specs
from lorastyle.corpus.stage import plan, read_plan
from lorastyle.corpus.works import Work
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import split_rows
from lorastyle.evaluation.protocol import ProtocolSettings, fit_setting
from lorastyle.evaluation.selection import choices_of, evaluate_setting, setting_curves
from lorastyle.evaluation.stage import evaluate
from lorastyle.runs import Run

SMALL = {"n_artists": 3, "works_per_artist": 16, "min_works": 10}
TEST = ("test", "query_test")
HELD_OUT = ("val", "query_val", *TEST)
counts = st.integers(0, 2)


@st.composite
def experiments(draw):
    """A protocol that a catalogue of 14 works an artist and more can serve."""
    train = draw(st.integers(2, 4))
    return parse_experiment(
        {
            "corpus": {"seed": draw(st.integers(0, 2**16))},
            "protocol": {
                "train": train,
                "calibration": draw(st.integers(0, train - 1)),
                **{role: draw(counts) for role in (*HELD_OUT, "query_calibration")},
                "images_per_adapter": draw(st.integers(2, 3)),
                "images_per_query": 2,
                "reserved_val": 4,
                "reserved_test": draw(st.integers(4, 5)),
                "max_overlap": 1.0,
            },
        }
    )


@st.composite
def catalogues(draw):
    """Works of some artists, some many and some few."""
    sizes = draw(st.lists(st.integers(14, 30), min_size=2, max_size=4))
    return [
        Work(f"{a}/{n}.png", f"{a}/{n}.png", f"artist{a}", "g", "c", f"{a}-{n}", 8, 8)
        for a, size in enumerate(sizes)
        for n in range(size)
    ]


@given(experiments(), catalogues())
@settings(max_examples=40, deadline=None)
def test_no_image_is_shared_between_fit_and_held_out(experiment, works):
    specs = make_specs(make_catalogue(works, experiment), experiment)
    table = pd.DataFrame([spec.to_dict() for spec in specs])
    images_of = dict(zip(table["row"], table["image_ids"], strict=True))

    def images(rows):
        return {image for row in rows for image in images_of[row]}

    held_out = {role: images(table.loc[table["role"] == role, "row"]) for role in HELD_OUT}
    for task in ("clustering", "retrieval"):
        fit, calibration = split_rows(table, task, experiment.protocol.calibration)
        assert len(fit)
        seen = images([*fit, *calibration])
        assert all(seen.isdisjoint(each) for each in held_out.values())
        assert not set(fit) & set(calibration)
    for val, test in (("val", "test"), ("query_val", "query_test"), ("val", "query_test")):
        assert held_out[val].isdisjoint(held_out[test])


def without_test(grams, seed):
    """The same adapters, but those of test are others, and are said to be others'."""
    rng = np.random.default_rng(seed)
    test = np.flatnonzero(grams.table["role"].isin(TEST))
    table = grams.table.copy()
    table.loc[test, "artist"] = rng.permutation(table["artist"].to_numpy()[test])
    sums = {}
    for representation, by_group in grams.sums.items():
        sums[representation] = {}
        for name, gram in by_group.items():
            other = gram.copy()
            other[test] = rng.normal(size=(len(test), len(gram)))
            other[:, test] = other[test].T
            sums[representation][name] = other
    return GramSet(table, sums)


@pytest.mark.parametrize("rule", ["one_standard_error", "best"])
def test_nothing_that_is_chosen_depends_on_test_adapters(new_grams, new_experiment, rule):
    grams = new_grams(noise=1.0)
    forms = ("full", "simple", "none")
    experiment = new_experiment(sweep={"rule": rule, "calibration_forms": list(forms)})
    protocol = ProtocolSettings.of(experiment)
    chosen = []
    for one in (grams, without_test(grams, 1), without_test(grams, 2)):
        setting = fit_setting(one, None, "factors", "full", experiment)
        choices = choices_of(setting_curves(setting, forms, protocol), experiment.sweep)
        spaces = [
            (space.calibration.scale.tolist(), space.scores(space.rows("val")).tolist())
            for space in setting.spaces.values()
        ]
        curves = evaluate_setting(one, None, "delta", "feed_forward", experiment)["curves"]
        chosen.append((choices, spaces, curves))
    assert len(chosen[0][0]) == 2
    assert chosen[0] == chosen[1] == chosen[2]


def test_the_whole_stage_chooses_alike_whatever_the_test_labels(tmp_path, new_experiment):
    experiment = new_experiment(
        corpus=SMALL,
        embedding={"max_components": 6, "representations": ["factors"]},
        evaluation={"features": ["pixel_mean"]},
    )
    run = Run.create(tmp_path / "run", experiment)
    plan(run, image_size=64)
    table = pd.DataFrame([spec.to_dict() for spec in read_plan(run)])
    table = table[["row", "adapter_id", "artist", "genre", "role", "index"]]
    rng = np.random.default_rng(0)
    artist = table["artist"].factorize()[0]
    vectors = rng.normal(size=(3, 30))[artist] + 1.5 * rng.normal(size=(len(table), 30))
    parts = {"self_attention": 10, "cross_attention": 10, "feed_forward": 10}
    columns = np.split(vectors, np.cumsum(list(parts.values()))[:-1], axis=1)
    sums = {name: part @ part.T for name, part in zip(parts, columns, strict=True)}
    found = []
    for one in (table, table.assign(artist=_dealt(table))):
        GramSet(one, {"factors": sums}).save(run.embedding_path)
        run.finish("embed", {}, {}, 0.0)
        evaluate(run, force=True)
        found.append(json.loads(run.metrics_path.read_text()))
    ours, dealt = found
    assert ours["similarity"] == dealt["similarity"]
    for task in ("clustering", "retrieval"):
        for key, entry in ours[task].items():
            other = dealt[task][key]
            same = entry.keys() - {"test", "uncalibrated", "calibration_diagnostics"}
            assert {"n_components", "calibration", "val"} <= same
            assert {name: entry[name] for name in same} == {name: other[name] for name in same}
            assert entry["test"] != other["test"]


def _dealt(table):
    """Artists, those of test adapters dealt among them anew."""
    artists, test = table["artist"].copy(), table["role"].isin(TEST)
    artists[test] = np.random.default_rng(6).permutation(artists[test].to_numpy())
    return artists
