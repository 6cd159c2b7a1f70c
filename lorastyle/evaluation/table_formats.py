"""Tables of results as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from itertools import groupby
from pathlib import Path

from lorastyle.evaluation.result_table import Cell, Column, PaperPart, ResultTable, Row, Unit
from lorastyle.evaluation.tables import EMPTY, markdown, percentage
from lorastyle.runs import write_atomically

PAPER_HEADING = "## The paper's numbers"
PARTS = ("value", "std", "low", "high")
ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
}


def write_table(directory: Path, table: ResultTable) -> None:
    """The table in every format: `NAME.md`, `.tex`, `.csv`, `.json`."""
    for ending, render in FORMATS.items():
        write_atomically(directory / f"{table.name}.{ending}", render(table))


def to_markdown(table: ResultTable) -> str:
    """The run's table and notes; then the paper's numbers, where they do not stand in it."""
    ours = _text(table.first, table.columns, table.shown_rows)
    parts = [f"# {table.title}", markdown(ours), *table.notes]
    if (paper := table.paper) is not None and paper.comparable:
        parts.append(_beside(paper))
    elif paper is not None:
        theirs = _text(table.first, paper.columns, map(_alone, paper.rows))
        differences = (f"- {_inert(each)}" for each in paper.differences)
        parts += [PAPER_HEADING, _apart(paper), "\n".join(differences), markdown(theirs)]
    return "\n\n".join(parts) + "\n"


def to_latex(table: ResultTable) -> str:
    """A `tabular` for booktabs; all text is escaped.

    The paper's numbers stand in it where they are comparable, else in a second one, below a
    comment that says what differs.
    """
    remarks = ["Needs \\usepackage{booktabs}.", table.title, *table.notes]
    lines = _comments(remarks) + _tabular(table.first, table.columns, table.shown_rows)
    if (paper := table.paper) is not None and paper.comparable:
        lines += _comments([_beside(paper)])
    elif paper is not None:
        lines += _comments([_apart(paper), *paper.differences])
        lines += _tabular(table.first, paper.columns, tuple(map(_alone, paper.rows)))
    return "\n".join([*lines, ""])


def to_csv(table: ResultTable) -> str:
    """Full precision: fractions of one. A column `KEY`, and `KEY_std`, `_low`, `_high` if known.

    The column `source` tells the paper's lines from the run's.
    """
    theirs = table.paper or PaperPart("", (), ())
    rows = [*table.rows, *theirs.rows]
    known = {
        (key, part) for row in rows for key, cell in row.cells.items() for part in cell.parts()
    }
    keys = dict.fromkeys(column.key for column in (*table.columns, *theirs.columns))
    columns = [(key, part) for key in keys for part in PARTS if (key, part) in known]
    names = [key if part == "value" else f"{key}_{part}" for key, part in columns]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", table.first.lower(), *map(_spreadsheet, names)])
    for row in rows:
        known_of = {key: cell.parts() for key, cell in row.cells.items()}
        numbers = [known_of.get(key, {}).get(part, "") for key, part in columns]
        writer.writerow([row.source, _spreadsheet(row.name), *numbers])
    return text.getvalue()


def to_json(table: ResultTable) -> str:
    """As one document; NaN is never written."""
    return json.dumps(table.to_dict(), indent=2, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[ResultTable], str]] = {
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
    "json": to_json,
}


def cell_text(cell: Cell | None, unit: Unit) -> str:
    """A number as a table shows it: with its deviation, or else its interval.

    >>> cell_text(Cell(0.956, std=0.025), "percent")
    '95.6 ± 2.5'
    >>> cell_text(Cell(0.5, low=0.4, high=0.625), "percent")
    '50.0 [40.0, 62.5]'
    """
    if cell is None:
        return EMPTY
    if unit == "count":
        return f"{cell.value:.0f}"
    if unit == "cosine":
        return f"{cell.value:z.2f}"
    if cell.std is None and cell.low is not None and cell.high is not None:
        return f"{100 * cell.value:z.1f} [{100 * cell.low:z.1f}, {100 * cell.high:z.1f}]"
    return percentage(cell.value, cell.std)


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape("50% of a_b"))
    50\% of a\_b
    """
    return "".join(ESCAPES.get(character, character) for character in _one_line(text))


def _text(first: str, columns: Sequence[Column], rows: Iterable[Row]) -> list[list[str]]:
    headings = [first, *(f"{each.group} {each.heading}".strip() for each in columns)]
    return [headings, *([_name(row), *_cells(row, columns)] for row in rows)]


def _cells(row: Row, columns: Sequence[Column]) -> list[str]:
    return [cell_text(row.cells.get(each.key), each.unit) for each in columns]


def _name(row: Row) -> str:
    return f"{row.name} (paper)" if row.source == "paper" else row.name


def _alone(row: Row) -> Row:
    """One of the paper's, where all rows are."""
    return replace(row, source="run")


def _beside(paper: PaperPart) -> str:
    return f"Rows that end in (paper) are from {paper.source}."


def _apart(paper: PaperPart) -> str:
    return f"From {paper.source}. They are no match for this run, which differs:"


def _tabular(first: str, columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    groups = [(name, len(list(same))) for name, same in groupby(each.group for each in columns)]
    spans, rules, start = [""], [], 2
    for name, width in groups:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    grouped = [" & ".join(spans) + r" \\", " ".join(rules)] if rules else []
    headings = [first, *(each.heading for each in columns)]
    return [
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        *grouped,
        " & ".join(map(escape, headings)) + r" \\",
        r"\midrule",
        *(" & ".join(map(escape, [_name(row), *_cells(row, columns)])) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _comments(remarks: Iterable[str]) -> list[str]:
    return [f"% {_one_line(remark)}" for remark in remarks]


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _inert(text: str) -> str:
    """Text that Markdown takes for text."""
    return _one_line(text).replace("*", "\\*").replace("<", "&lt;")


def _spreadsheet(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
