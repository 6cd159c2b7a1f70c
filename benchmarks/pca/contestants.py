"""The methods that are compared, each run alone: `python -m benchmarks.pca.contestants NAME ...`.

A contestant imports what it needs and returns the function that is timed: from the
first read of the store, with a cold cache, to explained variances and scores.
All may use every core. Peers read through our store, the fastest way there is, in
as many threads as there are cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lorastyle.store.adapter_store import AdapterStore

Matrix = npt.NDArray[Any]
Spectra = Mapping[str, tuple[Matrix, Matrix]]
"""By sub-network: explained variances (k,) and scores (n, k)."""
Fit = Callable[["Task"], Spectra]

CHUNK_BYTES = 2**27
"""Of the column chunks (n, w) that Dask peers get: Dask's own advice is 100 MB and up."""
INCREMENTAL_BATCH = 200
SEED = 0


@dataclass
class Task:
    """What every contestant is asked for."""

    store: AdapterStore
    n_rows: int
    n_components: int
    memory_gib: float
    """Working memory of our Gram pass; peers take what they take."""
    parts_s: dict[str, float] = field(default_factory=dict)
    """Seconds by part of the work."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        return np.arange(self.n_rows)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to the part `name`."""
        start = time.perf_counter()
        yield
        self.parts_s[name] = self.parts_s.get(name, 0.0) + time.perf_counter() - start

    def read(self, rows: range) -> Matrix:
        """Vectors (m, d) float32 of these rows, with a thread a core."""
        vectors = np.empty((len(rows), self.store.size), np.float32)

        def fetch(position: int) -> None:
            self.store.read_columns(
                [rows[position]], slice(0, self.store.size), out=vectors[position : position + 1]
            )

        with self.part("read"), ThreadPoolExecutor(cpu_count() or 1) as pool:
            list(pool.map(fetch, range(len(rows))))
        return vectors

    def lazy(self) -> Any:
        """The vectors (n, d) as a Dask array of column chunks that hold every row."""
        import dask
        import dask.array as da

        block = self.store.block
        width = max(1, CHUNK_BYTES // (4 * self.n_rows * block)) * block
        read = dask.delayed(self.store.read_columns)
        chunks = []
        for start in range(0, self.store.size, width):
            stop = min(start + width, self.store.size)
            part = read(self.rows, slice(start, stop))
            chunks.append(da.from_delayed(part, (self.n_rows, stop - start), np.float32))
        return da.concatenate(chunks, axis=1)


def ours() -> Fit:
    """One Gram pass through Dask, then the PCA of the network and of its sub-networks."""
    from lorastyle.embedding.gram_pass import compute_sums
    from lorastyle.embedding.spectrum import Spectrum

    def fit(task: Task) -> Spectra:
        with task.part("gram"):
            sums = compute_sums(task.store, task.rows, ["factors"], memory_gib=task.memory_gib)
        # One BLAS thread, as in the pass: matrices this small gain nothing from more.
        with task.part("spectra"), threadpool_limits(1):
            grams = {"full": np.sum(list(sums["factors"].values()), axis=0), **sums["factors"]}
            fitted = {name: Spectrum(task.n_components).fit(gram) for name, gram in grams.items()}
        return {name: (each.explained_variance_, each.scores_) for name, each in fitted.items()}

    return fit


def sklearn_pca(solver: str) -> Fit:
    from sklearn.decomposition import PCA

    def fit(task: Task) -> Spectra:
        vectors = task.read(range(task.n_rows))
        pca = PCA(task.n_components, svd_solver=solver, copy=False, random_state=SEED)
        with task.part("fit"):
            scores = pca.fit_transform(vectors)
        return {"full": (pca.explained_variance_, scores)}

    return fit


def incremental() -> Fit:
    """Batches are read when their turn comes: the data are never in memory at once."""
    from sklearn.decomposition import IncrementalPCA
    from sklearn.utils import gen_batches

    def fit(task: Task) -> Spectra:
        pca = IncrementalPCA(task.n_components, copy=False)
        cuts = gen_batches(task.n_rows, INCREMENTAL_BATCH, min_batch_size=task.n_components)
        batches = [range(cut.start, cut.stop) for cut in cuts]
        for batch in batches:
            vectors = task.read(batch)
            with task.part("fit"):
                pca.partial_fit(vectors, check_input=False)
        scores = []
        for batch in batches:
            vectors = task.read(batch)
            with task.part("scores"):
                scores.append(pca.transform(vectors))
        return {"full": (pca.explained_variance_, np.concatenate(scores))}

    return fit


def svd_compressed() -> Fit:
    import dask
    import dask.array as da

    def fit(task: Task) -> Spectra:
        vectors = task.lazy()
        # A chunk holds every row, so that centring costs no second pass.
        about_mean = vectors.map_blocks(lambda block: block - block.mean(axis=0), dtype=np.float32)
        u, s, _ = da.linalg.svd_compressed(about_mean, task.n_components, n_power_iter=2, seed=SEED)
        with task.part("fit"), _dask_threads():
            u, s = dask.compute(u, s)
        return {"full": (s**2 / (task.n_rows - 1), u * s)}

    return fit


def dask_ml_pca(solver: str) -> Fit:
    import dask_ml.decomposition

    def fit(task: Task) -> Spectra:
        pca = dask_ml.decomposition.PCA(
            task.n_components, svd_solver=solver, iterated_power=2, random_state=SEED
        )
        vectors = task.lazy()
        with _dask_threads():
            with task.part("fit"):
                pca.fit(vectors)
            # What its transform does, which scikit-learn 1.9 broke; its fit_transform would
            # compute the decomposition a second time.
            with task.part("scores"):
                scores = ((vectors - pca.mean_) @ pca.components_.T).compute()
        return {"full": (pca.explained_variance_, scores)}

    return fit


@contextmanager
def _dask_threads() -> Iterator[None]:
    """A worker a core and one BLAS thread each: threads under threads are slower."""
    import dask

    with threadpool_limits(1), dask.config.set(scheduler="threads", num_workers=cpu_count()):
        yield


CONTESTANTS: dict[str, Callable[[], Fit]] = {
    "ours": ours,
    "sklearn-full": lambda: sklearn_pca("full"),
    "sklearn-randomized": lambda: sklearn_pca("randomized"),
    "sklearn-arpack": lambda: sklearn_pca("arpack"),
    "sklearn-incremental": incremental,
    "dask-svd-compressed": svd_compressed,
    "dask-ml-randomized": lambda: dask_ml_pca("randomized"),
    "dask-ml-tsqr": lambda: dask_ml_pca("tsqr"),
}
"""All methods by name, in the order of the table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path, help="directory for spectra.npz and times.json")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--components", type=int, required=True)
    parser.add_argument("--memory-gib", type=float, required=True)
    options = parser.parse_args()

    fit = CONTESTANTS[options.name]()
    store = AdapterStore.open(options.store)
    task = Task(store, options.rows, options.components, options.memory_gib)
    start = time.perf_counter()
    spectra = fit(task)
    times = {"wall_s": time.perf_counter() - start, "parts_s": task.parts_s}
    arrays = {
        f"{name}/{what}": array
        for name, pair in spectra.items()
        for what, array in zip(("variances", "scores"), pair, strict=True)
    }
    np.savez(options.out / "spectra.npz", allow_pickle=False, **arrays)
    # Last: a record of times says that the contestant finished.
    (options.out / "times.json").write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main()
