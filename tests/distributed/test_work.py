from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorastyle.base.lookup import base_identity
from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.corpus.training_images import index_catalogue
from lorastyle.distributed.work import (
    Task,
    Workbench,
    determining,
    give_up,
    make_tasks,
    open_workbench,
    train_batch,
)
from lorastyle.errors import FencedError
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.epochs import EPOCHS, EpochLog


def tasks_of(run: Run, **changes: Any) -> list[Task]:
    images = index_catalogue(read_catalogue(run), corpus_root(run))
    settings = run.experiment.training.model_copy(update=changes)
    return make_tasks(
        read_plan(run), images, settings, base_identity(run.experiment.base).to_dict()
    )


def bench_of(run: Run) -> Workbench:
    return open_workbench(run.directory, corpus_root(run), len(read_plan(run)))


def test_a_batch_becomes_rows_with_their_specs(planned_run: Callable[..., Run]) -> None:
    run = planned_run()
    tasks = tasks_of(run)[:3]
    done = train_batch(bench_of(run), tasks).dones
    store = AdapterStore.open(run.store_path)
    assert [record.status for record in done] == ["ok"] * 3
    assert store.rows() == [task.spec.row for task in tasks]
    assert all(store.is_current(task.spec.row, task.digest) for task in tasks)
    assert store.record(0).spec == tasks[0].spec.to_dict()  # type: ignore[union-attr]


def test_rows_are_what_the_trainer_makes_of_the_same_images(
    planned_run: Callable[..., Run],
) -> None:
    from lorastyle.adapters.initial import initial_vector

    run = planned_run()
    bench = bench_of(run)
    train_batch(bench, tasks_of(run)[:2])
    rows = AdapterStore.open(run.store_path).read_rows([0, 1])
    start = initial_vector(bench.store.layout, run.experiment.training.init_seed)
    assert (bench.store.initial == start).all()
    distances = np.linalg.norm(rows - start, axis=1)
    assert (distances > 0).all() and np.linalg.norm(rows[0] - rows[1]) > 0


def test_an_adapter_whose_image_is_gone_fails_alone(planned_run: Callable[..., Run]) -> None:
    run = planned_run()
    tasks = tasks_of(run)[:3]
    bench = bench_of(run)
    bench.images[tasks[1].spec.image_ids[0]].path.unlink()
    statuses = {done.adapter_id: done.status for done in train_batch(bench, tasks).dones}
    bad = tasks[1].spec
    assert statuses.pop(bad.adapter_id) == "failed"
    assert set(statuses.values()) == {"ok"}
    reason = bench.store.record(bad.row).reason  # type: ignore[union-attr]
    assert bad.image_ids[0] in str(reason)
    assert bench.store.missing({task.spec.row: task.digest for task in tasks}) == [bad.row]


def test_rows_that_are_current_are_not_written_again(planned_run: Callable[..., Run]) -> None:
    run = planned_run()
    tasks = tasks_of(run)[:2]
    bench = bench_of(run)
    train_batch(bench, tasks)
    before = [path.stat().st_mtime_ns for path in sorted((run.store_path / "commits").iterdir())]
    train_batch(bench, tasks)
    after = [path.stat().st_mtime_ns for path in sorted((run.store_path / "commits").iterdir())]
    assert before == after


def test_diverging_adapters_are_recorded_as_such(planned_run: Callable[..., Run]) -> None:
    run = planned_run(learning_rate=1e30)
    done = train_batch(bench_of(run), tasks_of(run)[:2]).dones
    assert [record.status for record in done] == ["non_finite"] * 2
    assert AdapterStore.open(run.store_path).rows() == []


def test_a_checkpoint_is_gone_once_its_rows_are_there(planned_run: Callable[..., Run]) -> None:
    run = planned_run(checkpoint_every=2)
    train_batch(bench_of(run), tasks_of(run)[:2])
    assert not list((run.directory / "checkpoints").glob("*"))


def test_regularisation_images_are_sampled_once(planned_run: Callable[..., Run]) -> None:
    run = planned_run(prior_weight=1.0, n_prior_images=2)
    bench = bench_of(run)
    files = list((run.directory / "prior").iterdir())
    made = [path.stat().st_mtime_ns for path in files]
    assert len(files) == 1
    assert bench.prior.latents_mean.shape[0] == bench.prior.text.shape[0] == 2
    again = bench_of(run)
    assert (again.prior.latents_mean == bench.prior.latents_mean).all()
    assert [path.stat().st_mtime_ns for path in files] == made
    assert train_batch(again, tasks_of(run)[:1]).dones[0].status == "ok"


