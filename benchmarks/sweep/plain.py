"""The protocol as plain scikit-learn: what one would write first.

A kernel PCA a task; then for each PC count and seed a k-means, its prediction and the scores; and
for each PC count and query a ranking. Calibration by `np.polyfit`. Nothing of ours is called.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import KernelPCA
from sklearn.metrics import (
    adjusted_rand_score,
    average_precision_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.pairwise import euclidean_distances

Matrix = npt.NDArray[np.float64]
Artists = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Settings:
    """What the loops run over."""

    n_components: int
    n_seeds: int
    n_calibration: int
    top_k: int
    counts: Sequence[int] | None = None
    """PC counts; None for all."""


@dataclass(frozen=True)
class Part:
    """Labelled scores (n, k) of fit and held-out adapters."""

    fit: Matrix
    fit_artists: Artists
    held_out: Matrix
    held_out_artists: Artists

    @property
    def n_components(self) -> int:
        return self.fit.shape[1]


def plain_curve(
    gram: Matrix, table: pd.DataFrame, settings: Settings
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Validation scores of each PC count, and the seconds of each step."""
    start = time.perf_counter()
    train = (table["role"] == "train").to_numpy()
    late = train & (table["index"] >= table.loc[train, "index"].max() + 1 - settings.n_calibration)
    late = late.to_numpy()
    clustering = _space(gram, table, train & ~late, late, _has(table, "val"), settings)
    calibrating = _has(table, "query_calibration")
    retrieval = _space(gram, table, train, calibrating, _has(table, "query_val"), settings)
    fitted = time.perf_counter()
    counts = settings.counts or range(1, clustering.n_components + 1)
    clusters = [_clustering(clustering, count, settings.n_seeds) for count in counts]
    clustered = time.perf_counter()
    rankings = [_retrieval(retrieval, count, settings.top_k) for count in counts]
    seconds = {
        "spaces": fitted - start,
        "clustering": clustered - fitted,
        "retrieval": time.perf_counter() - clustered,
    }
    lines = [
        {"n_components": count, **one, **other}
        for count, one, other in zip(counts, clusters, rankings, strict=True)
    ]
    return pd.DataFrame(lines), seconds


def _has(table: pd.DataFrame, role: str) -> npt.NDArray[np.bool_]:
    return (table["role"] == role).to_numpy()


def _space(
    gram: Matrix,
    table: pd.DataFrame,
    fit: npt.NDArray[np.bool_],
    calibrating: npt.NDArray[np.bool_],
    held_out: npt.NDArray[np.bool_],
    settings: Settings,
) -> Part:
    pca = KernelPCA(settings.n_components, kernel="precomputed")
    scores = pca.fit_transform(gram[np.ix_(fit, fit)])
    artists = table["artist"].to_numpy().astype(str)
    before = pca.transform(gram[np.ix_(calibrating, fit)])
    x, y = _means(before, artists[calibrating]), _means(scores, artists[fit])
    lines = [np.polyfit(*pair, 1) for pair in zip(x.T, y.T, strict=True)]
    slope, shift = np.transpose(lines)
    calibrated = pca.transform(gram[np.ix_(held_out, fit)]) * slope + shift
    return Part(scores, artists[fit], calibrated, artists[held_out])


def _means(scores: Matrix, artists: Artists) -> Matrix:
    return pd.DataFrame(scores).groupby(artists).mean().to_numpy()


def _clustering(part: Part, count: int, n_seeds: int) -> dict[str, float]:
    fit, held_out = part.fit[:, :count], part.held_out[:, :count]
    ari, nmi, train = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(n_seeds):
            means = KMeans(len(set(part.fit_artists)), n_init=1, random_state=seed).fit(fit)
            labels = means.predict(held_out)
            ari.append(adjusted_rand_score(part.held_out_artists, labels))
            nmi.append(normalized_mutual_info_score(part.held_out_artists, labels))
            train.append(adjusted_rand_score(part.fit_artists, means.labels_))
    named = {"ari": ari, "nmi": nmi, "train_ari": train}
    return {
        f"{name}_{what}": float(getattr(np, what)(values))
        for name, values in named.items()
        for what in ("mean", "std")
    }


def _retrieval(part: Part, count: int, top_k: int) -> dict[str, float]:
    distances = euclidean_distances(part.held_out[:, :count], part.fit[:, :count])
    precisions, recalls = [], []
    for distance, artist in zip(distances, part.held_out_artists, strict=True):
        relevant = part.fit_artists == artist
        precisions.append(average_precision_score(relevant, -distance))
        first = np.argpartition(distance, top_k - 1)[:top_k]
        recalls.append(relevant[first].sum() / relevant.sum())
    return {"map": float(np.mean(precisions)), "recall_at_k": float(np.mean(recalls))}
