"""Time a sweep's trials against the plain loop of scikit-learn calls.

    python -m benchmarks.sweep             63 artists, 4 sub-networks, 100 PC counts, 10 seeds
    python -m benchmarks.sweep --json      the same as one document
    python -m benchmarks.sweep --small     a few artists: does it run at all

Both score clustering and retrieval on validation for every PC count, on two cores. The plain loop
(`plain.py`) has two processes of one thread or one of two, whichever is faster on a part. Ours is
what a trial calls, `evaluate_setting`, in two processes of one thread. Interpreters and imports
are not timed. The whole stage is timed too, with Ray's start, the choice and the figures. The
Gram matrices are drawn (`planted.py`), not measured on a store.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pca import machine
from benchmarks.sweep import contest
from benchmarks.sweep.planted import planted_grams
from benchmarks.sweep.table import render
from lorastyle.config import Experiment, parse_experiment

REPOSITORY = Path(__file__).resolve().parents[2]
SEED = 0
PART = 5
"""PC counts by which the plain loop's way is chosen."""
USUAL: dict[str, Any] = {
    "corpus": {"n_artists": 63},
    "embedding": {"representations": ["factors"]},
}
SMALL: dict[str, Any] = {
    "corpus": {"n_artists": 4},
    "protocol": {"train": 8, "calibration": 2, "query_val": 2},
    "embedding": {"representations": ["factors"], "max_components": 5},
    "evaluation": {"n_kmeans_seeds": 2},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--small", action="store_true", help="a few artists, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args(arguments)
    document = _measure(parse_experiment(SMALL if options.small else USUAL))
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def _measure(experiment: Experiment) -> dict[str, Any]:
    most = experiment.embedding.max_components
    with tempfile.TemporaryDirectory() as directory:
        planted = planted_grams(experiment, SEED)
        run = contest.embedded_run(Path(directory), planted, experiment)
        grams = run.embedding_path
        _say("the plain loop, on a part")
        some = np.linspace(1, most, PART).round().astype(int).tolist()
        way, ways = contest.fastest_way(grams, contest.plain_settings(experiment, some))
        _say(f"the plain loop, in {way.name}")
        settings = contest.plain_settings(experiment)
        names = contest.SUB_NETWORKS
        arguments = [(grams, name, settings) for name in names]
        plain, plain_s = contest.timed(
            contest.plain_trial, arguments, way.n_processes, way.n_threads
        )
        _say("ours")
        arguments = [(grams, name, experiment) for name in names]
        ours, ours_s = contest.timed(contest.our_trial, arguments, contest.N_CORES, 1)
        _say("ours, step by step")
        steps, _ = contest.timed(contest.our_steps, arguments, contest.N_CORES, 1)
        _say("the whole stage, with Ray")
        (stage,), stage_s = contest.timed(contest.whole_sweep, [(run,)], 1, 1)
        _say("k-means alone")
        counts = sorted({max(1, most // 10), max(1, most // 2), most})
        (means,), _ = contest.timed(contest.k_means_times, [(grams, experiment, counts)], 1, 1)
    curves = [curve for curve, _ in plain]
    return {
        "machine": machine.describe(REPOSITORY),
        "settings": {
            "adapters": len(planted.table),
            "artists": experiment.corpus.n_artists,
            "components": most,
            "seeds": experiment.evaluation.n_kmeans_seeds,
            "sub_networks": list(names),
        },
        "plain": {
            "way": way.name,
            "part_s": ways,
            "wall_s": plain_s,
            "steps_s": contest.summed([seconds for _, seconds in plain]),
        },
        "ours": {"wall_s": ours_s, "steps_s": contest.summed(steps)},
        "stage": {"wall_s": stage_s, "n_points": stage["n_points"]},
        "ratio": plain_s / ours_s,
        "k_means": means,
        "differences": contest.largest_differences(ours, curves),
        "best": {
            name: {
                column: float(curve[column].max())
                for column in ("ari_mean", "train_ari_mean", "map")
            }
            for name, curve in zip(names, curves, strict=True)
        },
    }


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
