"""How alike the embeddings of a run are: weights beside every image feature, and features beside
each other, over the train adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from lorastyle.embedding.style_space import StyleSpace
from lorastyle.evaluation.labelled import FloatArray
from lorastyle.evaluation.similarity import (
    PAPER_COUNTS,
    principal_scores,
    score_similarity,
    shuffled_similarity,
)

VALUES = ("n_components", "similarity", "shuffled")


def similarity_table(
    key: str, space: StyleSpace, features: Mapping[str, FloatArray], adapter_ids: list[str]
) -> pd.DataFrame:
    """A line for each pair of embeddings and number of components that both have.

    Columns first, second, n_components, similarity, shuffled (where samples do not correspond)
    and n_adapters, how many they are. `features` are (n_adapters, dimension), a row for each of
    `adapter_ids`. The samples are the space's fit adapters that are among them: all, unless the
    setting is of another rank, of which other adapters may have failed. Every feature gets a PCA
    of these alone.
    """
    names = space.table.set_index("row").loc[space.fit_rows, "adapter_id"]
    rows = pd.Index(adapter_ids).get_indexer(pd.Index(names))
    embeddings = {key: space.scores(space.fit_rows[rows >= 0])}
    most = max(PAPER_COUNTS)
    for name, vectors in features.items():
        embeddings[name] = principal_scores(vectors[rows[rows >= 0]], most)
    lines = [
        line
        for (first, x), (second, y) in combinations(embeddings.items(), 2)
        for line in _lines(first, x, second, y)
    ]
    table = pd.DataFrame(lines, columns=["first", "second", *VALUES])
    return table.assign(n_adapters=int((rows >= 0).sum()))


def similarity_section(key: str, table: pd.DataFrame) -> dict[str, Any]:
    """The table as plain values: `{"weights", "n_adapters", "pairs": [{"first", ...}, ...]}`."""
    pairs = [
        {
            "first": first,
            "second": second,
            **{name: lines[name].tolist() for name in VALUES},
        }
        for (first, second), lines in table.groupby(["first", "second"], sort=False)
    ]
    n_adapters = int(table["n_adapters"].max()) if len(table) else 0
    return {"weights": key, "n_adapters": n_adapters, "pairs": pairs}


def _lines(
    first: str, x: FloatArray, second: str, y: FloatArray
) -> Iterator[tuple[str, str, int, float, float]]:
    most = min(x.shape[1], y.shape[1])
    counts = [count for count in PAPER_COUNTS if count <= most]
    found, chance = score_similarity(x, y, counts), shuffled_similarity(x, y, counts)
    for count, similarity, shuffled in zip(counts, found, chance, strict=True):
        yield first, second, count, float(similarity), float(shuffled)
