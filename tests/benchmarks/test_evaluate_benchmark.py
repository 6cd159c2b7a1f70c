"""The benchmark of evaluation at a size of seconds, in this process."""

import json

import pytest

from benchmarks.evaluate import SMALL, embedded_run, main, pretend_sweep
from benchmarks.sweep.planted import planted_grams
from lorastyle.config import parse_experiment
from lorastyle.evaluation.swept import finished_sweep
from lorastyle.records import Role


@pytest.fixture(scope="module")
def experiment():
    return parse_experiment(SMALL)


def test_the_whole_runs(capsys):
    main(["--small", "--json"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["settings"]["sub_networks"] == [
        *("factors/full", "factors/feed_forward"),
        *("factors/self_attention", "factors/cross_attention"),
    ]
    assert all(seconds >= 0 for seconds in document["parts_cpu_s"].values())
    assert document["full"]["test"][1]["n_queries"] == 8
    assert "| after a sweep | " in printed.err


def test_every_role_is_planted(experiment):
    grams = planted_grams(experiment, 0, tuple(Role))
    counts = grams.table["role"].value_counts()
    assert {role: int(counts[role.value]) for role in Role} == {
        role: 4 * experiment.protocol.count(role) for role in Role
    }


def test_the_sweep_it_pretends_is_one_that_evaluation_takes(tmp_path, experiment):
    run = embedded_run(tmp_path, planted_grams(experiment, 0, tuple(Role)), experiment)
    pretend_sweep(run)
    sweep = finished_sweep(run)
    assert sweep is not None
    assert sweep.pick("clustering").setting.key.startswith("factors/")
