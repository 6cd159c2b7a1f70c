"""`search`: an adapter in, its neighbours by style, the nearest artists, and its duplicates."""

from __future__ import annotations

from pathlib import Path

from lorastyle.runs import Run
from lorastyle.search.found import SearchResult
from lorastyle.search.searcher import Searcher, Wishes


def search(
    run: Run,
    path: Path,
    *,
    top_k: int = 24,
    representation: str | None = None,
    sub_network: str | None = None,
    n_components: int | None = None,
) -> SearchResult:
    """Rank the adapters of an embedded run by how near a file's style is to theirs.

    The file may be of another format, rank or initialisation; `sub_network` may be any
    expression. Raises AdapterFileError for a file that cannot be read, LayoutMismatchError
    for one of another base model, StageError before embedding, ConfigError for no expression.
    For many queries keep a `Searcher`.
    """
    wishes = Wishes(top_k, representation, sub_network, n_components).checked()
    searcher = Searcher(run)
    return searcher.find(searcher.read(path), wishes).result
