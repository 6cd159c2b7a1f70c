"""The population of which coverage is measured, and that the benchmark runs."""

import json

import numpy as np
import pytest

from benchmarks.interval_coverage import MEAN, confusions, main, queries


def test_scores_are_drawn_about_the_truth_and_artists_differ():
    scores = queries(np.random.default_rng(0), 4_000).reshape(4_000, -1)
    assert scores.mean() == pytest.approx(MEAN, abs=0.01)
    # Of independent queries the means of five would vary a fifth as much.
    assert scores.mean(axis=1).var() > 0.5 * scores.var()


def test_every_artist_has_its_adapters():
    table = confusions(np.random.default_rng(0), 9)
    np.testing.assert_array_equal(table.sum(axis=2), [[3] * 9])


def test_it_runs(capsys):
    main(["--json", "--draws", "20"])
    printed = capsys.readouterr()
    rows = json.loads(printed.out)["rows"]
    assert [row["artists"] for row in rows] == [12, 20, 63]
    assert all(0 <= row["map_artists"] <= 1 for row in rows)
    assert "| artists |" in printed.err
