"""One database of adapters of several origins: does it matter where they began, and their rank?

    python examples/mixed_origins.py --out runs/mixed

Trains the same adapters (16 artists, 8 each, and 6 queries each on other images) four times: from
one shared initial lora_A of rank 4, and each from its own at ranks 4, 8 and 16. Databases then
take each adapter from one of these origins, by turns, six draws of the turns. Scored are k-means
on as many principal components as there are artists, and retrieval with the test queries: by
distance in the components (how many, the validation queries choose) and by the similarity itself.
A quarter of an hour on two idle cores; stop it and run it again, and it goes on where it was.
What the table says is discussed in docs/mixed-origins.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lorastyle.adapters.alignment import AlignedStack, AlignedSums, aligned_similarity, stack_sums
from lorastyle.adapters.kernel import FactorStack, Gram, cosine_of, stack_products
from lorastyle.config import Experiment, apply_overrides, parse_experiment
from lorastyle.distributed.pipeline import run_stages
from lorastyle.embedding.delta_products import modules_by_name
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.evaluation.agreement import adjusted_rand_index, encode
from lorastyle.evaluation.clustering import fit_centroids
from lorastyle.evaluation.retrieval import average_precision, distances, rank
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore

DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"
ORIGINS = {
    "shared-r4": ("shared", 4),
    "independent-r4": ("independent", 4),
    "independent-r8": ("independent", 8),
    "independent-r16": ("independent", 16),
}
DATABASES = {
    "shared seed, rank 4": ("shared-r4",),
    "own seeds, rank 4": ("independent-r4",),
    "own seeds, ranks 4, 8, 16": ("independent-r4", "independent-r8", "independent-r16"),
    "half shared, half own, rank 4": ("shared-r4", "independent-r4"),
    "shared 4, own 4, own 8": ("shared-r4", "independent-r4", "independent-r8"),
}
GALLERY, QUERIES = "train", ("query_val", "query_test")
PROTOCOL = {"train": 8, "calibration": 0, "val": 0, "test": 0} | {
    "query_calibration": 0,
    "query_val": 3,
    "query_test": 3,
}
COUNTS = (8, 12, 16, 20, 24, 32)
N_DRAWS, N_KMEANS_SEEDS = 6, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the four runs go")
    parser.add_argument("--seed", type=int, default=11, help="of the painted artists")
    arguments = parser.parse_args()
    stores = {}
    for origin in ORIGINS:
        run = Run.create(arguments.out / origin, experiment(origin, arguments.seed))
        run_stages(run, ("plan", "train"))
        stores[origin] = run.store_path
    print(table(Pool.read(stores)))


def experiment(origin: str, seed: int) -> Experiment:
    """The same artists, images and noise for every origin; scaling alpha / rank is the demo's."""
    initialisation, rank = ORIGINS[origin]
    values = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    overrides = [
        f"corpus.seed={seed}",
        "corpus.n_artists=16",
        *(f"protocol.{name}={count}" for name, count in PROTOCOL.items()),
        f"training.initialisation={initialisation}",
        f"training.rank={rank}",
        f"training.alpha={rank / 2}",
        f"training.init_seed={rank}",
    ]
    return parse_experiment(apply_overrides(values, overrides))


@dataclass(frozen=True)
class Pool:
    """Every adapter of every origin, and all similarities: a database is a choice of rows."""

    table: pd.DataFrame
    """Columns origin, adapter_id, artist, role."""
    similarities: Mapping[str, Gram]
    """Each (n, n); NaN between adapters that a representation cannot compare."""

    @classmethod
    def read(cls, stores: Mapping[str, Path]) -> Pool:
        opened = [AdapterStore.open(path) for path in stores.values()]
        tables, weights = [], []
        for origin, store in zip(stores, opened, strict=True):
            rows = store.table().sort_values("row")
            wanted = rows[rows["role"].isin([GALLERY, *QUERIES])]
            tables.append(wanted.assign(origin=origin))
            weights.append(store.read_rows(wanted["row"].to_numpy()))
        updates = similarities(_modules(opened, weights))
        table = pd.concat(tables, ignore_index=True)
        return cls(table, {"factors": _factor_products(weights)} | updates)

    def draws(self, origins: Sequence[str]) -> Iterator[np.ndarray]:
        """Rows of one database after another: of each artist as many from every origin."""
        for draw in range(N_DRAWS if len(origins) > 1 else 1):
            rng = np.random.default_rng(draw)
            chosen: list[int] = []
            for _, group in self.table.groupby(["artist", "role"]):
                names = group["adapter_id"].unique()
                turns = np.resize(rng.permutation(origins), len(names))
                by_name = group.set_index(["adapter_id", "origin"]).index
                rows = group.index.to_numpy()
                wanted = zip(names, rng.permutation(turns), strict=True)
                chosen += [int(rows[by_name.get_loc(pair)]) for pair in wanted]
            yield np.array(chosen)


def _modules(
    stores: Sequence[AdapterStore], weights: Sequence[np.ndarray]
) -> Iterator[FactorStack]:
    """The factors of all adapters, module by module."""
    for name in stores[0].layout.modules:
        parts = []
        for store, vectors in zip(stores, weights, strict=True):
            (module,) = modules_by_name(store, [name])
            factors = module.factors(vectors[:, module.columns], module.columns.start)
            parts.append(FactorStack.of_arrays(*factors))
        down, up, ranks = (
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("down", "up", "ranks")
        )
        yield FactorStack(down, up, ranks)


