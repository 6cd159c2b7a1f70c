"""A table of results: numbers with their spread, before any format is chosen.

Values are fractions of one, cosines or counts, as `Column.unit` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["percent", "cosine", "count"]
Source = Literal["run", "paper"]


@dataclass(frozen=True)
class Cell:
    """A number; its standard deviation over seeds, or the ends of its interval."""

    value: float
    std: float | None = None
    low: float | None = None
    high: float | None = None

    def parts(self) -> dict[str, float]:
        """What is known, by name."""
        known = {"value": self.value, "std": self.std, "low": self.low, "high": self.high}
        return {name: number for name, number in known.items() if number is not None}


@dataclass(frozen=True)
class Column:
    """Where a number stands: `ARI (%)` over `test`, say."""

    key: str
    group: str
    heading: str
    unit: Unit = "percent"


@dataclass(frozen=True)
class Row:
    """One method; what could not be computed is absent from its cells."""

    name: str
    cells: Mapping[str, Cell]
    source: Source = "run"
    beside: str = ""
    """Of the paper's: the row of the run that it is about."""


@dataclass(frozen=True)
class PaperPart:
    """The paper's numbers for a table, under its own headings."""

    source: str
    """Which of its tables."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    differences: tuple[str, ...] = ()
    """How the run differs from the paper's experiment: with any, the numbers stand apart."""

    @property
    def comparable(self) -> bool:
        """Whether the numbers may stand beside the run's."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "comparable": self.comparable,
            "differences": list(self.differences),
            "columns": [vars(column) for column in self.columns],
            "rows": [_row(row) for row in self.rows],
        }


@dataclass(frozen=True)
class ResultTable:
    """A table of the run, and the paper's numbers for it where it has any."""

    name: str
    """Of its files."""
    title: str
    first: str
    """Heading of the column that names the rows."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    paper: PaperPart | None = None

    @property
    def shown_rows(self) -> tuple[Row, ...]:
        """Those of the main table: ours, each followed by the paper's where it is comparable."""
        if self.paper is None or not self.paper.comparable:
            return self.rows
        ours, theirs = {row.name for row in self.rows}, self.paper.rows
        both = [
            one
            for row in self.rows
            for one in (row, *(other for other in theirs if other.beside == row.name))
        ]
        return (*both, *(row for row in theirs if row.beside not in ours))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": [vars(column) for column in self.columns],
            "rows": [_row(row) for row in self.rows],
            "notes": list(self.notes),
            "paper": None if self.paper is None else self.paper.to_dict(),
        }


def _row(row: Row) -> dict[str, Any]:
    cells = {key: cell.parts() for key, cell in row.cells.items()}
    return {"source": row.source, "name": row.name, "cells": cells}
