"""A run whose stages are pretended, so that the command line is tested by itself."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lorastyle.cli.main import main
from lorastyle.runs import STAGES, carry_out, write_json

METRICS = {
    "clustering": {
        "factors/full": {
            "n_components": 12,
            "train": {"ari": {"mean": 0.86, "std": 0.02}},
            "val": {"ari": {"mean": 0.6, "std": 0.02}},
            "test": {"ari": {"mean": 0.59, "std": 0.02}},
        }
    },
    "retrieval": {"factors/full": {"n_components": 14, "test": {"map": 0.5, "recall_at_k": 0.4}}},
    "features": {},
    "protocol": {"n_artists": 12, "k": 8},
}
OUTPUTS = {
    "plan": {"n_artists": 12, "n_images": 720, "n_adapters": 216},
    "train": {"n_adapters": 216, "d": 46080, "by_status": {"ok": 215, "non_finite": 1}},
    "report": {"page": "report/index.html"},
}


@pytest.fixture
def pretended(monkeypatch):
    """Replace the pipeline; returns the list of (stage, force) that were carried out."""
    called = []

    def run_stages(
        run, stages, *, force=False, train_missing=False, on_start=None, on_outcome=None
    ):
        outcomes = []
        for stage in (stage for stage in STAGES if stage in stages):
            called.append((stage, force))
            print(f"a library talks during {stage}")
            if stage == "evaluate":
                write_json(run.metrics_path, METRICS)
            record = OUTPUTS.get(stage, {})
            outcome = carry_out(run, stage, {"seed": 1}, lambda record=record: record, force=force)
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(outcome)
        return outcomes

    monkeypatch.setattr("lorastyle.distributed.pipeline.run_stages", run_stages)
    return called


@pytest.fixture
def lorastyle(tmp_path, monkeypatch):
    """`lorastyle("run", ...)` in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("name: small\ntraining: {rank: 4}\n")
    return path
