"""Generated images and features that are there before the evaluation looks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lorastyle.config import Experiment, GenerationConfig, parse_experiment
from lorastyle.distributed import pictures
from lorastyle.distributed.pictures import encode_on_actors
from lorastyle.distributed.pipeline import run_stage
from lorastyle.distributed.session import Session
from lorastyle.evaluation import encoding, image_features
from lorastyle.evaluation.encoding import Encoding, Generated, Originals, feature_of
from lorastyle.evaluation.scenarios import SCENARIOS
from lorastyle.features.simple import PixelMean
from lorastyle.generation.kept import GeneratedImages
from lorastyle.runs import Run


@pytest.fixture
def run(trained_run: Run) -> Run:
    """Embedded, with generated images to be scored: one step of sampling is enough here."""
    from lorastyle.embedding.stage import embed

    values = trained_run.experiment.model_dump(mode="json")
    values["evaluation"] |= {"generated": True, "features": ["pixel_mean", "colour_histogram"]}
    values["generation"] = GenerationConfig(sampling_steps=1).model_dump(mode="json")
    experiment: Experiment = parse_experiment(values)
    trained_run.config_path.write_text(experiment.to_yaml())
    run = replace(trained_run, experiment=experiment)
    embed(run)
    return run


@pytest.mark.ray
def test_all_scenarios_are_scored_on_images_that_actors_made(
    local_ray: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "CHUNK", 20)
    assert not run_stage(run, "evaluate", local_ray).skipped
    metrics = json.loads(run.metrics_path.read_text())
    for entry in metrics["features"].values():
        assert set(entry["retrieval"]) == set(SCENARIOS)
    queries = pd.read_parquet(run.evaluation_path / "queries.parquet")
    kept = queries[queries["feature"] == "pixel_mean"].groupby(["scenario", "role"]).size()
    # Three artists with one query of each kind.
    assert kept.to_dict() == {(s, r): 3 for s in SCENARIOS for r in ("query_val", "query_test")}
    assert run_stage(run, "evaluate", local_ray).skipped

    # An adapter's vector is the mean over the images it made, by hand.
    table = pd.DataFrame({"row": [4, 0, 23], "role": ["train", "val", "query_test"]})
    found = image_features._generated_vectors(Generated(run, [4, 23]), "pixel_mean", table)
    images = GeneratedImages.of(run).read([4, 23])
    expected = [np.mean([PixelMean().encode(one[None])[0] for one in each], 0) for each in images]
    assert found is not None
    np.testing.assert_allclose(found[[0, 2]], expected, atol=1e-6)
    assert not found[1].any()


@pytest.mark.ray
def test_actors_encode_what_the_evaluation_then_finds(
    local_ray: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorastyle.distributed.generating import generate_images

    rows = [0, 1, 2]
    generate_images(run, rows, session=local_ray)
    encode_on_actors(run, rows, local_ray)
    for name in run.experiment.evaluation.features:
        for generated in (False, True):
            seen = Generated(run, rows) if generated else Originals.of(run)
            made = pictures._encoding(seen, name, generated)
            assert made.missing() == []
            monkeypatch.setattr(Encoding, "_kept", property(lambda self: Nothing()))
            alone = Encoding(run, feature_of(run, name, generated=generated), seen).read()
            monkeypatch.undo()
            np.testing.assert_allclose(made.read(), alone, atol=1e-6)


class Nothing:
    """Keeps nothing."""

    def has(self, name: str) -> bool:
        return False

    def find(self, name: str) -> None:
        return None

    def keep(self, name: str, array: object) -> None: ...
