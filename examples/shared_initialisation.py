"""Does it matter that adapters start from the same lora_A?

    python examples/shared_initialisation.py --out runs/initialisation

Trains the demo's adapters twice, once from one shared initial lora_A and once each from its own,
and scores the flattened factors and the update dW = (alpha / r) B A. The paper trains from a shared
start without saying so; adapters found in the wild have no such luck. A quarter of an hour on two
cores; stop it and run it again, and it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from lorastyle.config import Experiment, apply_overrides, parse_experiment
from lorastyle.distributed.pipeline import run_stages
from lorastyle.runs import Run

STAGES = ("plan", "train", "embed", "evaluate")
DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the two runs go")
    out = parser.parse_args().out
    print("| initial lora_A | representation | ARI train | ARI test | mAP test |")
    print("| --- | --- | ---: | ---: | ---: |")
    for initialisation in ("shared", "independent"):
        run = Run.create(out / initialisation, experiment(initialisation))
        run_stages(run, STAGES)
        metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
        for representation in ("factors", "delta"):
            print(row(initialisation, f"{representation}/full", metrics), flush=True)


def experiment(initialisation: str) -> Experiment:
    values = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    overrides = [f"initialisation={initialisation}", "embedding.sub_networks=[full]"]
    return parse_experiment(apply_overrides(values, overrides))


def row(initialisation: str, setting: str, metrics: dict) -> str:  # type: ignore[type-arg]
    clustering, retrieval = metrics["clustering"][setting], metrics["retrieval"][setting]
    scores = (
        clustering["train"]["ari"]["mean"],
        clustering["test"]["ari"]["mean"],
        retrieval["test"]["map"],
    )
    return f"| {initialisation} | {setting} | " + " | ".join(f"{s:.3f}" for s in scores) + " |"


if __name__ == "__main__":
    main()
