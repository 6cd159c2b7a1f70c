"""A run of ingested adapters is measured and reported like one of trained adapters."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import embed
from lorastyle.evaluation.stage import evaluate
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.labels import Label
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.records import Role
from lorastyle.report.stage import report
from lorastyle.runs import Run
from tests.wild import ARTISTS, flat

HOSTILE = "<script>alert(1)</script>"
NAMES = {"anna": HOSTILE, "bela": "Béla & Co", "chen": "chen"}
COUNTS = {Role.TRAIN: 5, Role.VAL: 2, Role.TEST: 2, Role.QUERY_VAL: 2, Role.QUERY_TEST: 2}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, painter) -> tuple[Run, dict[str, Label], Path]:
    """Three artists with all roles, and two adapters whose artist nobody knows."""
    place = tmp_path_factory.mktemp("measured")
    labels: dict[str, Label] = {}
    seed = 0
    for artist in ARTISTS:
        for role, count in COUNTS.items():
            for index in range(count):
                seed += 1
                file = f"{artist}-{role}-{index}.safetensors"
                adapter = painter.adapter(artist, seed, (2, 4, 8)[seed % 3], noise=0.8)
                write_adapter(adapter, place / "in" / file, "kohya")
                labels[file] = Label(NAMES[artist], "still life", role)
    for index in range(2):
        write_adapter(painter.adapter("anna", 900 + index), place / "in" / f"x{index}.pt", "kohya")
    overrides = ["embedding.sub_networks=[full]", "evaluation.n_kmeans_seeds=2"]
    run = Run.create(place / "run", experiment_for_adapters("run", "miniature", overrides))
    ingest(run, find_candidates([place / "in"]), labels)
    embed(run)
    evaluate(run)
    report(run)
    return run, labels, place / "in"


def test_scores_are_those_of_the_updates_themselves(measured):
    run, labels, folder = measured
    metrics = json.loads(run.metrics_path.read_text())
    entry = metrics["retrieval"]["delta/full"]
    assert metrics["features"] == {} and entry["test"]["n_queries"] == 6
    files = {file: flat(read_adapter(folder / file)) for file in sorted(labels)}
    unknown = [flat(read_adapter(path)) for path in sorted(folder.glob("x*.pt"))]
    units = {file: vector / np.linalg.norm(vector) for file, vector in files.items()}
    gallery = [file for file in files if labels[file].role is Role.TRAIN]
    # PCA of all that is fitted on, the unlabelled too; scores of the labelled only.
    fit = np.stack([units[file] for file in gallery] + [v / np.linalg.norm(v) for v in unknown])
    mean = fit.mean(axis=0)
    components = np.linalg.svd(fit - mean, full_matrices=False)[2][: entry["n_components"]]
    place = {file: components @ (vector - mean) for file, vector in units.items()}
    scores = [
        average_precision_score(
            [labels[other].artist == labels[file].artist for other in gallery],
            [-np.linalg.norm(place[other] - place[file]) for other in gallery],
        )
        for file in files
        if labels[file].role is Role.QUERY_TEST
    ]
    assert entry["test"]["map"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_the_unlabelled_shape_the_space_and_are_measured_nowhere(measured):
    run, _, _ = measured
    assert len(GramSet.load(run.embedding_path).table) == 3 * sum(COUNTS.values()) + 2
    metrics = json.loads(run.metrics_path.read_text())
    assert metrics["clustering"]["delta/full"]["train"]["ari"]["mean"] == pytest.approx(1)
    assert set(metrics["clustering"]) == {"delta/full", "delta-aligned/full"}


def test_the_page_shows_names_of_strangers_as_text(measured):
    run, _, _ = measured
    page = (run.report_path / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "unlabelled" in page
