"""What a search found, and how neighbours vote for artists."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lorastyle.records import UNLABELLED

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
