"""A whole run in a bucket, from machines that share nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.base.lookup import base_identity
from lorastyle.cli.main import main
from lorastyle.config import Experiment, parse_experiment
from lorastyle.corpus.procedural import write_corpus
from lorastyle.corpus.stage import corpus_root, plan, read_catalogue, read_plan
from lorastyle.corpus.training_images import index_catalogue
from lorastyle.distributed.batches import balanced_batches
from lorastyle.distributed.fleet import train
from lorastyle.distributed.trials import Trials
from lorastyle.distributed.work import Task, Workbench, make_tasks, open_workbench, train_batch
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import bring_up_to_date, embed
from lorastyle.errors import StageError
from lorastyle.evaluation.stage import evaluate
from lorastyle.evaluation.swept import own_setting
from lorastyle.report.stage import report
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays
from lorastyle.search.search import search
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.members import read_member, rows_by_name

Machines = Callable[[str], Path]
URL = "s3://team/runs/tiny"


def tasks_of(run: Run) -> list[Task]:
    images = index_catalogue(read_catalogue(run), corpus_root(run))
    base = base_identity(run.experiment.base).to_dict()
    return make_tasks(read_plan(run), images, run.experiment.training, base)


def bench_of(run: Run) -> Workbench:
    return open_workbench(run.location, corpus_root(run), len(read_plan(run)))


@pytest.fixture(scope="module")
def undisturbed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run in a directory."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    run = Run.open(Path(shutil.copytree(trained, directory)))
    embed(run)
    evaluate(run)
    return run


@pytest.fixture(scope="module")
def finished(machines: Machines, tiny_experiment: Callable[..., Experiment]) -> Run:
    """Planned on machine `driver`, trained on `left` and `right`, the rest on `driver`."""
    machines("driver")
    run = Run.create(URL, tiny_experiment())
    plan(run, image_size=32)
    stacks = balanced_batches(tasks_of(run), run.experiment.training.stack, 2)
    for machine, theirs in (("left", stacks[::2]), ("right", stacks[1::2])):
        machines(machine)
        bench = bench_of(Run.open(URL))
        for stack in theirs:
            assert all(done.status == "ok" for done in train_batch(bench, stack).dones)
    machines("driver")
    train(run)
    embed(run)
    evaluate(run)
    report(run)
    return run


@pytest.fixture
def elsewhere(finished: Run, machines: Machines, tmp_path: Path) -> Run:
    """The finished run on a machine that has seen nothing of it."""
    machines(f"new-{tmp_path.name}")
    return Run.open(URL)


@pytest.fixture
def query(undisturbed: Run, tmp_path: Path) -> Path:
    """A file of one of its adapters."""
    path = tmp_path / "query.safetensors"
    write_adapter(read_member(undisturbed, 3), path, "kohya")
    return path


def test_adapters_and_scores_are_those_of_a_run_in_a_directory(
    finished: Run, undisturbed: Run
) -> None:
    stores = [AdapterStore.open(run.store_path) for run in (finished, undisturbed)]
    assert digest_of_contents(stores[0]) == digest_of_contents(stores[1])
    metrics = [json.loads(run.metrics_path.read_text()) for run in (finished, undisturbed)]
    assert metrics[0] == metrics[1]
    for stage in ("plan", "train", "embed", "evaluate"):
        assert finished.upstream_hash(stage) == undisturbed.upstream_hash(stage)


def test_another_machine_finds_every_stage_done_and_its_files(elsewhere: Run) -> None:
    outcomes = [
        plan(elsewhere, image_size=32),
        train(elsewhere),
        embed(elsewhere),
        evaluate(elsewhere),
        report(elsewhere),
    ]
    assert all(outcome.skipped for outcome in outcomes)
    assert elsewhere.metrics_path.is_file()
    assert (elsewhere.report_path / "index.html").is_file()
    assert not elsewhere.corpus_path.exists(), "images wait until they are wanted"


def test_another_machine_makes_the_rest_of_an_unfinished_run(
    elsewhere: Run, undisturbed: Run
) -> None:
    elsewhere.forget("evaluate")
    elsewhere.forget("report")
    outcome = evaluate(elsewhere)
    assert not outcome.skipped
    assert outcome.outputs == (undisturbed.manifest("evaluate") or {})["outputs"]
    assert not elsewhere.corpus_path.exists(), "features are kept in the bucket"
    assert not report(elsewhere).skipped
    assert list(elsewhere.corpus_path.rglob("*.png")), "thumbnails are made of images"


def test_search_finds_elsewhere_what_it_finds_in_a_directory(
    elsewhere: Run, undisturbed: Run, query: Path
) -> None:
    here, there = (search(run, query).to_dict() for run in (undisturbed, elsewhere))
    assert here["neighbours"] and there == here


def test_a_run_elsewhere_has_its_members(elsewhere: Run, undisturbed: Run) -> None:
    rows = rows_by_name(elsewhere)
    assert rows == rows_by_name(undisturbed)
    first = read_member(elsewhere, 0)
    for key, update in read_member(undisturbed, 0).updates.items():
        np.testing.assert_array_equal(first.updates[key].lora_B, update.lora_B)


def test_a_trial_of_the_sweep_needs_only_the_location(elsewhere: Run, undisturbed: Run) -> None:
    settings = [own_setting(elsewhere.experiment, "delta", "feed_forward")]
    here, there = (
        Trials(run.location, run.place.child("sweep/scores"), settings)
        for run in (elsewhere, undisturbed)
    )
    assert here.carry_out(0) == there.carry_out(0)
    assert here.read(0) == there.read(0)
    assert here.finished() == [0]


@pytest.mark.parametrize(
    ("verb", "shown"),
    [
        (["inspect", URL], "24 adapters of 24 planned"),
        (["evaluate", URL], "done already"),
        (["export", URL, "--all", "--out", "exported"], "24 adapters written"),
        (["plan", URL, "--dry-run"], f"Run:            {URL}"),
    ],
)
def test_verbs_take_the_url(
    elsewhere: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str], shown: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, verb)
    assert result.exit_code == 0, result.output
    assert shown in result.output


def test_the_search_verb_takes_the_url(elsewhere: Run, query: Path) -> None:
    result = CliRunner().invoke(main, ["search", URL, str(query), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["run"] == URL


def test_latents_come_from_the_bucket_where_another_machine_encoded_them(elsewhere: Run) -> None:
    bench = bench_of(elsewhere)
    image = next(iter(bench.images.values()))
    mean, _ = bench.latents.load([image])
    assert not image.path.exists(), "the image itself was not needed"
    folder = elsewhere.place.child("latents").child(bench.base.identity.sha256[:16])
    kept = folder.read(f"{image.content_hash}.npy")
    (copy,) = elsewhere.directory.glob(f"latents/*/{image.content_hash}.npy")
    assert copy.read_bytes() == kept
    copy.write_bytes(b"torn")
    assert (bench.latents.load([image])[0] == mean).all()


def test_arrays_damaged_in_the_bucket_count_as_absent(elsewhere: Run) -> None:
    kept = KeptArrays.of(elsewhere, "trial")
    elsewhere.place.child("trial").write("x.npy", [b"torn"])
    assert kept.find("x") is None
    kept.keep("x", np.arange(3))
    assert (KeptArrays(elsewhere.directory / "other", kept.bucket).find("x") == [0, 1, 2]).all()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A user's folder of images, on one machine alone."""
    write_corpus(tmp_path / "photographs", 3, 20, 32, seed=7)
    return tmp_path / "photographs"


