from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def manifest(run: Path, stage: str) -> dict[str, Any]:
    return dict(json.loads((run / "manifests" / f"{stage}.json").read_text()))


def test_the_whole_pipeline_as_a_submitted_job_and_then_stage_by_stage(
    head: Any, config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = head.submit("-m", "jobs.run", "--config", config, "--run", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert manifest(run, "train")["outputs"]["by_status"] == {"ok": 12}
    assert (run / "report" / "index.html").is_file()

    # The same job again joins the same cluster and finds nothing to do.
    again = head.submit("-m", "jobs.train", "--config", config, "--run", run)
    assert again.returncode == 0 and "train: was done already" in again.stdout

    failed = head.submit("-m", "jobs.train", "--config", config, "--run", tmp_path / "unplanned")
    assert failed.returncode != 0
    assert "no finished 'plan' stage" in failed.stdout + failed.stderr
