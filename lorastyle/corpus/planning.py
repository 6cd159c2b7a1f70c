"""From a catalogue to adapter specs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pandas as pd

from lorastyle.config import Experiment
from lorastyle.corpus.captions import identifier_token
from lorastyle.corpus.sampling import sample_sets, split_images, stable_seed
from lorastyle.corpus.works import LeftOut, Work
from lorastyle.errors import ConfigError, CorpusError
from lorastyle.records import AdapterSpec, Role, Split

CATALOGUE_COLUMNS = (
    "image_id",
    "path",
    "artist",
    "genre",
    "caption",
    "content_hash",
    "width",
    "height",
    "split",
)


def choose_artists(
    works: Sequence[Work],
    *,
    min_works: int,
    artists: Sequence[str] | None = None,
    n_artists: int | None = None,
) -> tuple[list[Work], list[LeftOut]]:
    """The works of the artists to use, and the artists left out.

    Artists with fewer than `min_works` works are left out; of the rest the
    `n_artists` with the most works are kept, ties by name. Raises ConfigError for
    an unknown name in `artists`, CorpusError where fewer than two artists remain.
    """
    by_artist: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        by_artist[work.artist].append(work)
    unknown = sorted(set(artists or ()) - set(by_artist))
    if unknown:
        raise ConfigError(
            f"corpus.artists names {', '.join(map(repr, unknown))}, of whom there is no usable "
            f"image; there are works by {', '.join(sorted(by_artist))}"
        )
    reasons: dict[str, str] = {}
    ranked = sorted(by_artist, key=lambda artist: (-len(by_artist[artist]), artist))
    kept: list[str] = []
    for artist in ranked:
        n_works = len(by_artist[artist])
        if artists is not None and artist not in artists:
            reasons[artist] = "not among corpus.artists"
        elif n_works < min_works:
            reasons[artist] = f"{n_works} usable works, fewer than min_works={min_works}"
        elif n_artists is not None and len(kept) >= n_artists:
            reasons[artist] = f"n_artists={n_artists} are kept, with at least {n_works} works each"
        else:
            kept.append(artist)
    if len(kept) < 2:
        largest = ", ".join(f"{artist} {len(by_artist[artist])}" for artist in ranked[:5])
        raise CorpusError(
            f"{len(kept)} of {len(ranked)} artists can be used, and it takes 2; usable works are "
            f"{largest}; lower corpus.min_works={min_works} or add images"
        )
    left_out = [LeftOut(f"{artist}/", reasons[artist]) for artist in sorted(reasons)]
    return [work for work in works if work.artist not in reasons], left_out


def make_catalogue(works: Iterable[Work], experiment: Experiment) -> pd.DataFrame:
    """One row an image, by image id, with the split it belongs to."""
    rows = sorted((asdict(work) for work in works), key=lambda row: row["image_id"])
    by_artist: dict[str, list[str]] = {}
    for row in rows:
        by_artist.setdefault(row["artist"], []).append(row["image_id"])
    split_of: dict[str, str] = {}
    for artist, image_ids in by_artist.items():
        splits = split_images(artist, image_ids, experiment.protocol, experiment.corpus.seed)
        for split, members in splits.items():
            split_of |= dict.fromkeys(members, split.value)
    table = [{**row, "split": split_of[row["image_id"]]} for row in rows]
    return pd.DataFrame(table, columns=list(CATALOGUE_COLUMNS))


def make_specs(catalogue: pd.DataFrame, experiment: Experiment) -> list[AdapterSpec]:
    """Every adapter of the run, in the order of its rows in the store.

    Rows go by role, then index, then artist: whatever is trained first holds
    equally many adapters of every artist. Raises ConfigError (`sample_sets`).
    """
    drafts = []
    for artist, images in catalogue.groupby("artist", sort=True):
        splits = {
            split: sorted(images.loc[images["split"] == split.value, "image_id"]) for split in Split
        }
        genre = _most_common(images["genre"])
        sets = sample_sets(str(artist), splits, experiment.protocol, experiment.corpus.seed)
        for role, members in sets.items():
            drafts += [(role, index, str(artist), genre, ids) for index, ids in enumerate(members)]
    order = {role: position for position, role in enumerate(Role)}
    drafts.sort(key=lambda draft: (order[draft[0]], draft[1], draft[2]))
    return _specs(drafts, experiment)


def overlap_statistics(
    specs: Iterable[AdapterSpec], roles: Sequence[Role] = (Role.TRAIN,)
) -> dict[str, float]:
    """How much adapters of one artist and role share their images, as shares of a set.

    `mean` and `max` are over pairs; `mean_nearest` averages each adapter's
    overlap with the one most like it. Empty where no artist has two.
    """
    groups: dict[tuple[str, Role], list[frozenset[str]]] = {}
    for spec in specs:
        if spec.role in roles:
            groups.setdefault((spec.artist, spec.role), []).append(frozenset(spec.image_ids))
    pairs: list[float] = []
    nearest: list[float] = []
    for sets in groups.values():
        overlaps = np.eye(len(sets)) * -1
        for (i, one), (j, other) in combinations(enumerate(sets), 2):
            overlaps[i, j] = overlaps[j, i] = len(one & other) / len(one)
            pairs.append(float(overlaps[i, j]))
        if len(sets) > 1:
            nearest += overlaps.max(axis=1).tolist()
    if not pairs:
        return {}
    return {
        "mean": round(float(np.mean(pairs)), 4),
        "max": round(max(pairs), 4),
        "mean_nearest": round(float(np.mean(nearest)), 4),
    }


def _specs(
    drafts: Iterable[tuple[Role, int, str, str, tuple[str, ...]]], experiment: Experiment
) -> list[AdapterSpec]:
    training = experiment.training
    specs: list[AdapterSpec] = []
    tokens: set[str] = set()
    for row, (role, index, artist, genre, image_ids) in enumerate(drafts):
        adapter_id = f"{artist}-{role.value}-{index:02d}"
        token = _unused_token(adapter_id, training.seed, tokens) if training.identifier else ""
        tokens.add(token)
        shared = training.initialisation == "shared"
        specs.append(
            AdapterSpec(
                row=row,
                adapter_id=adapter_id,
                artist=artist,
                genre=genre,
                role=role,
                index=index,
                image_ids=image_ids,
                token=token,
                noise_seed=stable_seed(training.seed, adapter_id),
                init_seed=training.init_seed
                if shared
                else stable_seed(training.init_seed, adapter_id),
            )
        )
    return specs


def _unused_token(adapter_id: str, seed: int, used: set[str]) -> str:
    """Tokens must be unique: two adapters with one are tied together by the text."""
    attempt = 0
    while (token := identifier_token(seed, adapter_id, attempt)) in used:
        attempt += 1
    return token


def _most_common(genres: Iterable[str]) -> str:
    counts: Mapping[str, int] = Counter(str(genre) for genre in genres)
    return min(counts, key=lambda genre: (-counts[genre], genre))
