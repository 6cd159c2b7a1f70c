"""The stage `plan`: files in, files out, once."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from lorastyle.config import parse_experiment
from lorastyle.corpus import stage
from lorastyle.corpus.captioner import Captioner, load_captioner
from lorastyle.corpus.descriptions import descriptions_path
from lorastyle.corpus.stage import corpus_root, plan, read_catalogue, read_plan
from lorastyle.errors import ConfigError, StageError
from lorastyle.records import Role
from lorastyle.runs import Run


@pytest.fixture
def run_of(tmp_path, experiment):
    def make(root, name="run", **sections):
        return Run.create(tmp_path / name, experiment(root, **sections))

    return make


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_catalogue_and_a_plan(make_folder, run_of, paint):
    root = make_folder({"monet": 14, "degas": 14, "lowry": 3})
    paint(root / "monet" / "tiny.png", 1, size=(4, 4))
    (root / "degas" / "000.txt").write_text("a dancer by Degas")
    run = run_of(root)
    outcome = plan(run, image_size=8)
    catalogue, specs = read_catalogue(run), read_plan(run)
    assert set(catalogue["split"]) == {"train", "val", "test"}
    assert len(specs) == 2 * (3 + 1 + 1 + 1 + 2 + 2)
    assert [spec.row for spec in specs] == list(range(len(specs)))
    assert set(catalogue["image_id"]) >= {image for spec in specs for image in spec.image_ids}
    assert all((corpus_root(run) / path).is_file() for path in catalogue["path"])
    assert catalogue.set_index("image_id").loc["degas/000.png", "caption"] == "a dancer"
    assert outcome.outputs["n_adapters"] == len(specs)
    assert {row["file"] for row in read_csv(run.directory / "left_out.csv")} == {
        "lowry/",
        "monet/tiny.png",
    }
    captions = {row["image_id"]: row for row in read_csv(run.directory / "captions.csv")}
    assert list(captions) == list(catalogue["image_id"])
    assert captions["degas/000.png"] == {
        "image_id": "degas/000.png",
        "source": "own",
        "found": "a dancer by Degas",
        "used": "a dancer",
        "touched": "Degas",
    }
    assert {row["source"] for row in captions.values()} == {"own", "template"}
    assert outcome.outputs["n_scrubbed"] == 1


def test_the_plans_table_names_the_split_of_each_adapter(make_folder, run_of):
    run = run_of(make_folder({"a": 14, "b": 14}))
    plan(run, image_size=8)
    table = pd.read_parquet(run.plan_path)
    assert [Role(role).image_split.value for role in table["role"]] == list(table["split"])


def test_a_second_time_nothing_is_done(make_folder, run_of):
    run = run_of(make_folder({"a": 14, "b": 14}))
    first = plan(run, image_size=8)
    written = run.plan_path.stat().st_mtime_ns
    second = plan(run, image_size=8)
    assert (first.skipped, second.skipped) == (False, True)
    assert second.outputs == first.outputs
    assert run.plan_path.stat().st_mtime_ns == written


def test_a_copy_of_the_folder_gives_the_same_plan(make_folder, run_of):
    root = make_folder({"a": 14, "b": 14})
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    one, other = run_of(root, "one"), run_of(copy, "other")
    assert plan(one, image_size=8).outputs == plan(other, image_size=8).outputs
    assert read_plan(one) == read_plan(other)
    assert one.upstream_hash("plan") == other.upstream_hash("plan")


def test_a_new_image_makes_the_plan_stale_until_forced(make_folder, run_of, paint):
    root = make_folder({"a": 14, "b": 14})
    run = run_of(root)
    before = plan(run, image_size=8)
    paint(root / "a" / "new.png", 999)
    with pytest.raises(StageError, match=r"inputs of 'plan' .* changed \(folder\)"):
        plan(run, image_size=8)
    after = plan(run, image_size=8, force=True)
    assert after.outputs["n_images"] == before.outputs["n_images"] + 1
    assert plan(run, image_size=8).skipped


def test_training_settings_that_no_spec_holds_leave_the_plan_current(make_folder, run_of, tmp_path):
    root = make_folder({"a": 14, "b": 14})
    plan(run_of(root), image_size=8)
    (tmp_path / "run" / "config.yaml").unlink()
    assert plan(run_of(root, training={"n_steps": 5}), image_size=8).skipped
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(StageError, match=r"\(training\)"):
        plan(run_of(root, training={"seed": 5}), image_size=8)


def test_a_plan_that_fails_leaves_no_manifest(make_folder, run_of):
    run = run_of(make_folder({"a": 14, "b": 14}), protocol={"train": 200})
    with pytest.raises(ConfigError, match="a has 6 train images, of which 200 sets of 3"):
        plan(run, image_size=8)
    assert run.manifest("plan") is None
    with pytest.raises(StageError, match="lorastyle plan"):
        read_plan(run)
    with pytest.raises(StageError, match="lorastyle plan"):
        read_catalogue(run)


def test_no_artist_name_reaches_a_caption(make_folder, run_of):
    root = make_folder({"claude_monet": 14, "edgar_degas": 14})
    for number, artist in enumerate(("claude_monet", "edgar_degas")):
        (root / artist / "000.txt").write_text(f"{number} after Monet and Edgar Degas")
    run = run_of(root)
    plan(run, image_size=8)
    captions = " ".join(read_catalogue(run)["caption"]).lower()
    assert not {"claude", "monet", "edgar", "degas"} & set(captions.split())


def test_what_nobody_described_is_described_by_the_captioner(make_folder, run_of, tiny_blip):
    root = make_folder({"claude_monet": 14, "edgar_degas": 14, "lowry": 3})
    (root / "edgar_degas" / "000.txt").write_text("a dancer")
    run = run_of(root, corpus={"captioner": str(tiny_blip)})
    outcome = plan(run, image_size=8)
    captions = {row["image_id"]: row for row in read_csv(run.directory / "captions.csv")}
    said = load_captioner(str(tiny_blip))
    for image_id in ("claude_monet/000.png", "edgar_degas/013.png"):
        with Image.open(root / image_id) as image:
            assert captions[image_id]["found"] == said.describe([image])[0]
    monets = [row for row in captions.values() if "monet" in row["found"]]
    assert len(monets) == outcome.outputs["n_scrubbed"] > 0
    assert all("monet" not in row["used"] and "monet" in row["touched"] for row in monets)
    catalogue = read_catalogue(run).set_index("image_id")
    assert dict(catalogue["caption"]) == {name: row["used"] for name, row in captions.items()}
    # Artists that are left out are not looked at.
    assert len((run.directory / "descriptions.jsonl").read_text().splitlines()) == 27
    assert outcome.outputs["captions_by_source"] == {"own": 1, "captioner": 27, "template": 0}
    assert outcome.outputs["captioner"]["sha256"] == said.identity.sha256
    assert plan(run, image_size=8).skipped


def test_an_interrupted_plan_goes_on_where_it_was(make_folder, run_of, tiny_blip, monkeypatch):
    run = run_of(make_folder({"a": 14, "b": 14}), corpus={"captioner": str(tiny_blip)})
    describe, shown = Captioner.describe, []

    def interrupted(self, images, *rest):
        if len(shown) == 2:
            raise KeyboardInterrupt
        shown.append(len(images))
        return describe(self, images, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Captioner, "describe", interrupted)
        plan(run, image_size=8)
    assert run.manifest("plan") is None

    def counting(self, images, *rest):
        shown.append(len(images))
        return describe(self, images, *rest)

    monkeypatch.setattr(Captioner, "describe", counting)
    plan(run, image_size=8)
    assert sum(shown) == 28


def test_what_another_run_described_is_not_described_again(make_folder, run_of, tiny_blip):
    """As runs at other ranks are planned, below a run."""
    root = make_folder({"a": 14, "b": 14})
    run = run_of(root, corpus={"captioner": str(tiny_blip)})
    below = run_of(root, "below", corpus={"captioner": str(tiny_blip)})
    plan(run, image_size=8)
    kept = descriptions_path(run)
    size = kept.stat().st_size
    plan(below, image_size=8, descriptions=kept)
    assert kept.stat().st_size == size
    assert not descriptions_path(below).exists()
    assert below.upstream_hash("plan") == run.upstream_hash("plan")


def test_in_a_bucket_captions_are_published_and_descriptions_stay(
    make_folder, experiment, machines, tmp_path, tiny_blip
):
    machines(f"{tmp_path.name}-first")
    url = f"s3://team/{tmp_path.name}"
    root = make_folder({"a": 14, "b": 14})
    run = Run.create(url, experiment(root, corpus={"captioner": str(tiny_blip)}))
    plan(run, image_size=8)
    assert descriptions_path(run).exists()
    shutil.rmtree(root)

    machines(f"{tmp_path.name}-second")
    there = Run.open(url)
    assert plan(there, image_size=8).skipped
    captions = {row["image_id"]: row["used"] for row in read_csv(there.captions_path)}
    catalogue = read_catalogue(there)
    assert captions == dict(zip(catalogue["image_id"], catalogue["caption"], strict=True))
    assert not descriptions_path(there).exists()


def test_a_captioner_that_nobody_needs_is_not_looked_for(make_folder, run_of):
    root = make_folder({"a": 14, "b": 14})
    for path in root.rglob("*.png"):
        path.with_suffix(".txt").write_text(f"a pond {path.stem}")
    run = run_of(root, corpus={"captioner": "nobody/nothing"})
    outcome = plan(run, image_size=8)
    assert outcome.outputs["captions_by_source"] == {"own": 28, "captioner": 0, "template": 0}
    assert outcome.outputs["captioner"] is None


def test_a_protocol_that_cannot_be_filled_is_refused_before_anything_is_described(
    make_folder, run_of
):
    settings = {"corpus": {"captioner": "nobody/nothing"}, "protocol": {"train": 200}}
    with pytest.raises(ConfigError, match="of which 200 sets"):
        plan(run_of(make_folder({"a": 14, "b": 14}), **settings), image_size=8)


def test_a_plan_made_before_there_were_captioners_is_current(make_folder, run_of):
    run = run_of(make_folder({"a": 14, "b": 14}))
    outcome = plan(run, image_size=8)
    manifest = json.loads(run.manifest_path("plan").read_text())
    assert "captioner" not in manifest["inputs"]["corpus"]
    assert set(outcome.outputs) == {
        *("n_images", "n_artists", "n_adapters", "adapters_by_role", "n_left_out", "n_scrubbed"),
        *("catalogue", "plan"),
    }


def test_a_plan_without_a_captioner_is_stale_once_there_is_one(make_folder, run_of, tmp_path):
    root = make_folder({"a": 14, "b": 14})
    plan(run_of(root), image_size=8)
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(StageError, match=r"\(corpus\)"):
        plan(run_of(root, corpus={"captioner": "nobody/nothing"}), image_size=8)


def test_a_procedural_corpus_is_painted_into_the_run(tmp_path):
    protocol = {
        "train": 3,
        "calibration": 1,
        "val": 1,
        "test": 1,
        "query_calibration": 1,
        "query_val": 1,
        "query_test": 1,
        "images_per_adapter": 3,
        "images_per_query": 2,
        "reserved_val": 4,
        "reserved_test": 4,
    }
    corpus = {"n_artists": 3, "works_per_artist": 16, "min_works": 14}
    run = Run.create(tmp_path / "run", parse_experiment({"corpus": corpus, "protocol": protocol}))
    (run.corpus_path / "left_over").mkdir(parents=True)
    (run.corpus_path / "left_over" / "old.png").write_bytes(b"")
    outcome = plan(run, image_size=32)
    catalogue = read_catalogue(run)
    assert outcome.outputs["n_artists"] == 3
    assert outcome.outputs["n_left_out"] == 0
    assert corpus_root(run) == run.corpus_path.absolute()
    assert set(catalogue["width"]) == {32}
    assert (catalogue["caption"].str.len() > 0).all()
    assert not (run.corpus_path / "left_over").exists()
    assert plan(run, image_size=32).skipped


def test_the_number_of_images_shown_is_that_of_the_folder(make_folder, run_of, monkeypatch):
    shown = []
    original = stage.progress

    def recording(title, total, unit):
        shown.append((title, total, unit))
        return original(title, total, unit)

    monkeypatch.setattr(stage, "progress", recording)
    plan(run_of(make_folder({"a": 14, "b": 14})), image_size=8)
    assert shown == [("plan", 28, "images")]


def test_planning_loads_no_torch_and_no_ray():
    script = """
import sys
import lorastyle.corpus.stage
print(sorted({"torch", "diffusers", "ray"} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert shown.stdout.decode().strip() == "[]"
