"""`search`: an adapter in, its neighbours by style, the nearest artists, and its duplicates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.wanted import wanted_products
from lorastyle.errors import StageError
from lorastyle.ingest.family import base_weights
from lorastyle.records import UNLABELLED
from lorastyle.runs import Run
from lorastyle.search.gallery import Gallery, is_large, open_gallery
from lorastyle.search.index import Neighbours, StyleIndex
from lorastyle.search.query import Place, Query
from lorastyle.search.settings import SpaceChoice, choose_setting, default_components
from lorastyle.search.verdicts import (
    COMMON_START,
    Comparison,
    Thresholds,
    compare_adapters,
)
from lorastyle.store.members import read_member
from lorastyle.sub_networks import check

N_COMPARED = 8
"""Nearest adapters that are compared with the query itself, to find duplicates."""
DUPLICATES = ("identical_bytes", "same_weights", "same_run")
FAR = 3.0
"""A query this many times farther from its nearest neighbour than adapters usually are is far
from all."""


@dataclass(frozen=True)
class Found:
    """A neighbour of the query."""

    adapter_id: str
    artist: str
    genre: str
    role: str
    distance: float
    row: int


@dataclass(frozen=True)
class NearArtist:
    """An artist among the neighbours."""

    artist: str
    score: float
    """Share of the neighbours' votes, each weighted by its nearness; all scores add up to 1."""
    n_neighbours: int
    nearest: float
    """Distance of the artist's nearest adapter."""


