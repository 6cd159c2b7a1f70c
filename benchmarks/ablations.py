"""Time the ablations of an embedded run at the paper's size.

    python -m benchmarks.ablations             63 artists, 2,709 adapters, one representation
    python -m benchmarks.ablations --small     a few artists: does it run at all

The Gram matrices are drawn (`benchmarks/sweep/planted.py`), not measured on a store. Seconds are of
the processor, of one process with as many threads as OMP_NUM_THREADS says; other programs do not
count.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.sweep.planted import planted_grams
from lorastyle.ablation.embedded import Embedded, ablate_embedded
from lorastyle.ablation.factors import FACTORS
from lorastyle.ablation.measuring import RememberingGrams
from lorastyle.ablation.request import Request
from lorastyle.ablation.tables import to_markdown
from lorastyle.config import parse_experiment
from lorastyle.evaluation.tables import markdown
from lorastyle.records import Role

USUAL = {"corpus": {"n_artists": 63}, "embedding": {"representations": ["factors"]}}
SMALL = {
    "corpus": {"n_artists": 4},
    "protocol": {"train": 8, "calibration": 2},
    "embedding": {"representations": ["factors"], "max_components": 5},
    "evaluation": {"n_kmeans_seeds": 2},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--small", action="store_true", help="a few artists, to see that it runs")
    experiment = parse_experiment(SMALL if parser.parse_args(arguments).small else USUAL)
    grams = RememberingGrams.of(planted_grams(experiment, 0, tuple(Role)))
    rows = [["factor", "values", "processor s"]]
    for factor in FACTORS.values():
        if not factor.needs_training:
            start = time.process_time()
            found = ablate_embedded(Embedded(grams, experiment), Request(factor))
            spent = time.process_time() - start
            print(to_markdown(found), file=sys.stderr)
            rows.append([factor.name, str(len(found.levels)), f"{spent:.1f}"])
    print(f"{len(grams.table):,} adapters\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
