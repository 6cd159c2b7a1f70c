"""The paper's tables, filled from the metrics of a run, with the paper's own numbers for each.

`clustering-main` (main text Table 1), `clustering` (supplement Table 2), `retrieval-val` and
`retrieval-test` (supplement Tables 4 and 1), `similarity` (supplement Table 3), `sub-networks`
(section 4.5); and `comparison`, which the paper has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lorastyle.config import Experiment
from lorastyle.evaluation import paper_numbers as paper
from lorastyle.evaluation.paper_protocol import differences
from lorastyle.evaluation.paper_rows import (
    COUNT,
    feature_name,
    paper_clustering,
    paper_retrieval,
    paper_similarity,
)
from lorastyle.evaluation.result_table import Cell, Column, PaperPart, ResultTable, Row
from lorastyle.evaluation.run_rows import (
    AGREEMENT,
    PRECISION,
    SPLITS,
    Entry,
    Metrics,
    cell_of,
    feature_rows,
    weight_rows,
)
from lorastyle.evaluation.scenarios import SCENARIOS
from lorastyle.evaluation.setting_tables import comparison_table, sub_network_table

Differs = tuple[str, ...]

PCS = Column(COUNT, "", "PCs", "count")


def paper_tables(
    metrics: Metrics, shares: Mapping[str, float], experiment: Experiment
) -> list[ResultTable]:
    """Every table; `shares` says by setting which part of an adapter's numbers it has."""
    differs = tuple(differences(experiment, metrics["protocol"]["n_artists"]))
    return [
        clustering_table(metrics, differs, ("train", "test")),
        clustering_table(metrics, differs),
        retrieval_table(metrics, "val", differs),
        retrieval_table(metrics, "test", differs),
        comparison_table(metrics),
        similarity_table(metrics, differs),
        sub_network_table(metrics, shares, differs),
    ]


def clustering_table(
    metrics: Metrics, differs: Differs, splits: Sequence[str] = tuple(SPLITS)
) -> ResultTable:
    """ARI and NMI by split, ± the deviation over k-means seeds."""
    columns = [
        Column(f"{score}/{split}", title, SPLITS[split])
        for score, title in AGREEMENT.items()
        for split in splits
    ]
    chance = metrics["floor"]["clustering"]
    features = {name: entry["clustering"] for name, entry in metrics["features"].items()}

    def cells(entry: Entry) -> dict[str, Cell]:
        found = {column.key: cell_of(entry, column.key) for column in columns}
        return {key: cell for key, cell in found.items() if cell is not None}

    rows = (
        *feature_rows(features, cells),
        *weight_rows(metrics, "clustering", cells),
        Row("random labels", cells(chance)),
    )
    whole = len(splits) == len(SPLITS)
    numbers = (
        paper_clustering(paper.ALL_CLUSTERING_COLUMNS, paper.ALL_CLUSTERING)
        if whole
        else paper_clustering(paper.CLUSTERING_COLUMNS, paper.CLUSTERING)
    )
    source = "the supplement's Table 2" if whole else "the main text's Table 1"
    return ResultTable(
        "clustering" if whole else "clustering-main",
        "Clustering by artist" if whole else "Clustering by artist, training and test",
        "Method",
        (PCS, *columns),
        rows,
        (
            f"Mean ± standard deviation over {len(metrics['protocol']['seeds'])} k-means seeds. "
            "Clusters are fitted on the training adapters; the others are assigned to them. Random "
            "labels: expectation where artists are dealt to the adapters at random. Intervals over "
            "artists, which are wider, are in the CSV.",
        ),
        PaperPart(source, tuple(columns), numbers, differs),
    )


def retrieval_table(metrics: Metrics, split: str, differs: Differs) -> ResultTable:
    """mAP, mAP at k and recall at k of a split's queries, with intervals over artists."""
    made = [name for name in SCENARIOS if name == "orig_orig" or _has(metrics, name)]
    k = metrics["protocol"]["k"]
    columns = _retrieval_columns(PRECISION, made, k)

    def cells(entries: Mapping[str, Entry]) -> dict[str, Cell]:
        found = {}
        for column in columns:
            score, _, scenario = column.key.partition("/")
            cell = cell_of(entries.get(scenario, {}), f"{score}/{split}")
            if cell is not None:
                found[column.key] = cell
        return found

    def everywhere(entry: Entry) -> dict[str, Cell]:
        return cells(dict.fromkeys(made, entry))

    features = {name: entry["retrieval"] for name, entry in metrics["features"].items()}
    rows = (
        *feature_rows(features, cells),
        *weight_rows(metrics, "retrieval", everywhere),
        Row("random ranking", everywhere(metrics["floor"]["retrieval"])),
    )
    level = metrics["protocol"]["interval"]["level"]
    tables = "Table 4" + (" and, for feed-forward, Table 1" if split == "test" else "")
    return ResultTable(
        f"retrieval-{split}",
        f"Retrieval, {SPLITS[split]} queries",
        "Method",
        (PCS, *columns),
        rows,
        (
            f"In brackets: intervals of {100 * level:.0f} %, the queries' artists drawn again. "
            "[Gallery]+[Query]: features of the training images (Orig) or of generated ones (Gen); "
            "weights need neither. Random ranking: expectation of a random order.",
            f"mAP is over the whole ranking, mAP@{k} over what was found among the first {k}. The "
            "paper does not define its mAP; it is far above its recall, so probably the second.",
        ),
        PaperPart(
            f"the supplement's {tables}",
            tuple(_retrieval_columns(("map", "recall_at_k"), SCENARIOS, paper.TOP_K)),
            paper_retrieval(split),
            differs,
        ),
    )


def similarity_table(metrics: Metrics, differs: Differs) -> ResultTable:
    """Mean cosine between the weights' embedding and each image feature's, by PC count."""
    section = metrics["similarity"]
    weights, pairs = section.get("weights"), section.get("pairs", ())
    cells: dict[int, dict[str, Cell]] = {}
    ours = [pair for pair in pairs if pair["first"] == weights]
    for pair in ours:
        for count, value in zip(pair["n_components"], pair["similarity"], strict=True):
            cells.setdefault(count, {})[feature_name(pair["second"])] = Cell(value)
    columns = [
        Column(name, "", name, "cosine") for name in (feature_name(one["second"]) for one in ours)
    ]
    notes = [
        f"Mean cosine between corresponding training adapters, {section['n_adapters']} of them, of "
        f"{weights} and the mean image feature, under the first so many components of each."
        if ours
        else f"Not computed: {section.get('reason', 'no components in common')}."
    ]
    return ResultTable(
        "similarity",
        "Similarity of embeddings",
        "PCs",
        tuple(columns),
        tuple(Row(str(count), found) for count, found in sorted(cells.items())),
        tuple(notes),
        PaperPart(
            "the supplement's Table 3",
            tuple(Column(name, "", name, "cosine") for name in paper.SIMILARITY_COLUMNS),
            paper_similarity(),
            differs,
        ),
    )


def _retrieval_columns(scores: Iterable[str], scenarios: Iterable[str], top_k: int) -> list[Column]:
    return [
        Column(f"{score}/{scenario}", PRECISION[score].format(k=top_k), SCENARIOS[scenario])
        for score in scores
        for scenario in scenarios
    ]


def _has(metrics: Metrics, scenario: str) -> bool:
    return any(scenario in entry["retrieval"] for entry in metrics["features"].values())
