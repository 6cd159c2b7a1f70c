"""The paper's tables as HTML: image features first, then what the weights say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorastyle.report.markup import Markup, raw, tag
from lorastyle.report.scores import score_of, std_of
from lorastyle.report.words import SCORE_NAMES, percent, plain, space_name

Column = tuple[str, str]
"""(split, score), as in the metrics."""
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One method of a table."""

    name: str
    entry: Entry
    kind: str
    """`feature`, `ours` or `aside` (ours without calibration)."""
    n_components: int | None = None
    chosen: bool = False


def method_rows(
    entries: Mapping[str, Entry], features: Mapping[str, Entry], chosen: str | None
) -> list[Row]:
    """Features, then every style space; under the chosen one, itself without calibration."""
    rows = [Row(plain(name), entry, "feature") for name, entry in features.items()]
    for key, entry in entries.items():
        ours = Row(space_name(key), entry, "ours", entry.get("n_components"), key == chosen)
        rows.append(ours)
        if ours.chosen and entry.get("uncalibrated"):
            rows.append(Row("without calibration", entry["uncalibrated"], "aside"))
    return rows


def score_table(
    rows: Sequence[Row], groups: Sequence[tuple[str, Sequence[Column]]], track: Column
) -> Markup:
    """A table with a group of columns for each score, and the last one drawn.

    `groups` are (heading, columns); `track` is the column shown as a dot on a
    line from 0 to 100 %, the hollow dot being the score without calibration.
    """
    columns = [column for _, members in groups for column in members]
    best = {column: _best(rows, column) for column in columns}
    body: list[Markup] = []
    for kinds, title in ((("feature",), "Image features"), (("ours", "aside"), "Adapter weights")):
        members = [row for row in rows if row.kind in kinds]
        if members:
            span = len(columns) + 2
            heading = tag("th", title, scope="rowgroup")
            body.append(tag("tr", heading, tag("td", colspan=span), class_="group"))
            body += [_row(row, columns, best, track) for row in members]
    head = tag("thead", _heading(groups, track), _sub_heading(groups))
    classes = "table wide" if len(columns) > 4 else "table"
    return tag("div", tag("table", head, tag("tbody", body)), class_=classes, tabindex=0)


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> Markup:
    """A small table; the first column names its row."""
    first = tag("th", headings[0], scope="col", class_="method")
    head = tag("tr", first, [tag("th", text, scope="col") for text in headings[1:]])
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]])
        for row in rows
    ]
    return tag(
        "div",
        tag("table", tag("thead", head), tag("tbody", body)),
        class_="table narrow",
        tabindex=0,
    )


def _heading(groups: Sequence[tuple[str, Sequence[Column]]], track: Column) -> Markup:
    spans = [tag("th", title, colspan=len(members), scope="colgroup") for title, members in groups]
    title = f"{track[0]} {SCORE_NAMES[track[1]]}"
    return tag("tr", tag("td", class_="method"), tag("td", class_="n"), spans, tag("th", title))


def _sub_heading(groups: Sequence[tuple[str, Sequence[Column]]]) -> Markup:
    splits = [tag("th", split, scope="col") for _, members in groups for split, _ in members]
    scale = tag("span", tag("span", "0"), tag("span", "50"), tag("span", "100"), class_="scale")
    method = tag("th", "Method", scope="col", class_="method")
    return tag("tr", method, tag("th", "PCs", scope="col", class_="n"), splits, tag("th", scale))


def _row(row: Row, columns: Sequence[Column], best: Mapping[Column, str], track: Column) -> Markup:
    badge = tag("span", "chosen", class_="badge", title="on validation")
    name = tag("th", row.name, badge if row.chosen else None, scope="row")
    count = tag("td", row.n_components if row.n_components is not None else "", class_="n")
    cells = [_cell(row.entry, column, best[column]) for column in columns]
    line = tag("td", _track(row.entry, track))
    classes = f"{row.kind}{' chosen' if row.chosen else ''}"
    return tag("tr", name, count, cells, line, class_=classes)


def _cell(entry: Entry, column: Column, best: str) -> Markup:
    value, std = score_of(entry, *column), std_of(entry, *column)
    if value is None:
        return tag("td", "–", class_="absent")
    text = percent(value)
    spread = tag("span", f" ± {100 * std:.1f}", class_="std") if std is not None else None
    return tag("td", text, spread, class_="best" if text == best else None)


def _best(rows: Sequence[Row], column: Column) -> str:
    values = [value for row in rows if (value := score_of(row.entry, *column)) is not None]
    return percent(max(values)) if values else ""


def _track(entry: Entry, column: Column) -> Markup | None:
    after = score_of(entry, *column)
    if after is None:
        return None
    before = score_of(entry.get("uncalibrated"), *column)
    dots: list[Markup] = []
    if before is not None:
        low, high = sorted((_share(before), _share(after)))
        reach = f"left:{low:.1f}%;right:{100 - high:.1f}%"
        dots.append(tag("i", class_="reach", style=reach))
        dots.append(tag("i", class_="before", style=f"left:{_share(before):.1f}%"))
    dots.append(tag("i", style=f"left:{_share(after):.1f}%"))
    return raw(tag("span", dots, class_="track", aria_hidden="true"))


def _share(fraction: float) -> float:
    return 100 * min(max(fraction, 0.0), 1.0)
