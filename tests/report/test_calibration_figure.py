"""Scale and shift by component, as the evaluation wrote them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from lorastyle.report.calibration_figure import calibration_curves, calibration_lines
from lorastyle.report.calibration_section import calibration_section
from lorastyle.report.canvas import styled
from lorastyle.report.source import ReportSource, read_source
from lorastyle.runs import Run

N_COMPONENTS = 20
USED = {"clustering": 12, "retrieval": 14}


def calibration_table(form: str = "full") -> pd.DataFrame:
    rng = np.random.default_rng(1)
    parts = [
        pd.DataFrame(
            {
                "representation": "delta",
                "sub_network": sub_network,
                "task": task,
                "calibration": form,
                "component": np.arange(1, N_COMPONENTS + 1),
                "scale": rng.uniform(0.5, 2.5, N_COMPONENTS),
                "shift": rng.normal(size=N_COMPONENTS),
                "shift_of_range": 0.01 * rng.normal(size=N_COMPONENTS),
            }
        )
        for sub_network in ("full", "feed_forward")
        for task in USED
    ]
    return pd.concat(parts).sample(frac=1.0, random_state=0)


@pytest.fixture
def read(make_evaluated_run: Callable[..., Run], tmp_path) -> Callable[..., ReportSource]:
    run = make_evaluated_run(tmp_path / "run", 4, 2)

    def source(table: pd.DataFrame) -> ReportSource:
        table.to_parquet(run.evaluation_path / "calibration.parquet")
        return read_source(run, None)

    return source


def test_each_task_has_the_calibration_of_its_chosen_space(read) -> None:
    table = calibration_table()
    with styled():
        figure = calibration_curves(calibration_lines(read(table)))
    for ax, column in zip(figure.axes, ("scale", "shift_of_range"), strict=True):
        for place, (task, used) in enumerate(USED.items()):
            mine = table[(table["sub_network"] == "feed_forward") & (table["task"] == task)]
            values = mine.set_index("component")[column].sort_index()
            # The line that leaves scores as they are is drawn first.
            assert set(ax.lines[0].get_ydata()) == {1.0 if column == "scale" else 0.0}
            bold, thin = ax.lines[1 + 2 * place : 3 + 2 * place]
            assert bold.get_label() == task and thin.get_alpha() < 0.5
            np.testing.assert_array_equal(bold.get_xdata(), np.arange(1, used + 1))
            np.testing.assert_array_equal(thin.get_xdata(), np.arange(used, N_COMPONENTS + 1))
            for line in (bold, thin):
                np.testing.assert_array_equal(line.get_ydata(), values[line.get_xdata()])


def test_the_page_names_the_spaces_beside_the_curves(read) -> None:
    page = BeautifulSoup(calibration_section(read(calibration_table())) or "", "html.parser")
    assert [item.get_text() for item in page.select("ul.lines li")[-2:]] == [
        "clustering (ΔW · feed-forward)",
        "retrieval (ΔW · feed-forward)",
    ]
    titles = [title.get_text() for title in page.find_all("figcaption")]
    assert titles[-2:] == ["Scale s", "Shift t, in units of the range"]


@pytest.mark.parametrize("table", [calibration_table("none"), pd.DataFrame()])
def test_without_calibration_there_are_no_curves(read, table: pd.DataFrame) -> None:
    source = read(table)
    assert calibration_lines(source) == []
    assert "By how much" not in (calibration_section(source) or "")
