"""Both contestants on the same Gram matrices, in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from benchmarks.sweep.plain import Settings, plain_curve
from lorastyle.config import Experiment
from lorastyle.distributed.environment import environment
from lorastyle.embedding.gram import GramSet
from lorastyle.evaluation.curves import clustering_curves, retrieval_curves
from lorastyle.evaluation.kmeans import k_means
from lorastyle.evaluation.protocol import ProtocolSettings, fit_setting
from lorastyle.evaluation.selection import evaluate_setting
from lorastyle.runs import Run, carry_out

SUB_NETWORKS = ("full", "feed_forward", "self_attention", "cross_attention")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
N_CORES = 2
REPEATS = 3


@dataclass(frozen=True)
class Ways:
    """How the plain loop can use the cores: processes, and threads of each."""

    name: str
    n_processes: int
    n_threads: int


WAYS = (Ways("two processes of one thread", N_CORES, 1), Ways("one process of two threads", 1, 2))


def plain_settings(experiment: Experiment, counts: Sequence[int] | None = None) -> Settings:
    """The experiment's numbers, for the plain loop."""
    ours = ProtocolSettings.of(experiment)
    return Settings(
        experiment.embedding.max_components,
        ours.n_seeds,
        experiment.protocol.calibration,
        ours.top_k,
        counts,
    )


def plain_trial(
    grams: Path, sub_network: str, settings: Settings
) -> tuple[pd.DataFrame, dict[str, float]]:
    """One sub-network by the plain loop: its curve, and the seconds of each step."""
    loaded = GramSet.load(grams)
    return plain_curve(loaded.matrix("factors", sub_network), loaded.table, settings)


def our_trial(grams: Path, sub_network: str, experiment: Experiment) -> pd.DataFrame:
    """One sub-network as a sweep's trial scores it."""
    loaded = GramSet.load(grams)
    found = evaluate_setting(loaded, None, "factors", sub_network, experiment)
    return pd.DataFrame(found["curves"][experiment.embedding.calibration_form])


def our_steps(grams: Path, sub_network: str, experiment: Experiment) -> dict[str, float]:
    """The seconds of each step of the same trial, done once more."""
    start = time.perf_counter()
    vectors = fit_setting(GramSet.load(grams), None, "factors", sub_network, experiment).vectors
    fitted = time.perf_counter()
    settings = ProtocolSettings.of(experiment)
    clustering, retrieval = vectors["clustering"], vectors["retrieval"]
    clustering_curves(clustering.fit, {"val": clustering.held_out["val"]}, settings.n_seeds)
    clustered = time.perf_counter()
    retrieval_curves(retrieval.fit, {"val": retrieval.held_out["val"]}, settings.top_k)
    return {
        "spaces": fitted - start,
        "clustering": clustered - fitted,
        "retrieval": time.perf_counter() - clustered,
    }


def whole_sweep(run: Run) -> Mapping[str, Any]:
    """The stage `sweep` on a run whose Gram matrices are there: Ray's start, choice, figures.

    Returns its record. Raises StageError where a trial fails.
    """
    from lorastyle.distributed.sweep import sweep

    return dict(sweep(run).outputs)


def embedded_run(directory: Path, grams: GramSet, experiment: Experiment) -> Run:
    """A run that was embedded as far as a sweep can see: matrices and their manifest."""
    run = Run.create(directory, experiment)

    def save() -> dict[str, str]:
        grams.save(run.embedding_path)
        return {"planted": grams.digest()}

    carry_out(run, "embed", {}, save)
    return run


def summed(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of each step, over all sub-networks."""
    return {name: sum(one[name] for one in steps) for name in steps[0]}


def fastest_way(grams: Path, settings: Settings) -> tuple[Ways, dict[str, float]]:
    """How the plain loop is faster, on some of the PC counts of two sub-networks; seconds."""
    seconds = {}
    for way in WAYS:
        arguments = [(grams, name, settings) for name in SUB_NETWORKS[:N_CORES]]
        _, seconds[way.name] = timed(plain_trial, arguments, way.n_processes, way.n_threads)
    return min(WAYS, key=lambda way: seconds[way.name]), seconds


def timed(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    n_processes: int,
    n_threads: int,
) -> tuple[list[Any], float]:
    """Results, and wall seconds from when all processes have imported what they need."""
    with (
        environment(dict.fromkeys(THREADS, str(n_threads))),
        ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool,
    ):
        list(pool.map(_wait, [0.2] * n_processes))
        start = time.perf_counter()
        results = list(pool.map(function, *zip(*arguments, strict=True)))
        return results, time.perf_counter() - start


def _wait(seconds: float) -> None:
    # Long enough that each process takes one; both have imported this module by then.
    time.sleep(seconds)


def k_means_times(
    grams: Path, experiment: Experiment, counts: Sequence[int]
) -> list[dict[str, Any]]:
    """Milliseconds of all seeds of one PC count, the best of some repeats, alone in a process."""
    setting = fit_setting(GramSet.load(grams), None, "factors", "full", experiment)
    fit = setting.vectors["clustering"].fit
    n_clusters, n_seeds = len(set(fit.artists)), ProtocolSettings.of(experiment).n_seeds
    rows = []
    for count in counts:
        vectors = np.ascontiguousarray(fit.vectors[:, :count])
        theirs = _best_ms(_scikit_learns, vectors, n_clusters, n_seeds)
        ours = _best_ms(k_means, vectors, n_clusters, range(n_seeds))
        rows.append({"n_components": count, "scikit_learn_ms": theirs, "ours_ms": ours})
    return rows


def _scikit_learns(vectors: np.ndarray, n_clusters: int, n_seeds: int) -> None:
    for seed in range(n_seeds):
        KMeans(n_clusters, n_init=1, random_state=seed).fit(vectors)


def _best_ms(function: Callable[..., object], *arguments: Any) -> float:
    best = np.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(*arguments)
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def largest_differences(
    ours: Sequence[pd.DataFrame], plain: Sequence[pd.DataFrame]
) -> dict[str, float]:
    """The largest difference of each score that both have, over PC counts and sub-networks."""
    columns = [name for name in plain[0] if name != "n_components"]
    differences = dict.fromkeys(columns, 0.0)
    for mine, theirs in zip(ours, plain, strict=True):
        both = theirs.set_index("n_components")
        same = mine.set_index("n_components").loc[both.index, columns]
        for name, value in (same - both).abs().max().items():
            differences[str(name)] = max(differences[str(name)], float(value))
    return differences
