"""Sister runs of an ablation: trained once, beside the run."""

from __future__ import annotations

import pytest

from lorastyle.ablation.factors import FACTORS
from lorastyle.ablation.request import Request
from lorastyle.corpus.stage import read_plan
from lorastyle.distributed.ablating import ablate
from lorastyle.distributed.session import Session
from lorastyle.embedding.stage import embed
from lorastyle.evaluation.chosen import embedded_grams
from lorastyle.evaluation.selection import evaluate_setting
from lorastyle.runs import Run

pytestmark = pytest.mark.ray


def test_fewer_images_are_trained_once_on_the_same_images(
    local_ray: Session, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(trained_run)
    request = Request(FACTORS["images"], ("2", "4"), representations=("delta",))
    told: list[str] = []
    found = ablate(trained_run, request, session=local_ray, tell=told.append)
    assert len(told) == 1 and "images 2: 1 x 24 adapters" in told[0]
    sister = Run.open(trained_run.directory / "ablations" / "images" / "2")
    for ours, theirs in zip(read_plan(trained_run), read_plan(sister), strict=True):
        assert (ours.adapter_id, ours.noise_seed) == (theirs.adapter_id, theirs.noise_seed)
        assert len(theirs.image_ids) == 2
    trained = sister.manifest("train")
    assert trained is not None and trained["outputs"]["by_status"] == {"ok": 24}
    # The scores are those of each run's adapters alone.
    for level, run in zip(found.levels, (sister, trained_run), strict=True):
        grams = embedded_grams(run)
        curves = evaluate_setting(grams, None, "delta", "full", trained_run.experiment)["curves"]
        (entry,) = level.entries["retrieval"]
        assert entry["val"]["map"] == curves["full"][entry["n_components"] - 1]["map"]

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("an adapter was trained again")

    monkeypatch.setattr("lorastyle.distributed.fleet._train", forbidden)
    again = ablate(trained_run, request, session=local_ray, tell=told.append)
    assert again.to_dict() == found.to_dict()
    assert len(told) == 1
