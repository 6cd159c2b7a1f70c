"""The sweep on the page: its own section, in place of the evaluation's curves."""

import copy
import json
import shutil

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from lorastyle.errors import StageError
from lorastyle.evaluation.swept import finished_sweep
from lorastyle.report.ablation import ablation_markdown
from lorastyle.report.markup import raw
from lorastyle.report.page import make_page
from lorastyle.report.source import read_source
from lorastyle.report.stage import report
from lorastyle.runs import Run, write_json

VARIANTS = (
    (4, "trained", "delta"),
    (8, "trained", "delta"),
    (2, "truncated", "delta"),
)
HOSTILE = "</text><script>alert(1)</script>&'\"$x$"
PEAKS = {"full": 0.8, "feed_forward": 0.7, "up&to_v": 0.85, "full-cross_attention": 0.82}


def page_of(run):
    return BeautifulSoup(
        make_page(read_source(run, finished_sweep(run)), {}, raw("")), "html.parser"
    )


@pytest.fixture(scope="module")
def swept_run(make_evaluated_run, finish_sweep, tables, tmp_path_factory):
    """Evaluated in the space that the sweep chose: of another rank, by expression."""
    run = make_evaluated_run(tmp_path_factory.mktemp("swept") / "run", 4, 2)
    results, best = tables.sweep(PEAKS, VARIANTS, ("full", "simple"))
    finish_sweep(run, results, best)
    metrics = json.loads(run.metrics_path.read_text())
    chosen = "up&to_v@rank8"
    for task in ("clustering", "retrieval"):
        for name in (chosen, "full@truncated2"):
            metrics[task][f"delta/{name}"] = copy.deepcopy(metrics[task]["delta/cross_attention"])
    write_json(run.metrics_path, metrics)
    for name in ("scores", "queries", "curves"):
        path = run.evaluation_path / f"{name}.parquet"
        table = pd.read_parquet(path)
        ours = table[(table["representation"] == "delta") & (table["sub_network"] == "full")]
        pd.concat([table, ours.assign(sub_network=chosen)]).to_parquet(path)
    return run


@pytest.fixture(scope="module")
def outcome(swept_run):
    return report(swept_run)


@pytest.fixture(scope="module")
def soup(swept_run, outcome):
    return BeautifulSoup((swept_run.report_path / "index.html").read_text(), "html.parser")


def test_it_replaces_the_evaluations_curves(soup, outcome):
    assert soup.select_one("#components") is None
    assert "Sweep" in [link.get_text() for link in soup.select("nav a")]
    assert len(soup.select("#sweep figure svg")) == 5
    names = {name.partition(".")[0] for name in outcome.outputs["figures"]}
    others = {"calibration", "component_pairs", "methods", "style_map"}
    assert names == {*others, "sweep_curves", "sweep_ranks"}


def test_ids_stay_unique(soup):
    ids = [element["id"] for element in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_its_table_has_the_numbers_of_the_markdown(soup, swept_run):
    swept = read_source(swept_run, finished_sweep(swept_run)).swept
    rows = [
        line.strip("|").replace("*", "").split(" | ")
        for line in ablation_markdown(swept.results, swept.best, 8).splitlines()
        if line.startswith("|")
    ][2:]
    shown = [
        [cell.get_text() for cell in row.find_all("td")]
        for row in soup.select("#sweep tbody tr:not(.group)")
    ]
    # The Markdown has the rank in a column of its own; on the page it is a heading.
    assert shown == [[cell.strip() for cell in row[2:]] for row in rows]
    headings = [row.th.get_text() for row in soup.select("#sweep tr.group")]
    assert headings == ["ΔW, rank 4", "ΔW, rank 8", "ΔW cut to rank 2"]


def test_it_says_the_rule_and_which_ranks_were_trained(soup):
    text = " ".join(soup.select_one("#sweep").get_text(" ").split())
    assert "trained at ranks 4 and 8; cut by SVD from rank 4 to rank 2" in text
    assert "the smallest PC count within one standard error of the best" in text
    assert "would have taken" in text


def test_the_page_stands_on_what_the_sweep_chose(soup):
    chosen = [row.th.find(string=True, recursive=False) for row in soup.select("tr.chosen")]
    assert chosen[:2] == ["ΔW of rank 8 · up blocks ∩ to_v"] * 2
    spaces = json.loads(soup.select_one("#map-data").string)["spaces"]
    assert [space["name"] for space in spaces if space["chosen"]] == chosen[:1]


def test_names_in_a_sweep_are_text(make_evaluated_run, finish_sweep, tables, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    peaks = {HOSTILE: 0.9, "full": 0.8}
    finish_sweep(run, *tables.sweep(peaks, ((4, "trained", "delta"), (8, "trained", "delta"))))
    page = make_page(read_source(run, finished_sweep(run)), {}, raw(""))
    assert "<script>alert" not in page
    titles = [row["title"] for row in BeautifulSoup(page, "html.parser").select("th[title]")]
    assert HOSTILE in titles


def test_a_sweep_of_another_embedding_is_not_shown(
    make_evaluated_run, finish_sweep, tables, tmp_path
):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    finish_sweep(run, *tables.sweep())
    assert finished_sweep(run) is not None
    run.finish("embed", {}, {"n_adapters": 1}, 1.0)
    again = page_of(run)
    assert again.select_one("#sweep") is None and again.select_one("#components") is not None


def test_another_sweep_makes_the_report_stale(swept_run, outcome, finish_sweep, tables, tmp_path):
    shutil.copytree(swept_run.directory, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert report(run).skipped
    finish_sweep(run, *tables.sweep())
    with pytest.raises(StageError, match="sweep"):
        report(run)


def test_curves_of_any_sub_network_are_drawn_without_a_sweep(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    path = run.evaluation_path / "curves.parquet"
    table = pd.read_parquet(path)
    ours = table[table["sub_network"] == "full"]
    pd.concat([table, ours.assign(sub_network="up&to_v")]).to_parquet(path)
    key = page_of(run).select("#components .lines li")
    assert [item.get_text() for item in key][-1] == "up blocks ∩ to_v"
