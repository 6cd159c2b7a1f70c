"""Time the stage `evaluate` at the paper's size, given the Gram matrices.

    python -m benchmarks.evaluate             63 artists x 43 adapters, 4 sub-networks
    python -m benchmarks.evaluate --json      the same as one document
    python -m benchmarks.evaluate --small     a few artists: does it run at all

The stage is timed twice: after a sweep, whose PC counts it takes, and without one, where it scores
every PC count on validation itself. Then its parts, of one sub-network: the intervals, and the
similarity of embeddings with six image features of 768 numbers. Matrices are drawn
(`sweep/planted.py`), with test adapters; image features are left out of the stage, since reading
images is what they cost. In CPU time other programs matter less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np
import yaml

from benchmarks.pca import machine
from benchmarks.sweep.planted import planted_grams
from lorastyle.config import Experiment, parse_experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.evaluation.agreement import contingencies, encode, without_each_truth
from lorastyle.evaluation.clustering import cluster_scores
from lorastyle.evaluation.drift import calibration_table
from lorastyle.evaluation.likeness import similarity_table
from lorastyle.evaluation.protocol import ProtocolSettings, fit_setting, retrieval_entry
from lorastyle.evaluation.retrieval import intervals, retrieve
from lorastyle.evaluation.selection import evaluate_setting
from lorastyle.evaluation.stage import evaluate
from lorastyle.evaluation.sweep_choice import choose_best, results_table
from lorastyle.evaluation.swept import BEST_FILE, RESULTS_FILE, current_inputs, own_setting
from lorastyle.records import Role
from lorastyle.runs import Run, carry_out

REPOSITORY = Path(__file__).resolve().parents[1]
SEED = 0
N_FEATURES, WIDTH = 6, 768
TARGET_S = 120.0
USUAL: dict[str, Any] = {
    "corpus": {"n_artists": 63},
    "embedding": {"representations": ["factors"]},
    "evaluation": {"features": []},
}
SMALL: dict[str, Any] = {
    "corpus": {"n_artists": 4},
    "protocol": {"train": 8, "calibration": 2, "query_val": 2, "query_test": 2},
    "embedding": {"representations": ["factors"], "max_components": 5},
    "evaluation": {"n_kmeans_seeds": 2, "features": []},
}


@dataclass(frozen=True)
class Timed:
    """What a call gave, and its seconds: on the clock, and of the processor."""

    result: Any
    wall_s: float
    cpu_s: float

    @classmethod
    def call(cls, function: Callable[..., Any], *arguments: Any) -> Timed:
        start, busy = time.perf_counter(), time.process_time()
        result = function(*arguments)
        return cls(result, time.perf_counter() - start, time.process_time() - busy)

    @property
    def seconds(self) -> dict[str, float]:
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--small", action="store_true", help="a few artists, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args(arguments)
    document = measure(parse_experiment(SMALL if options.small else USUAL))
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def measure(experiment: Experiment) -> dict[str, Any]:
    """The stage with and without a sweep, and its parts."""
    grams = planted_grams(experiment, SEED, tuple(Role))
    with tempfile.TemporaryDirectory() as directory:
        run = embedded_run(Path(directory), grams, experiment)
        without = Timed.call(evaluate, run)
        pretend_sweep(run)
        after = Timed.call(lambda: evaluate(run, force=True))
        metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
        n_bytes = run.metrics_path.stat().st_size
    entry = metrics["clustering"]["factors/full"], metrics["retrieval"]["factors/full"]
    return {
        "machine": machine.describe(REPOSITORY),
        "settings": {
            "adapters": len(grams.table),
            "artists": experiment.corpus.n_artists,
            "components": experiment.embedding.max_components,
            "seeds": experiment.evaluation.n_kmeans_seeds,
            "sub_networks": list(metrics["clustering"]),
        },
        "after_a_sweep": after.seconds,
        "without_a_sweep": without.seconds,
        "parts_cpu_s": parts(grams, experiment),
        "peak_gib": getrusage(RUSAGE_SELF).ru_maxrss / 2**20,
        "metrics_bytes": n_bytes,
        "full": {
            "n_components": [one["n_components"] for one in entry],
            "test": [one["test"] for one in entry],
            "floor": metrics["floor"],
        },
    }


def embedded_run(directory: Path, grams: GramSet, experiment: Experiment) -> Run:
    """A run that was planned and embedded as far as `evaluate` can see."""
    run = Run.create(directory / "run", experiment)
    carry_out(run, "plan", {}, dict)

    def save() -> dict[str, str]:
        grams.save(run.embedding_path)
        return {"planted": grams.digest()}

    carry_out(run, "embed", {}, save)
    return run


def pretend_sweep(run: Run) -> None:
    """The files of a sweep of the embedding's settings, made here without Ray."""
    grams, experiment = GramSet.load(run.embedding_path), run.experiment
    names = experiment.embedding.sub_networks
    settings = [own_setting(experiment, "factors", name) for name in names]
    found = [
        {"share": 1.0, **evaluate_setting(grams, None, "factors", name, experiment)}
        for name in names
    ]
    run.sweep_path.mkdir()
    results_table(settings, found).to_parquet(run.sweep_path / RESULTS_FILE)
    best = choose_best(settings, found, experiment)
    (run.sweep_path / BEST_FILE).write_text(yaml.safe_dump(best), encoding="utf-8")
    run.finish("sweep", current_inputs(run), {}, 0.0)


