from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.distributed import pipeline
from lorastyle.distributed.pipeline import run_stages
from lorastyle.distributed.session import Session
from lorastyle.errors import StageError
from lorastyle.runs import STAGES, Run, StageOutcome


def test_an_unknown_stage_is_named(trained_run: Run) -> None:
    with pytest.raises(StageError, match="no stage 'trian'; choose from plan, train"):
        run_stages(trained_run, ["plan", "trian"])


def test_stages_run_in_the_order_of_a_run_with_one_session(
    trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Session]] = []

    def record(run: Run, stage: str, session: Session, **options: bool) -> StageOutcome:
        assert options == {"force": False, "train_missing": True}
        seen.append((stage, session))
        return StageOutcome(stage, False, 0.0, {})

    monkeypatch.setattr(pipeline, "run_stage", record)
    told: list[str] = []
    outcomes = run_stages(trained_run, STAGES[::-1], train_missing=True, on_start=told.append)
    assert [outcome.stage for outcome in outcomes] == told == list(STAGES)
    assert len({id(session) for _, session in seen}) == 1


@pytest.mark.ray
def test_a_whole_run_leaves_every_output_and_then_has_nothing_to_do(
    local_ray: Session, trained_run: Run
) -> None:
    outcomes = run_stages(trained_run)
    assert [outcome.skipped for outcome in outcomes] == [True, True, False, False, False, False]
    for path in (trained_run.metrics_path, trained_run.report_path / "index.html"):
        assert Path(path).stat().st_size > 0
    assert all(outcome.skipped for outcome in run_stages(trained_run))


def test_a_stage_that_is_too_early_says_what_comes_first(tmp_path: Path, trained: Path) -> None:
    run = Run.create(tmp_path / "new", Run.open(trained).experiment)
    with pytest.raises(StageError, match="no finished 'plan' stage"):
        run_stages(run, ["train"])
