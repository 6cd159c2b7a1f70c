"""Regularisation images of the user's: read with distrust, and never pictures of the corpus."""

from __future__ import annotations

import csv
import shutil

import pytest

from lorastyle.corpus.regularisation import read_regularisation, regularisation_root
from lorastyle.corpus.stage import plan, read_catalogue
from lorastyle.errors import CorpusError, StageError
from lorastyle.runs import Run


@pytest.fixture
def corpus(make_folder):
    return make_folder({"monet": 12, "degas": 12})


@pytest.fixture
def pictures(tmp_path, paint, corpus):
    """Four images that can be used, and four that cannot."""
    folder = tmp_path / "class"
    paint(folder / "a.png", 50_001)
    paint(folder / "deep" / "er" / "b.png", 50_002)
    paint(folder / "c.png", 50_003)
    paint(folder / "d.png", 50_004)
    paint(folder / "small.png", 50_005, size=(8, 40))
    paint(folder / "twice.png", 50_001)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:200])
    shutil.copy(corpus / "monet" / "000.png", folder / "stolen.png")
    (folder / "c.txt").write_text("a harbour, painted by Monet")
    (folder / "d.txt").write_text("Monet")
    return folder


@pytest.fixture
def run_of(tmp_path, experiment, corpus):
    def make(where=None, **training):
        return Run.create(where or tmp_path / "run", experiment(corpus, training=training))

    return make


def left_out(run):
    with (run.directory / "left_out.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def test_usable_pictures_are_found_and_the_others_named(run_of, pictures):
    run = run_of(prior_weight=1.0, prior_images=str(pictures), prior_caption="a scene")
    outcome = plan(run, image_size=16)
    table = read_regularisation(run)
    assert dict(zip(table["path"], table["caption"], strict=True)) == {
        "a.png": "a scene",
        "c.png": "a harbour",
        "d.png": "a scene",
        "deep/er/b.png": "a scene",
    }
    assert regularisation_root(run) == pictures
    reasons = left_out(run)
    assert set(reasons) == {
        f"regularisation/{name}.png" for name in ("small", "twice", "broken", "stolen")
    }
    assert "8 x 40 is below 16" in reasons["regularisation/small.png"]
    assert "the same picture as a.png" in reasons["regularisation/twice.png"]
    assert "cannot be decoded" in reasons["regularisation/broken.png"]
    assert "monet/000.png of the corpus" in reasons["regularisation/stolen.png"]
    assert outcome.outputs["n_regularisation_images"] == 4


def test_without_a_prior_the_folder_is_not_looked_at(run_of, tmp_path):
    run = run_of(prior_weight=0.0, prior_images=str(tmp_path / "nowhere"))
    plan(run, image_size=16)
    assert read_regularisation(run) is None
    assert not run.regularisation_table_path.exists()


def test_plans_without_such_a_folder_are_what_they_were(run_of, pictures, tmp_path):
    plain = plan(run_of(tmp_path / "plain"), image_size=16)
    prior = plan(run_of(tmp_path / "prior", prior_weight=1.0), image_size=16)
    assert plain.outputs == prior.outputs
    given = run_of(tmp_path / "given", prior_weight=1.0, prior_images=str(pictures))
    outputs = plan(given, image_size=16).outputs
    assert {key: outputs[key] for key in ("catalogue", "plan")} == {
        key: plain.outputs[key] for key in ("catalogue", "plan")
    }


def test_another_picture_makes_the_plan_stale(run_of, pictures, paint):
    run = run_of(prior_weight=1.0, prior_images=str(pictures))
    plan(run, image_size=16)
    assert plan(run, image_size=16).skipped
    paint(pictures / "new.png", 50_009)
    with pytest.raises(StageError, match="regularisation"):
        plan(run, image_size=16)
    plan(run, image_size=16, force=True)
    assert len(read_regularisation(run)) == 5


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_pictures_is_refused(run_of, tmp_path, name):
    (tmp_path / "empty").mkdir()
    run = run_of(prior_weight=1.0, prior_images=str(tmp_path / name))
    with pytest.raises(CorpusError, match=r"training\.prior_images"):
        plan(run, image_size=16)


def test_a_link_out_of_the_folder_is_not_followed(run_of, pictures, paint, tmp_path):
    paint(tmp_path / "private.png", 50_050)
    (pictures / "link.png").symlink_to(tmp_path / "private.png")
    run = run_of(prior_weight=1.0, prior_images=str(pictures))
    plan(run, image_size=16)
    assert "outside" in left_out(run)["regularisation/link.png"]


def test_a_run_in_a_bucket_has_copies_for_every_machine(
    run_of, pictures, machines, tmp_path, corpus
):
    machines(f"{tmp_path.name}-first")
    url = f"s3://team/{tmp_path.name}"
    plan(run_of(url, prior_weight=1.0, prior_images=str(pictures)), image_size=16)
    kept = {path: (pictures / path).read_bytes() for path in ("a.png", "deep/er/b.png")}
    shutil.rmtree(pictures)
    shutil.rmtree(corpus)

    machines(f"{tmp_path.name}-second")
    there = Run.open(url)
    table, root = read_regularisation(there), regularisation_root(there)
    assert list(table["path"]) == ["a.png", "c.png", "d.png", "deep/er/b.png"]
    assert not there.regularisation_path.exists(), "images wait until they are wanted"
    for path, content in kept.items():
        assert there.fetch(root / path).read_bytes() == content
    assert plan(there, image_size=16).skipped
    assert len(read_catalogue(there)) == 24
