"""What the page says of generated images, and the bars that show it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_hex

from lorastyle.report.canvas import styled
from lorastyle.report.palette import ACCENT
from lorastyle.report.scenario_figure import scenario_bars
from lorastyle.report.scenario_scores import scenario_methods
from lorastyle.report.scenario_section import scenarios
from lorastyle.report.source import ReportSource, read_source
from lorastyle.runs import Run

SCENARIOS = ["orig_orig", "orig_gen", "gen_orig", "gen_gen"]


@pytest.fixture
def run(make_evaluated_run: Callable[..., Run], tmp_path) -> Run:
    return make_evaluated_run(tmp_path / "run", 4, 2)


def source_with(run: Run, **features: dict) -> ReportSource:
    metrics = json.loads(run.metrics_path.read_text())
    metrics["features"] = {name: {"retrieval": entry} for name, entry in features.items()}
    metrics["floor"] = {"retrieval": {"test": {"map": 0.104, "recall_at_k": 0.077}}}
    metrics["protocol"]["interval"] = {"level": 0.9}
    run.metrics_path.write_text(json.dumps(metrics))
    return read_source(run, None)


def with_features(run: Run, **features: dict) -> BeautifulSoup:
    return BeautifulSoup(scenarios(source_with(run, **features)) or "", "html.parser")


def scored(value: float, *ends: float) -> dict:
    recalled = {"recall_at_k": value / 2}
    intervals = {"map": list(ends), "recall_at_k": [end / 2 for end in ends]}
    return {"test": {"map": value, **recalled, "ci": intervals}}


def test_without_generated_images_the_page_says_what_would_make_them(run: Run) -> None:
    page = with_features(run, pixels={"orig_orig": scored(0.5, 0.4, 0.6)})
    assert page.code.get_text() == "evaluation.generated=true" and page.table is None
    assert not with_features(run).get_text()


def test_each_scenario_has_its_score_and_weights_have_one(run: Run) -> None:
    page = with_features(
        run,
        **{
            "<b>csd": {
                "orig_orig": scored(0.613, 0.457, 0.761),
                "gen_gen": scored(0.352, 0.243, 0.473),
                "orig_gen_reason": "none",
            }
        },
    )
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in page.find_all("tr")]
    assert rows[0] == ["Method", "Orig+Orig", "Orig+Gen", "Gen+Orig", "Gen+Gen"]
    assert rows[1] == ["<b>csd", "61.3 [46, 76]", "–", "–", "35.2 [24, 47]"]
    assert len(set(rows[2][1:])) == 1 and rows[2][1] != "–"
    assert rows[3] == ["a random ranking", *["10.4"] * 4]
    assert "intervals of 90 %" in page.get_text()
    keyed = [item.get_text() for item in page.select("ul.lines li")]
    assert keyed == [row[0] for row in rows[1:]]


def test_bars_are_as_high_as_the_scores_and_whiskers_as_long_as_their_intervals(run: Run) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 0.7, (3, 4))
    features = {
        f"feature_{i}": {
            key: scored(values[i, j], values[i, j] - 0.1, values[i, j] + 0.2)
            for j, key in enumerate(SCENARIOS)
        }
        for i in range(3)
    }
    del features["feature_1"]["gen_orig"]
    source = source_with(run, **features)
    with styled():
        figure = scenario_bars(scenario_methods(source), 8)
    ours = json.loads(run.metrics_path.read_text())["retrieval"]["delta/feed_forward"]["test"]
    for ax, score, share in zip(figure.axes, ("map", "recall_at_k"), (1.0, 0.5), strict=True):
        heights = np.array([[bar.get_height() for bar in bars] for bars in ax.containers])
        expected = np.vstack([share * values, np.full(4, ours[score])])
        expected[1, 2] = np.nan
        np.testing.assert_allclose(heights, expected)
        colours = [to_hex(bars[0].get_facecolor()) for bars in ax.containers]
        assert len(set(colours)) == 4 and colours[3] == ACCENT["light"]
        upright = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
        assert len(upright) == 11
        middles = {
            round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height()
            for bars in ax.containers
            for bar in bars
        }
        for line in upright:
            height = middles[round(line.get_xdata()[0], 6)]
            np.testing.assert_allclose(line.get_ydata(), height + share * np.array([-0.1, 0.2]))
        (chance,) = [line for line in ax.lines if line not in upright]
        assert set(chance.get_ydata()) == {{"map": 0.104, "recall_at_k": 0.077}[score]}
    assert figure.axes[1].get_title(loc="left") == "Recall@8"
