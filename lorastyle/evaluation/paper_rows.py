"""The paper's numbers as rows of result tables, each beside the run's row that means the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorastyle.evaluation import paper_numbers as paper
from lorastyle.evaluation.result_table import Cell, Row

COUNT = "n_components"
UNCALIBRATED = ", uncalibrated"

Cells = Mapping[str, Cell]


def paper_clustering(columns: Sequence[str], text: str) -> tuple[Row, ...]:
    """Main text Table 1 or supplement Table 2: `SCORE/SPLIT`, with deviations over seeds."""
    lines = paper.read(text).items()
    return tuple(_rows({name: dict(_spreads(columns, line)) for name, line in lines}))


def paper_retrieval(split: str) -> tuple[Row, ...]:
    """Supplement Table 4, and on test Table 1: columns `SCORE/SCENARIO`."""
    lines = dict(paper.read(paper.RETRIEVAL_VAL if split == "val" else paper.RETRIEVAL_TEST))
    if split == "test":
        feed_forward = paper.read(paper.FEED_FORWARD_TEST)
        lines |= {f"{name}|feed_forward": line for name, line in feed_forward.items()}
    return tuple(
        _rows({name: _fractions(paper.RETRIEVAL_COLUMNS, line) for name, line in lines.items()})
    )


def paper_similarity() -> tuple[Row, ...]:
    """Supplement Table 3: a row for each number of components, cosines by feature."""
    return tuple(
        Row(
            count,
            {
                name: Cell(value)
                for name, value in zip(paper.SIMILARITY_COLUMNS, line, strict=True)
                if value is not None
            },
            "paper",
            count,
        )
        for count, line in paper.read(paper.SIMILARITY).items()
    )


def paper_sub_networks() -> tuple[Row, ...]:
    """Section 4.5: share, ARI of the train adapters, and the PC counts that are known."""
    rows = []
    for name, line in paper.read(paper.SUB_NETWORKS).items():
        counts = {
            f"{COUNT}/{key.partition('/')[0]}": Cell(count)
            for key, count in paper.N_COMPONENTS.items()
            if key.partition("/")[2] == name
        }
        cells = _fractions(paper.SUB_NETWORK_COLUMNS, line) | counts
        rows.append(Row(f"factors/{name}", cells, "paper", f"factors/{name}"))
    return tuple(rows)


def feature_name(name: str) -> str:
    """An image feature as the paper calls it, if it does."""
    return paper.FEATURE_NAMES.get(name, name)


def _rows(numbers: Mapping[str, Cells]) -> Iterator[Row]:
    for name, cells in numbers.items():
        words, _, sub_network = name.partition("|")
        key = f"factors/{sub_network or 'full'}"
        beside = {paper.OURS: key, paper.UNCALIBRATED: f"{key}{UNCALIBRATED}"}.get(words, words)
        shown = f"{words}, {sub_network.replace('_', '-')}" if sub_network else words
        yield Row(shown, cells, "paper", beside)


def _spreads(columns: Sequence[str], line: Sequence[float | None]) -> Iterator[tuple[str, Cell]]:
    for key, mean, std in zip(columns, line[::2], line[1::2], strict=True):
        if mean is not None and std is not None:
            yield key, Cell(_fraction(mean), std=_fraction(std))


def _fractions(columns: Sequence[str], line: Sequence[float | None]) -> dict[str, Cell]:
    pairs = zip(columns, line, strict=True)
    return {key: Cell(_fraction(value)) for key, value in pairs if value is not None}


def _fraction(percent: float) -> float:
    return round(percent / 100, 6)  # 71.9 / 100 is 0.7190000000000001
