"""Whose captions, how many were changed, and what strangers wrote in them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from lorastyle.report.caption_section import MAX_CHARACTERS, MAX_SHOWN, captions_section
from lorastyle.report.source import read_source
from lorastyle.runs import Run
from tests.report.test_page import HOSTILE, page_of

Row = tuple[str, str, str, str, str]


@pytest.fixture(scope="module")
def run(make_evaluated_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_evaluated_run(tmp_path_factory.mktemp("runs") / "run", 4, 2)


def write(run: Run, rows: list[Row]) -> None:
    with (run.directory / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image_id", "source", "found", "used", "touched"), *rows])


def section_of(run: Run, rows: list[Row]) -> BeautifulSoup:
    write(run, rows)
    return BeautifulSoup(captions_section(read_source(run, None)) or "", "html.parser")


def lines(table: BeautifulSoup) -> list[list[str]]:
    return [
        [cell.get_text() for cell in row.find_all(["th", "td"])]
        for row in table.tbody.find_all("tr")
    ]


def test_captions_are_counted_by_source_and_the_changed_ones_shown(run: Run) -> None:
    soup = section_of(
        run,
        [
            ("a/0.png", "own", "a pond by Monet", "a pond", "Monet"),
            ("a/1.png", "own", "a lake", "a lake", ""),
            ("b/0.png", "template", "Monet", "a painting", "Monet"),
        ],
    )
    counts, changed = soup.find_all("table")
    assert [row[1:] for row in lines(counts)] == [["2", "1"], ["1", "1"]]
    assert lines(changed) == [
        ["a/0.png", "a pond by Monet", "a pond", "Monet"],
        ["b/0.png", "Monet", "a painting", "Monet"],
    ]


def test_where_nothing_was_changed_it_says_so(run: Run) -> None:
    soup = section_of(run, [("a/0.png", "captioner", "a hat", "a hat", "")])
    assert len(soup.find_all("table")) == 1
    assert "No caption had to be changed" in soup.get_text()


def test_a_long_table_and_long_texts_are_cut(run: Run) -> None:
    rows = [(f"a/{n}.png", "own", "x" * 500, "y" * 500, "z") for n in range(MAX_SHOWN + 5)]
    soup = section_of(run, rows)
    changed = lines(soup.find_all("table")[1])
    assert len(changed) == MAX_SHOWN
    assert {len(row[1]) for row in changed} == {MAX_CHARACTERS}
    assert f"The first {MAX_SHOWN} of {MAX_SHOWN + 5}" in soup.get_text()


def test_the_page_has_it_and_what_strangers_wrote_is_text(run: Run) -> None:
    write(run, [(HOSTILE, "own", HOSTILE, HOSTILE, HOSTILE)])
    page = page_of(run)
    assert page.select_one("nav a[href='#captions']") is not None
    row = page.select_one("#captions .words tbody tr")
    assert [cell.get_text() for cell in row.find_all(["th", "td"])] == [HOSTILE] * 4
    assert "alert" not in "".join(script.get_text() for script in page.find_all("script"))


def test_a_run_without_captions_has_no_such_section(run: Run, tmp_path: Path) -> None:
    run.captions_path.unlink(missing_ok=True)
    assert captions_section(read_source(run, None)) is None
    assert page_of(run).select_one("#captions") is None