def similarities(modules: Iterator[FactorStack]) -> dict[str, Gram]:
    """By representation. Scalings are one and the same, so they are left out."""
    totals: dict[str, Gram] = {}

    def add(name: str, values: Gram) -> None:
        totals[name] = totals.get(name, 0.0) + values

    for stack in modules:
        products = stack_products(stack)
        add("delta", products)
        singular = AlignedStack.of(stack)
        for name, values in zip(AlignedSums._fields, stack_sums(singular), strict=True):
            add(name, values)
        rows, columns = singular.factors.down, singular.factors.up
        # The squared norm of Q_i Q_j' over its largest: 1 for the same space, r / in for chance.
        shared = stack_products(FactorStack(rows, rows, stack.ranks))
        add("divided", cosine_of(products) / cosine_of(shared))
        add("columns", cosine_of(stack_products(FactorStack(columns, columns, stack.ranks))))
    return {
        "delta": cosine_of(totals["delta"]),
        "cosine / overlap": cosine_of(totals["divided"]),
        "output side": cosine_of(totals["columns"]),
        "delta-aligned": aligned_similarity(AlignedSums(totals["cosine"], totals["attainable"])),
    }


def _factor_products(weights: Sequence[np.ndarray]) -> Gram:
    """About the mean of those of one length; vectors of another length have none (NaN)."""
    sizes = np.concatenate([np.full(len(part), part.shape[1]) for part in weights])
    gram = np.full((len(sizes), len(sizes)), np.nan)
    for size in np.unique(sizes):
        vectors = np.concatenate([part for part in weights if part.shape[1] == size])
        vectors -= vectors.mean(axis=0)
        gram[np.ix_(sizes == size, sizes == size)] = vectors @ vectors.T
    return gram


@dataclass(frozen=True)
class Scores:
    """Of one database and representation, for each set of artists left in by the jackknife.

    Each (1 + n_artists,): with all artists, then without the first, without the second, ...
    """

    ari: np.ndarray
    map_components: np.ndarray
    map_similarity: np.ndarray


def score(pool: Pool, databases: Sequence[np.ndarray], similarity: Gram) -> Scores:
    """Means over draws of a database."""
    ari, precision, direct = [], [], []
    for rows in databases:
        gram = similarity[np.ix_(rows, rows)]
        found = pool.table.loc[rows]
        artists, roles = found["artist"].to_numpy(str), found["role"].to_numpy(str)
        gallery = roles == GALLERY
        spectrum = Spectrum(max(COUNTS)).fit(gram[np.ix_(gallery, gallery)])
        ari.append(_clustering(spectrum.scores_, artists[gallery]))
        curves, whole = {}, {}
        for role in QUERIES:
            asked = roles == role
            cross = gram[np.ix_(asked, gallery)]
            labels = artists[asked], artists[gallery]
            placed = spectrum.transform(cross)
            curves[role] = np.array(
                [
                    _precision(_apart(placed[:, :k], spectrum.scores_[:, :k]), *labels)
                    for k in COUNTS
                ]
            )
            whole[role] = _precision(-cross, *labels)
        precision.append(curves)
        direct.append(whole["query_test"])
    chosen = np.mean([curves["query_val"][:, 0] for curves in precision], axis=0).argmax()
    tested = np.mean([curves["query_test"][chosen] for curves in precision], axis=0)
    return Scores(np.mean(ari, axis=0), tested, np.mean(direct, axis=0))


def _clustering(scores: np.ndarray, artists: np.ndarray) -> np.ndarray:
    names = np.unique(artists)
    truth = encode(artists)
    kept = [np.ones(len(artists), bool), *(artists != name for name in names)]
    values = []
    for seed in range(N_KMEANS_SEEDS):
        labels, _ = fit_centroids(scores[:, : len(names)], len(names), seed)
        values.append([adjusted_rand_index(truth[part], labels[part]) for part in kept])
    return np.asarray(np.mean(values, axis=0))


def _apart(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return distances(queries, gallery, "euclidean")


def _precision(distance: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    precision = average_precision(rank(distance, queries, gallery))
    kept = [np.ones(len(queries), bool), *(queries != name for name in np.unique(queries))]
    return np.array([precision[part].mean() for part in kept])


def interval(values: np.ndarray) -> str:
    """The value and half of its 95 % interval, by the jackknife over artists."""
    without = values[1:]
    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return f"{values[0]:.3f} ± {1.96 * error:.3f}"


def table(pool: Pool) -> str:
    """Markdown: the scores, and their differences from the shared-seed database."""
    columns = ("ARI", "mAP, components", "mAP, similarity")
    lines = [
        "| database | representation | " + " | ".join(columns) + " | less the clean database |",
        "| --- | --- | " + " | ".join(["---:"] * 3) + " | --- |",
    ]
    clean: dict[str, Scores] = {}
    for database, origins in DATABASES.items():
        if not set(origins) <= set(pool.table["origin"]):
            continue
        draws = list(pool.draws(origins))
        for name, similarity in pool.similarities.items():
            if np.isnan(similarity[np.ix_(draws[0], draws[0])]).any():
                lines.append(f"| {database} | {name} | | | | lengths differ |")
                continue
            found = score(pool, draws, similarity)
            reference = clean.setdefault(name, found)
            values = (found.ari, found.map_components, found.map_similarity)
            before = (reference.ari, reference.map_components, reference.map_similarity)
            differences = (
                ""
                if found is reference
                else ", ".join(interval(a - b) for a, b in zip(values, before, strict=True))
            )
            cells = " | ".join(map(interval, values))
            lines.append(f"| {database} | {name} | {cells} | {differences} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
