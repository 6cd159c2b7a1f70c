import csv
import json
import re
from dataclasses import replace
from io import StringIO

import pytest

from lorastyle.evaluation.result_table import Cell, Column, PaperPart, ResultTable, Row
from lorastyle.evaluation.table_formats import (
    PAPER_HEADING,
    cell_text,
    escape,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    write_table,
)

COLUMNS = (
    Column("n", "", "PCs", "count"),
    Column("ari/val", "ARI (%)", "val"),
    Column("ari/test", "ARI (%)", "test"),
    Column("like", "", "CLIP", "cosine"),
)
TABLE = ResultTable(
    name="clustering",
    title="Clusters of a_b",
    first="Method",
    columns=COLUMNS,
    rows=(
        Row("by|block_1", {"n": Cell(12), "ari/val": Cell(0.956, std=0.025)}),
        Row("=cmd&%", {"ari/test": Cell(1 / 3, low=0.25, high=0.5), "like": Cell(0.931)}),
    ),
    notes=("A note.",),
    paper=PaperPart(
        "its Table 2",
        COLUMNS[1:3],
        (Row("Ours", {"ari/test": Cell(0.835)}, "paper", "by|block_1"),),
        ("base: <b>*mine*</b>\n(paper: another)",),
    ),
)
COMPARABLE = replace(TABLE, paper=replace(TABLE.paper, differences=()))


def cells_of(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_has_a_cell_for_every_column_and_the_paper_apart():
    ours, _, theirs = to_markdown(TABLE).partition(PAPER_HEADING)
    lines = [cells_of(line) for line in ours.splitlines() if line.startswith("|")]
    assert lines[0] == ["Method", "PCs", "ARI (%) val", "ARI (%) test", "CLIP"]
    assert lines[2:] == [
        [r"by\|block_1", "12", "95.6 ± 2.5", "-", "-"],
        ["=cmd&%", "-", "-", "33.3 [25.0, 50.0]", "0.93"],
    ]
    assert "Ours" not in ours
    assert r"- base: &lt;b>\*mine\*&lt;/b> (paper: another)" in theirs
    assert [cells_of(line) for line in theirs.splitlines() if line.startswith("|")][2] == [
        *("Ours", "-", "83.5")
    ]


def test_where_nothing_differs_the_paper_stands_beside():
    text = to_markdown(COMPARABLE)
    names = [cells_of(line)[0] for line in text.splitlines() if line.startswith("|")][2:]
    assert names == [r"by\|block_1", "Ours (paper)", "=cmd&%"]
    assert PAPER_HEADING not in text
    assert to_latex(COMPARABLE).count(r"\begin{tabular}") == 1


@pytest.mark.parametrize("table", [TABLE, COMPARABLE])
def test_latex_is_balanced_and_every_line_has_as_many_cells_as_columns(table):
    text = "\n".join(line for line in to_latex(table).splitlines() if not line.startswith("%"))
    parts = re.findall(r"\\begin\{tabular\}\{(lr*)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(parts) == (1 if table is COMPARABLE else 2)
    for columns, body in parts:
        assert [
            rule for rule in re.findall(r"\\(\w+rule)\b(?!\()", body) if rule != "cmidrule"
        ] == [*("toprule", "midrule", "bottomrule")]
        for line in re.findall(r"(.*) \\\\", body):
            widths = re.findall(r"\\multicolumn\{(\d+)\}", line)
            n_cells = len(re.split(r"(?<!\\)&", line))
            spanned = sum(map(int, widths)) - len(widths)
            assert n_cells + spanned == len(columns)
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    assert r"=cmd\&\%" in text
    assert r"95.6 $\pm$ 2.5" in text


def test_latex_rules_span_their_groups():
    text = to_latex(TABLE)
    assert r"\multicolumn{2}{c}{ARI (\%)}" in text
    assert r"\cmidrule(lr){3-4}" in text
    assert r"\cmidrule(lr){2-2}" not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 5% of $#{}", r"a\_b \& 5\% of \$\#\{\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("one\ntwo\x00", "one two"),
    ],
)
def test_special_characters_are_inert(text, escaped):
    assert escape(text) == escaped


def test_csv_keeps_every_digit_and_says_whose_a_line_is():
    lines = list(csv.DictReader(StringIO(to_csv(TABLE))))
    assert [line["source"] for line in lines] == ["run", "run", "paper"]
    assert float(lines[1]["ari/test"]) == 1 / 3
    assert (lines[1]["ari/test_low"], lines[0]["ari/test_low"]) == ("0.25", "")
    assert lines[0]["ari/val_std"] == "0.025"
    assert "like_std" not in lines[0]
    assert lines[1]["method"] == "'=cmd&%"


def test_json_is_whole():
    document = json.loads(to_json(TABLE))
    assert document["rows"][1]["cells"]["ari/test"] == {"value": 1 / 3, "low": 0.25, "high": 0.5}
    assert document["columns"][3] == {
        "key": "like",
        "group": "",
        "heading": "CLIP",
        "unit": "cosine",
    }
    assert document["paper"]["comparable"] is False
    assert document["paper"]["rows"][0]["source"] == "paper"


def test_a_deviation_is_shown_before_an_interval():
    assert cell_text(Cell(0.5, std=0.1, low=0.3, high=0.7), "percent") == "50.0 ± 10.0"
    assert cell_text(None, "percent") == "-"


def test_nothing_is_minus_zero():
    cell = Cell(-1e-17, low=-4e-4, high=0.1)
    assert cell_text(cell, "percent") == "0.0 [0.0, 10.0]"
    assert cell_text(cell, "cosine") == "0.00"


def test_without_a_paper_there_is_the_run_alone():
    table = replace(TABLE, paper=None)
    assert PAPER_HEADING not in to_markdown(table)
    assert to_latex(table).count(r"\begin{tabular}") == 1
    assert {line["source"] for line in csv.DictReader(StringIO(to_csv(table)))} == {"run"}
    assert json.loads(to_json(table))["paper"] is None


def test_all_formats_are_written(tmp_path):
    write_table(tmp_path / "tables", TABLE)
    names = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert names == [f"clustering.{ending}" for ending in ("csv", "json", "md", "tex")]
