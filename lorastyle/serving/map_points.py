"""The map: a gallery's adapters on the first two components, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorastyle.records import UNLABELLED
from lorastyle.report.palette import make_palette
from lorastyle.report.words import space_name
from lorastyle.search.gallery import Gallery

MOST_POINTS = 4000
"""What a browser draws at once; of more, evenly many."""
MOST_ARTISTS = 120
"""That have a colour, those with the most adapters; the others are grey."""
NOBODY = -1


def map_of(gallery: Gallery) -> dict[str, Any]:
    """The points and their artists. `points` are `[x, y, artist or -1, adapter_id]`.

    Scores are calibrated as for retrieval, in the space's own units.
    """
    space, table = gallery.space, gallery.table
    key = f"{space.representation}/{space.sub_network}"
    ranked = np.flatnonzero(gallery.is_ranked)
    shown = ranked[np.linspace(0, len(ranked) - 1, min(len(ranked), MOST_POINTS)).astype(np.intp)]
    scores = on_the_map(gallery.scores)[shown]
    artists = table["artist"].to_numpy(dtype=str)[shown]
    counted = table["artist"].iloc[ranked].value_counts()
    coloured = [str(name) for name in counted.index if name != UNLABELLED][:MOST_ARTISTS]
    number_of = {name: number for number, name in enumerate(coloured)}
    names = table["adapter_id"].to_numpy(dtype=str)[shown]
    return {
        "space": key,
        "name": space_name(key),
        "explained": [float(share) for share in space.pca.explained_variance_ratio_[:2]],
        "n_adapters": len(ranked),
        "artists": _colours(gallery, coloured),
        "points": [
            [round(float(x), 5), round(float(y), 5), number_of.get(artist, NOBODY), name]
            for (x, y), artist, name in zip(scores, artists, names, strict=True)
        ],
    }


def on_the_map(scores: Any) -> Any:
    """The first two components (n, 2); of a space of one the second is 0."""
    two = np.zeros((len(scores), 2))
    two[:, : scores.shape[1]] = scores[:, :2]
    return two


def _colours(gallery: Gallery, artists: list[str]) -> list[dict[str, Any]]:
    table = gallery.table.drop_duplicates("artist")
    genres = dict(zip(table["artist"].astype(str), table["genre"].astype(str), strict=True))
    palette = make_palette({artist: genres.get(artist, "") for artist in artists})
    return [
        {
            "name": artist,
            "light": palette.artist(artist, "light"),
            "dark": palette.artist(artist, "dark"),
        }
        for artist in artists
    ]