def run_on(folder: Path, url: str, experiment: Experiment) -> Run:
    corpus = {"source": "folder", "path": folder, "min_works": 10}
    changed = experiment.corpus.model_copy(update=corpus)
    return Run.create(url, experiment.model_copy(update={"corpus": changed}))


def test_images_of_a_users_folder_go_with_the_run(
    machines: Machines, tiny_experiment: Callable[..., Experiment], photographs: Path
) -> None:
    machines("with-images")
    run = run_on(photographs, "s3://team/runs/photographs", tiny_experiment())
    n_rows = plan(run, image_size=32).outputs["n_adapters"]
    machines("without-images")
    photographs.rename(photographs.with_name("away"))
    there = Run.open(run.location)
    assert plan(there, image_size=32).skipped
    tasks = tasks_of(there)[:2]
    bench = open_workbench(there.location, photographs, n_rows)
    assert all(done.status == "ok" for done in train_batch(bench, tasks).dones)
    used = {image for task in tasks for image in task.spec.image_ids}
    assert len(list(there.corpus_path.rglob("*.png"))) == len(used)


def test_a_folder_that_changed_is_noticed_where_it_is(
    machines: Machines, tiny_experiment: Callable[..., Experiment], photographs: Path
) -> None:
    machines("with-images")
    run = run_on(photographs, "s3://team/runs/changed", tiny_experiment())
    plan(run, image_size=32)
    next(photographs.rglob("*.png")).unlink()
    with pytest.raises(StageError, match=r"inputs of 'plan' in s3://.* changed \(folder\)"):
        plan(run, image_size=32)


class MachineGoneError(Exception):
    """Stands in for a machine taken away."""


def test_a_stack_goes_on_where_its_machine_was_lost(
    machines: Machines, tiny_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorastyle.training import trainer

    machines("driver-2")
    run = Run.create("s3://team/runs/lost", tiny_experiment(checkpoint_every=1, n_steps=4))
    plan(run, image_size=32)
    tasks, steps = tasks_of(run)[:2], []
    step = trainer._StackRun._step

    def until_lost(self: Any, number: int) -> None:
        if number == 3:
            raise MachineGoneError
        step(self, number)

    def counted(self: Any, number: int) -> None:
        steps.append(number)
        step(self, number)

    machines("lost")
    monkeypatch.setattr(trainer._StackRun, "_step", until_lost)
    with pytest.raises(MachineGoneError):
        train_batch(bench_of(Run.open(run.location)), tasks)
    assert len(run.place.child("checkpoints").names()) == 1
    machines("found")
    monkeypatch.setattr(trainer._StackRun, "_step", counted)
    train_batch(bench_of(Run.open(run.location)), tasks)
    assert steps == [3]
    assert run.place.child("checkpoints").names() == []


def test_unions_and_truncated_ranks_are_published_too(
    elsewhere: Run, undisturbed: Run, machines: Machines
) -> None:
    """The driver embeds what a sweep would try; another machine has it, to the last bit.

    The last test here: it embeds the run anew.
    """
    wanted = {"sub_networks": ["up&to_v", "full-mid"], "truncated_ranks": [1]}
    grams = []
    for run in (elsewhere, undisturbed):
        experiment = parse_experiment({**run.experiment.model_dump(), "sweep": wanted})
        other = Run.create(run.location, experiment, force=True)
        bring_up_to_date(other)
        if run is elsewhere:
            machines("a third")
            other = Run.open(URL)
            other.pull("embed")
        grams.append(GramSet.load(other.embedding_path))
        Run.create(run.location, run.experiment, force=True)
        bring_up_to_date(run)
    for name in ("up&to_v", "full-mid"):
        for representation in ("factors", "delta@1"):
            ours, theirs = (each.matrix(representation, name) for each in grams)
            np.testing.assert_array_equal(ours, theirs)