def parts(grams: GramSet, experiment: Experiment) -> dict[str, float]:
    """Seconds of the processor for each step of the full network."""
    protocol = ProtocolSettings.of(experiment)
    fit = Timed.call(fit_setting, grams, None, "factors", "full", experiment)
    setting, seconds = fit.result, {"spaces": fit.cpu_s}
    clustering, retrieval = setting.vectors["clustering"], setting.vectors["retrieval"]
    scored = Timed.call(cluster_scores, clustering.fit, clustering.parts, protocol.n_seeds)
    seconds["clustering, all components"] = scored.cpu_s
    test = encode(clustering.held_out["test"].artists)
    tables = contingencies(test, np.tile(test, (protocol.n_seeds, 1)))
    seconds["of it: jackknife of one set"] = Timed.call(without_each_truth, tables).cpu_s
    entry = Timed.call(retrieval_entry, retrieval, protocol, "euclidean")
    seconds["retrieval, all components"] = entry.cpu_s
    scores = retrieve(retrieval.fit, retrieval.held_out, protocol.top_k, "euclidean")["test"]
    artists = retrieval.held_out["test"].artists
    seconds["of it: bootstrap of one set"] = Timed.call(intervals, scores, artists).cpu_s
    seconds["calibration and drift"] = Timed.call(calibration_table, setting).cpu_s
    rng = np.random.default_rng(SEED)
    features = {
        f"feature-{i}": rng.normal(size=(len(grams.table), WIDTH)) for i in range(N_FEATURES)
    }
    names = grams.table["adapter_id"].tolist()
    space = setting.spaces["retrieval"]
    alike = Timed.call(similarity_table, "factors/full", space, features, names)
    seconds[f"similarity, {N_FEATURES} features of {WIDTH}"] = alike.cpu_s
    return seconds


def render(document: dict[str, Any]) -> str:
    """The document as text for people."""
    settings, where = document["settings"], document["machine"]
    ours = document["full"]
    clustering, retrieval = ours["test"]
    return "\n".join(
        [
            f"{len(settings['sub_networks'])} sub-networks of {settings['adapters']:,} adapters, "
            f"{settings['artists']} artists, {settings['components']} components, "
            f"{settings['seeds']} seeds",
            f"{where['date']}, commit {where['commit']}, {where['cores']} cores, "
            f"{where['processor']}, {where['memory_gb']:.0f} GB, load {where['load_average']:.1f}",
            ", ".join(f"{name} {version}" for name, version in where["versions"].items()),
            "",
            "| evaluate | wall s | CPU s | target |",
            "| --- | ---: | ---: | ---: |",
            f"| after a sweep | {_seconds(document['after_a_sweep'])} | {TARGET_S:.0f} |",
            f"| without one: every PC count too | {_seconds(document['without_a_sweep'])} | |",
            "",
            "| part, full network | CPU s |",
            "| --- | ---: |",
            *(f"| {name} | {seconds:.2f} |" for name, seconds in document["parts_cpu_s"].items()),
            "",
            f"Peak memory {document['peak_gib']:.1f} GiB, metrics.json "
            f"{document['metrics_bytes'] / 1024:.0f} KiB.",
            f"Full network at {ours['n_components']} components, test: ARI "
            f"{clustering['ari']['mean']:.3f} {_ends(clustering['ci']['ari'])}, mAP "
            f"{retrieval['map']:.3f} {_ends(retrieval['ci']['map'])}; by queries "
            f"{_ends(retrieval['ci_queries']['map'])}.",
            "Chance: NMI " + f"{ours['floor']['clustering']['test']['nmi']:.3f}, mAP "
            f"{ours['floor']['retrieval']['test']['map']:.3f}.",
        ]
    )


def _seconds(taken: dict[str, float]) -> str:
    return f"{taken['wall_s']:.1f} | {taken['cpu_s']:.1f}"


def _ends(interval: Sequence[float]) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"


if __name__ == "__main__":
    main()
