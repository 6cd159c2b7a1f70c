from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lorastyle.config import Experiment
from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.distributed.fleet import train
from lorastyle.distributed.session import Session
from lorastyle.errors import StageError, TrainingError
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from tests.distributed.drivers import start_driver, wait_for_the_first_row

N_ADAPTERS = 24

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def contents(run: Run) -> str:
    return digest_of_contents(AdapterStore.open(run.store_path))


def commits(run: Run) -> list[Path]:
    return sorted((run.store_path / "commits").glob("*.json"))


def training_actors(of: psutil.Process) -> list[psutil.Process]:
    return [
        process
        for process in of.children(recursive=True)
        if process.name().startswith("ray::TrainingActor")
    ]


@pytest.mark.cluster
def test_a_killed_actor_changes_nothing(
    local_ray: Session, planned_run: Callable[..., Run], trained: Path
) -> None:
    run = planned_run()
    killed = []

    def kill_one() -> None:
        wait_for_the_first_row(run)
        victim = training_actors(psutil.Process())[0]
        victim.kill()
        killed.append(victim.pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcome = train(run)
    killer.join()
    assert killed and outcome.outputs["by_status"] == {"ok": N_ADAPTERS}
    assert contents(run) == contents(Run.open(trained))


@pytest.mark.cluster
def test_a_killed_run_is_finished_by_the_same_command(
    local_ray: Session,
    planned_run: Callable[..., Run],
    trained: Path,
    own_environment: dict[str, str],
) -> None:
    run = planned_run()
    driver = start_driver(run, own_environment, output=subprocess.DEVNULL)
    try:
        wait_for_the_first_row(run)
        actors = training_actors(psutil.Process(driver.pid))
    finally:
        driver.kill()
        driver.wait()
    psutil.wait_procs(actors, timeout=20)
    assert 0 < len(commits(run)) < N_ADAPTERS
    assert run.manifest("train") is None
    train(run)
    assert contents(run) == contents(Run.open(trained))


def test_what_is_done_is_not_done_again_and_starts_no_ray(
    trained_run: Run, own_environment: dict[str, str]
) -> None:
    before = [path.stat().st_mtime_ns for path in commits(trained_run)]
    trained_run.manifest_path("train").unlink()
    code = (
        "import sys; from pathlib import Path; from lorastyle.runs import Run\n"
        "from lorastyle.distributed.pipeline import run_stages\n"
        "run = Run.open(Path(sys.argv[1]))\n"
        "assert [o.skipped for o in run_stages(run, ['plan', 'train'])] == [True, False]\n"
        "assert [o.skipped for o in run_stages(run, ['plan', 'train'])] == [True, True]\n"
        "assert not {'ray', 'torch', 'diffusers'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, trained_run.directory], env=own_environment, check=True
    )
    assert [path.stat().st_mtime_ns for path in commits(trained_run)] == before


def test_a_base_model_that_moved_is_the_same_base_model(
    trained_run: Run, tiny_base: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_base, tmp_path / "moved")
    experiment = trained_run.experiment.model_copy(update={"base": str(moved)})
    assert train(replace(trained_run, experiment=experiment)).skipped


def test_a_damaged_image_fails_its_adapters_and_no_others(
    local_ray: Session, trained_run: Run, trained: Path
) -> None:
    run = trained_run
    spec = read_plan(run)[-1]
    images = read_catalogue(run).set_index("image_id")
    image = images.loc[spec.image_ids[0]]
    path = corpus_root(run) / str(image["path"])
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    next((run.directory / "latents").rglob(f"{image['content_hash']}.npy")).unlink()
    commits(run)[spec.row].unlink()
    run.manifest_path("train").unlink()
    with pytest.raises(TrainingError, match=f"1 of 24 .* '{spec.adapter_id}'.*cannot read image"):
        train(run)
    store = AdapterStore.open(run.store_path)
    assert store.rows("failed") == [spec.row] and len(store.rows()) == N_ADAPTERS - 1
    path.write_bytes(whole)
    assert train(run).outputs["by_status"] == {"ok": N_ADAPTERS}
    assert contents(run) == contents(Run.open(trained))


def test_other_settings_are_refused_unless_forced(
    local_ray: Session, trained_run: Run, tiny_experiment: Callable[..., Experiment]
) -> None:
    other = Run.create(trained_run.directory, tiny_experiment(rank=3), force=True)
    with pytest.raises(StageError, match="training"):
        train(other)
    outcome = train(other, force=True)
    assert outcome.outputs["by_status"] == {"ok": N_ADAPTERS}
    assert AdapterStore.open(other.store_path).rank == 3
