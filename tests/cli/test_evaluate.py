"""`lorastyle evaluate` prints the tables that the stage wrote."""

import json

import pytest

from lorastyle.evaluation.result_table import Cell, Column, PaperPart, ResultTable, Row
from lorastyle.evaluation.table_formats import write_table
from lorastyle.runs import Run


@pytest.fixture
def evaluated(pretended, lorastyle, config):
    """A run in `runs/small` whose evaluation left a table."""
    assert lorastyle("plan", config).exit_code == 0
    run = Run.open("runs/small")
    columns = (Column("ari/test", "ARI (%)", "test"),)
    theirs = PaperPart("Table 2", columns, (Row("Ours", {}, "paper"),), ("base: another",))
    rows = (Row("factors/full", {"ari/test": Cell(0.59, std=0.02)}),)
    table = ResultTable("clustering", "Clusters", "Method", columns, rows, ("A note.",), theirs)
    write_table(run.evaluation_path / "tables", table)
    return run


def test_it_prints_ours_and_names_the_files(evaluated, lorastyle):
    done = lorastyle("evaluate", "runs/small")
    assert done.exit_code == 0
    assert "| factors/full |   59.0 ± 2.0 |" in done.stdout
    assert "A note." in done.stdout
    assert "Ours" not in done.stdout
    assert done.stdout.rstrip().endswith("evaluation/tables")


def test_its_document_has_every_table(evaluated, lorastyle):
    document = json.loads(lorastyle("evaluate", "runs/small", "--json").stdout)
    assert document["stage"] == "evaluate"
    assert document["tables"]["clustering"]["paper"]["differences"] == ["base: another"]


def test_without_tables_there_is_the_line_of_the_stage(pretended, lorastyle, config):
    done = lorastyle("evaluate", config)
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1
