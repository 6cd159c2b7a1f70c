"""What `lorastyle compare` finds between adapters whose relation is known.

    python examples/verdict_thresholds.py --out runs/verdicts

Trains eight artists' adapters on the miniature five times: to steps 30, 50 and 60 from one shared
initial lora_A (noise is keyed by the step, so the shorter ones are checkpoints of the longest),
and to steps 50 and 60 from an initial lora_A each. Prints the percentiles of each score over
pairs of one training, of one artist and of two artists. The thresholds of
`lorastyle.search.verdicts` were read off this table and off the real files in docs/verdicts.md. A
quarter of an hour on two cores; stop it and run it again, and it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from lorastyle.adapters.updates import Adapter
from lorastyle.config import apply_overrides, parse_experiment
from lorastyle.distributed.pipeline import run_stages
from lorastyle.records import Role
from lorastyle.runs import Run
from lorastyle.search.verdicts import compare_adapters
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import stored_adapter

DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"
SIZES = ["n_artists=8", "protocol.train=8", "protocol.calibration=1"]
SIZES += [f"protocol.{role}=1" for role in ("val", "test")]
SIZES += [f"protocol.query_{role}=1" for role in ("calibration", "val", "test")]
TRAININGS = {
    "shared 60": [],
    "shared 50": ["n_steps=50"],
    "shared 30": ["n_steps=30"],
    "own 60": ["initialisation=independent"],
    "own 50": ["initialisation=independent", "n_steps=50"],
}
SCORES = ("cosine", "aligned_cosine", "factor_cosine")
PERCENTILES = (1, 5, 50, 95, 99)
N_PAIRS = 300

Adapters = dict[str, tuple[str, Adapter]]
Pair = tuple[Adapter, Adapter]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the five runs go")
    out = parser.parse_args().out
    trained = {name: adapters(out / name.replace(" ", "-"), name) for name in TRAININGS}
    print("| pairs | score | " + " | ".join(f"{one} %" for one in PERCENTILES) + " |")
    print("| --- | --- |" + " ---: |" * len(PERCENTILES))
    for name, pairs in relations(trained):
        found = [compare_adapters(*pair).scores for pair in pairs]
        for score in SCORES:
            values = np.percentile([one[score] for one in found], PERCENTILES)
            print(f"| {name} | {score} | " + " | ".join(f"{v:.2f}" for v in values) + " |")


def adapters(directory: Path, training: str) -> Adapters:
    """Artist and adapter by name, of the run's training adapters."""
    values = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    changes = [*SIZES, *TRAININGS[training]]
    run = Run.create(directory, parse_experiment(apply_overrides(values, changes)))
    run_stages(run, ("plan", "train"))
    store = AdapterStore.open(run.store_path)
    return {
        str(record.spec["adapter_id"]): (str(record.spec["artist"]), stored_adapter(store, row))
        for row, record in store.committed().items()
        if record.spec["role"] == Role.TRAIN.value
    }


def relations(trained: dict[str, Adapters]) -> Iterator[tuple[str, list[Pair]]]:
    for one, other in (
        ("shared 50", "shared 60"),
        ("shared 30", "shared 60"),
        ("own 50", "own 60"),
    ):
        pairs = [(trained[one][name][1], trained[other][name][1]) for name in trained[one]]
        yield f"one training: {one}, {other}", pairs
    for one, other in (("shared 60", "shared 60"), ("own 60", "own 60"), ("shared 60", "own 60")):
        for words, same in (("one artist", True), ("two artists", False)):
            yield f"{words}: {one}, {other}", some_pairs(trained[one], trained[other], same)


def some_pairs(left: Adapters, right: Adapters, same: bool) -> list[Pair]:
    found = [
        (adapter, other)
        for name, (artist, adapter) in left.items()
        for rival, (their_artist, other) in right.items()
        if name < rival and (artist == their_artist) == same
    ]
    chosen = np.random.default_rng(0).permutation(len(found))[:N_PAIRS]
    return [found[place] for place in chosen]


if __name__ == "__main__":
    main()
