"""Tables of a run's settings: each at its PC counts, and the best against every other method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.paper_rows import COUNT, feature_name, paper_sub_networks
from lorastyle.evaluation.result_table import Cell, Column, PaperPart, ResultTable, Row
from lorastyle.evaluation.run_rows import (
    AGREEMENT,
    PRECISION,
    SPLITS,
    Entry,
    Metrics,
    cell_of,
)
from lorastyle.evaluation.scenarios import SCENARIOS


def sub_network_table(
    metrics: Metrics, shares: Mapping[str, float], differs: tuple[str, ...]
) -> ResultTable:
    """Every setting at its PC counts: share of the numbers, ARI, mAP and recall."""
    k = metrics["protocol"]["k"]
    columns: dict[Task, list[Column]] = {
        "clustering": [
            Column(f"ari/{split}", AGREEMENT["ari"], title) for split, title in SPLITS.items()
        ],
        "retrieval": [
            Column(f"{score}/{split}", PRECISION[score].format(k=k), SPLITS[split])
            for score in ("map", "recall_at_k")
            for split in ("val", "test")
        ],
    }
    counts = {task: Column(f"{COUNT}/{task}", "", f"PCs, {task}", "count") for task in columns}
    share = Column("share", "", "share (%)")

    def cells(key: str) -> Iterator[tuple[str, Cell]]:
        if key in shares:
            yield share.key, Cell(shares[key])
        for task, scores in columns.items():
            entry = metrics[task].get(key, {})
            if COUNT in entry:
                yield counts[task].key, Cell(entry[COUNT])
            for column in scores:
                cell = cell_of(entry, column.key)
                if cell is not None:
                    yield column.key, replace(cell, low=None, high=None)

    keys = dict.fromkeys([*metrics["clustering"], *metrics["retrieval"]])
    return ResultTable(
        "sub-networks",
        "Sub-networks",
        "Setting",
        (share, *(one for task in columns for one in (counts[task], *columns[task]))),
        tuple(Row(key, dict(cells(key))) for key in keys),
        (
            "Share: of the numbers in an adapter of the full network. PC counts are chosen on "
            "validation; ± is over k-means seeds.",
        ),
        PaperPart(
            "section 4.5 and section 4 of the supplement",
            (share, counts["clustering"], columns["clustering"][0], counts["retrieval"]),
            paper_sub_networks(),
            differs,
        ),
    )


def comparison_table(metrics: Metrics) -> ResultTable:
    """What the best setting's test scores are above every other method's."""
    section, k = metrics["comparison"], metrics["protocol"]["k"]
    columns = tuple(Column(score, "", title.format(k=k)) for score, title in PRECISION.items())

    def name(line: Entry) -> str:
        scenario = line.get("scenario", "orig_orig")
        shown = "" if scenario == "orig_orig" else f", {SCENARIOS[scenario]}"
        return f"{feature_name(line['method'])}{shown}"

    rows = (
        Row(
            name(line),
            {one.key: Cell(line[one.key], None, *line["ci"][one.key]) for one in columns},
        )
        for line in section.get("test", ())
    )
    note = (
        f"Scores of {section['setting']} less those of each method, on the same test queries: "
        "above 0 it is better. In brackets: intervals over artists; one that holds 0 leaves it "
        "open. They are not widened for the number of methods."
        if "setting" in section
        else f"Not computed: {section['reason']}."
    )
    title = "Retrieval, test queries: differences"
    return ResultTable("comparison", title, "Less", columns, tuple(rows), (note,))