@dataclass(frozen=True)
class Duplicate:
    """An adapter of the run that is the query again, or another state of the same training."""

    adapter_id: str
    row: int
    verdict: str
    cosine: float
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class SearchResult:
    """All that a search found."""

    query: str
    representation: str
    sub_network: str
    n_components: int
    why: str
    """Why this space."""
    method: str
    """`exact`, or `sketch` where the query's cosines are estimates."""
    coverage: float
    n_gallery: int
    neighbours: tuple[Found, ...]
    artists: tuple[NearArtist, ...]
    duplicates: tuple[Duplicate, ...]
    nearest_distance: float
    usual_distance: float
    """Median distance of a gallery adapter to its own nearest neighbour."""
    notes: tuple[str, ...] = ()

    @property
    def is_far(self) -> bool:
        """True where the query is much farther from all than adapters are from one another."""
        return self.usual_distance > 0 and self.nearest_distance > FAR * self.usual_distance

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "is_far": self.is_far}


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
    """
    wanted = None if sub_network is None else check(sub_network)
    run.pull("embed", "sweep")
    adapter = read_adapter(path, base_weights=base_weights(run))
    if adapter.facts.get("empty"):
        raise StageError(f"{path} changes nothing: all its updates are zero; there is no style")
    query = Query.of(run, adapter)
    representations, reason = query.possible()
    if representation is None and is_large(query.source, GramSet.load(run.embedding_path).rows):
        representations = tuple(name for name in representations if name != "delta-aligned")
    setting = choose_setting(
        run,
        representations=representations,
        sub_networks=_sub_networks(run, query, wanted),
        representation=representation,
        sub_network=wanted,
        reason=reason,
    )
    gallery = open_gallery(run, setting.representation, setting.sub_network, setting.calibration)
    count = _count(run, gallery, setting, n_components)
    place = query.place(run, gallery)
    return _answer(run, query, gallery, place, setting, count, top_k)


def _sub_networks(run: Run, query: Query, wanted: str | None) -> tuple[str, ...]:
    """Those of the run, and the wanted one, in whose spaces the query has a place."""
    named = wanted_products(run.experiment, query.source.layout.targets).expressions
    asked = dict.fromkeys([*named, *filter(None, [wanted])])
    return tuple(expression for expression in asked if query.changes(expression))


def _count(run: Run, gallery: Gallery, setting: SpaceChoice, wanted: int | None) -> int:
    most = gallery.space.n_components
    if wanted is not None and wanted > most:
        raise StageError(
            f"the space {setting.key} has {most} components, not {wanted}; ask for fewer"
        )
    chosen = wanted or setting.n_components or default_components(run, most)
    return min(chosen, most)


def _answer(
    run: Run,
    query: Query,
    gallery: Gallery,
    place: Place,
    setting: SpaceChoice,
    count: int,
    top_k: int,
) -> SearchResult:
    ranked = np.flatnonzero(gallery.is_ranked)
    index = StyleIndex(gallery.scores[ranked, :count])
    point = place.scores[:count]
    near = index.nearest(point, top_k)
    lines = gallery.table.iloc[ranked[near.positions]].to_dict("records")
    neighbours = tuple(
        Found(
            adapter_id=str(line["adapter_id"]),
            artist=str(line["artist"]),
            genre=str(line["genre"]),
            role=str(line["role"]),
            distance=float(distance),
            row=int(line["row"]),
        )
        for line, distance in zip(lines, near.distances, strict=True)
    )
    usual = index.spacing()
    return SearchResult(
        query=query.adapter.name,
        representation=setting.representation,
        sub_network=setting.sub_network,
        n_components=count,
        why=setting.why,
        method=place.method,
        coverage=place.coverage,
        n_gallery=len(index),
        neighbours=neighbours,
        artists=vote(neighbours, usual),
        duplicates=_duplicates(run, query, gallery, point, count),
        nearest_distance=float(near.distances[0]),
        usual_distance=usual,
        notes=tuple(query.adapter.facts.get("notes", ())),
    )


def vote(neighbours: tuple[Found, ...], usual_distance: float) -> tuple[NearArtist, ...]:
    """The artists of the neighbours, the likeliest first.

    A neighbour's vote is exp(-d^2 / (2 h^2)). h is what is near here, the usual distance of
    neighbours, or the query's to its nearest where that is larger: far from all, nobody is
    sure. Those whose artist nobody knows do not vote.
    """
    known = [one for one in neighbours if one.artist != UNLABELLED]
    if not known:
        return ()
    distances = np.array([one.distance for one in known])
    width = max(usual_distance, float(distances.min())) or 1.0
    # Relative to the nearest, so that they do not all vote zero.
    votes = np.exp((distances.min() ** 2 - distances**2) / (2 * width**2))
    artists = sorted({one.artist for one in known})
    found = []
    for artist in artists:
        here = np.array([one.artist == artist for one in known])
        found.append(
            NearArtist(
                artist,
                float(votes[here].sum() / votes.sum()),
                int(here.sum()),
                float(distances[here].min()),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.score, one.artist)))


def _duplicates(
    run: Run, query: Query, gallery: Gallery, point: npt.NDArray[np.float64], count: int
) -> tuple[Duplicate, ...]:
    """Among all adapters near the query, ranked or not: the same again has the same place."""
    near: Neighbours = StyleIndex(gallery.scores[:, :count]).nearest(point, N_COMPARED)
    rows = gallery.table["row"].to_numpy(np.int64)[near.positions]
    names = gallery.table["adapter_id"].to_numpy(object)[near.positions]
    found = []
    for row, name in zip(rows, names, strict=True):
        comparison = _compare(run, query, int(row))
        if comparison.verdict in DUPLICATES:
            found.append(
                Duplicate(
                    str(name),
                    int(row),
                    comparison.verdict,
                    float(comparison.scores.get("cosine", 1.0)),
                    comparison.evidence,
                )
            )
    order = {verdict: place for place, verdict in enumerate(DUPLICATES)}
    return tuple(sorted(found, key=lambda one: (order[one.verdict], -one.cosine, one.row)))


def _compare(run: Run, query: Query, row: int) -> Comparison:
    # Rows have no text encoder or convolutions: what a query has more of is no difference.
    room = set(query.source.layout.modules)
    same = {
        key: value
        for key, value in query.adapter.updates.items()
        if key.network == "unet" and key.module in room
    }
    limits = COMMON_START if query.began_with_the_run else Thresholds()
    adapter = Adapter(query.adapter.name, same, query.adapter.facts)
    return compare_adapters(adapter, read_member(run, row), limits)
