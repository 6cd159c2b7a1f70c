"""What the page says of generated images."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from bs4 import BeautifulSoup

from lorastyle.report.scenario_section import scenarios
from lorastyle.report.source import read_source
from lorastyle.runs import Run


@pytest.fixture
def run(make_evaluated_run: Callable[..., Run], tmp_path) -> Run:
    return make_evaluated_run(tmp_path / "run", 4, 2)


def with_features(run: Run, **features: dict) -> BeautifulSoup:
    metrics = json.loads(run.metrics_path.read_text())
    metrics["features"] = {name: {"retrieval": entry} for name, entry in features.items()}
    metrics["floor"] = {"retrieval": {"test": {"map": 0.104}}}
    metrics["protocol"]["interval"] = {"level": 0.9}
    run.metrics_path.write_text(json.dumps(metrics))
    return BeautifulSoup(scenarios(read_source(run, None)) or "", "html.parser")


def scored(value: float, *ends: float) -> dict:
    return {"test": {"map": value, "ci": {"map": list(ends)}}}


def test_without_generated_images_nothing_is_said(run: Run) -> None:
    assert not with_features(run, pixels={"orig_orig": scored(0.5, 0.4, 0.6)}).get_text()


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