def test_a_bench_computes_in_what_the_settings_say(planned_run: Callable[..., Run]) -> None:
    import torch

    vectors = {}
    for precision in ("float32", "bfloat16"):
        run = planned_run(precision, precision=precision, prior_weight=1.0, prior_batch="paired")
        bench = bench_of(run)
        assert {weight.dtype for weight in bench.base.unet.parameters()} == {
            getattr(torch, precision)
        }
        assert {weight.dtype for weight in bench.base.vae.parameters()} == {torch.float32}
        (done,) = train_batch(bench, tasks_of(run)[:1]).dones
        assert done.status == "ok"
        vectors[precision] = bench.store.read_rows([0])[0] - bench.store.initial
    # Rounding of 8 bits turns the update a little and does not replace it.
    one, other = vectors.values()
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert 0.7 < cosine < 1


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"prior_weight": 0.5}])
def test_settings_that_came_later_count_where_they_are_used(
    planned_run: Callable[..., Run], change: dict[str, Any]
) -> None:
    run = planned_run()
    plain = run.experiment.training
    assert determining(plain).keys().isdisjoint({"precision", "prior_batch", "prior_images"})
    assert determining(plain.model_copy(update={"prior_batch": "paired"})) == determining(plain)
    assert determining(plain.model_copy(update=change)) != determining(plain)


@pytest.mark.parametrize("change", [{"stack": 2}, {"checkpoint_every": 1}])
def test_settings_of_speed_do_not_change_an_adapters_identity(
    planned_run: Callable[..., Run], change: dict[str, Any]
) -> None:
    run = planned_run()
    assert tasks_of(run, **change) == tasks_of(run)


@pytest.mark.parametrize("change", [{"n_steps": 5}, {"learning_rate": 1e-3}, {"alpha": 2.0}])
def test_settings_of_training_change_an_adapters_identity(
    planned_run: Callable[..., Run], change: dict[str, Any]
) -> None:
    run = planned_run()
    assert tasks_of(run, **change)[0].digest != tasks_of(run)[0].digest


@pytest.mark.parametrize("change", [{"caption": "else"}, {"content_hash": "0"}])
def test_images_and_captions_change_an_adapters_identity(
    planned_run: Callable[..., Run], change: dict[str, str]
) -> None:
    run = planned_run()
    images = index_catalogue(read_catalogue(run), corpus_root(run))
    spec = read_plan(run)[0]
    base = base_identity(run.experiment.base).to_dict()
    before = make_tasks([spec], images, run.experiment.training, base)
    images[spec.image_ids[0]] = replace(images[spec.image_ids[0]], **change)
    assert make_tasks([spec], images, run.experiment.training, base) != before


def test_a_failure_does_not_replace_a_good_row(planned_run: Callable[..., Run]) -> None:
    run = planned_run()
    bench, task = bench_of(run), tasks_of(run)[0]
    train_batch(bench, [task])
    assert give_up(bench.store, task, "late").status == "ok"


def test_the_store_of_another_base_model_is_refused(
    planned_run: Callable[..., Run], tmp_path: Path
) -> None:
    from lorastyle.errors import StoreError

    run = planned_run()
    bench_of(run)
    with pytest.raises(StoreError, match="another"):
        open_workbench(
            Run.create(
                run.directory,
                run.experiment.model_copy(
                    update={"training": run.experiment.training.model_copy(update={"rank": 3})}
                ),
                force=True,
            ).directory,
            corpus_root(run),
            24,
        )


def refuse_to_train(*arguments: object, **keywords: object) -> None:
    raise AssertionError("it was trained")


def test_a_stack_that_stands_is_not_trained_again(
    planned_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_run()
    bench, tasks = bench_of(run), tasks_of(run)[:2]
    first = train_batch(bench, tasks)
    monkeypatch.setattr("lorastyle.training.trainer.train_stack", refuse_to_train)
    assert train_batch(bench, tasks, at_most=1).dones == first.dones
    with pytest.raises(AssertionError, match="it was trained"):
        train_batch(bench, tasks_of(run)[:3])


def test_a_stack_is_cut_to_what_memory_takes(
    planned_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorastyle.distributed import work

    sizes = []
    together = work._train_together
    monkeypatch.setattr(
        work,
        "_train_together",
        lambda bench, items: sizes.append(len(items)) or together(bench, items),
    )
    run = planned_run()
    bench = replace(bench_of(run), fits=3)
    report = train_batch(bench, tasks_of(run)[:4])
    assert sizes == [2, 2]
    assert [done.status for done in report.dones] == ["ok"] * 4
    assert report.at_most is None, "the dispatcher is told of memory that ran out, not of a cut"


def test_an_attempt_that_was_taken_over_trains_nothing(
    planned_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_run()
    epochs = EpochLog(run.place.child(EPOCHS))
    fence = epochs.claim()
    bench = open_workbench(run.directory, corpus_root(run), 24, fence)
    monkeypatch.setattr("lorastyle.training.trainer.train_stack", refuse_to_train)
    epochs.claim({"job": "the next one"})
    with pytest.raises(FencedError, match="job the next one"):
        train_batch(bench, tasks_of(run)[:2])
    assert not bench.store.committed()
