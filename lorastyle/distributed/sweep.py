"""The stage `sweep`: a Ray Tune grid over representation and sub-network, on validation.

One trial scores every PC count of a setting, since a Gram matrix serves them all.
Its scores are one small file, so a killed sweep computes no setting twice. The
test adapters are not looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorastyle.config import Experiment
from lorastyle.distributed.session import Session, opened
from lorastyle.errors import StageError
from lorastyle.places.place import Place, place_of
from lorastyle.progress import Progress, progress
from lorastyle.records import digest
from lorastyle.runs import Run, StageOutcome, carry_out, write_atomically, write_parquet

Setting = tuple[str, str]
"""Representation and sub-network."""

RESULTS_FILE = "results.parquet"
BEST_FILE = "best.yaml"
MAX_TRIAL_FAILURES = 2

_QUIET_TUNE = {
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner goes to stdout, whatever the verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # imports TensorBoard
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def sweep(run: Run, *, session: Session | None = None, force: bool = False) -> StageOutcome:
    """Score every setting for every PC count; write `results.parquet` and `best.yaml`.

    `results.parquet` has a line for each representation, sub_network and
    n_components, with the columns of `evaluation.selection.CURVE_COLUMNS`;
    `best.yaml` the best count of each setting and the best setting of each task.
    Raises StageError naming a setting that failed.
    """
    experiment = run.experiment
    inputs = {
        "embed": run.upstream_hash("embed"),
        "settings": [list(setting) for setting in grid(experiment)],
        "embedding": experiment.embedding.model_dump(
            mode="json", include={"max_components", "calibration_form"}
        ),
        "evaluation": experiment.evaluation.model_dump(
            mode="json", include={"n_kmeans_seeds", "top_k"}
        ),
        "protocol": experiment.protocol.model_dump(mode="json", include={"train", "calibration"}),
    }
    return carry_out(
        run, "sweep", inputs, lambda: _sweep(run, digest(inputs)[:12], session), force=force
    )


def grid(experiment: Experiment) -> list[Setting]:
    """The settings to try: those of `sweep`, or else those of `embedding`."""
    wanted, embedded = experiment.sweep, experiment.embedding
    return [
        (representation, sub_network)
        for representation in wanted.representations or embedded.representations
        for sub_network in wanted.sub_networks or embedded.sub_networks
    ]


def score_setting(location: Path | str, scores: Place, setting: Setting) -> dict[str, Any]:
    """One trial: score a setting of the run, or read the scores an earlier trial wrote."""
    from lorastyle.embedding.gram import GramSet
    from lorastyle.evaluation.selection import evaluate_setting

    name = f"{'-'.join(setting)}.json"
    content = scores.read(name)
    if content is None:
        run = Run.open(location)
        run.pull("embed")
        grams = GramSet.load(run.embedding_path)
        scored = evaluate_setting(grams, None, *setting, run.experiment)
        content = json.dumps(scored, indent=2, allow_nan=False).encode()
        scores.write(name, [content])
    return dict(json.loads(content))


def _sweep(run: Run, name: str, session: Session | None) -> dict[str, Any]:
    settings, left_out = _possible(run)
    location, storage = run.absolute_location, run.sweep_path.absolute()
    name = f"grid-{name}"
    # Where all machines that try settings find them.
    scores = place_of(location).child(f"sweep/{name}/scores")
    _discard_other_grids(storage, name)
    with (
        opened(session, run.experiment.compute.address),
        progress("sweep", len(settings), "settings") as shown,
    ):
        _tune(location, storage, name, scores, settings, shown)
    results = [score_setting(location, scores, setting) for setting in settings]
    best = summarise(results)
    _write_results(run.sweep_path, results)
    write_atomically(run.sweep_path / BEST_FILE, yaml.safe_dump(best, sort_keys=False))
    return {
        "n_settings": len(settings),
        "n_points": sum(len(result["curve"]) for result in results),
        "best": best["best"],
        "left_out": left_out,
        "digest": digest(results),
    }


def _possible(run: Run) -> tuple[list[Setting], list[str]]:
    """Settings that were embedded, and the names of those that were not."""
    from lorastyle.embedding.gram import GramSet

    grams = GramSet.load(run.embedding_path)
    possible = [
        (representation, sub_network)
        for representation, sub_network in grid(run.experiment)
        if representation in grams.representations and sub_network in grams.sub_networks
    ]
    if not possible:
        raise StageError(
            f"none of {len(grid(run.experiment))} settings of the sweep was embedded; "
            "name in sweep.representations and sweep.sub_networks what embedding has"
        )
    left_out = ["/".join(setting) for setting in grid(run.experiment) if setting not in possible]
    return possible, left_out


def _discard_other_grids(storage: Path, name: str) -> None:
    for other in storage.glob("grid-*"):
        if other.name != name:
            shutil.rmtree(other)


def _tune(
    location: Path | str,
    storage: Path,
    name: str,
    scores: Place,
    settings: Sequence[Setting],
    shown: Progress,
) -> None:
    with _environment(_QUIET_TUNE):
        from ray import tune
        from ray.tune.logger import JsonLoggerCallback

        class Advance(tune.Callback):  # type: ignore[misc]
            def on_trial_complete(self, *_: Any, **__: Any) -> None:
                shown.advance()

        def trial(config: Mapping[str, Any]) -> None:
            best = score_setting(location, scores, tuple(config["setting"]))["best"]
            tune.report({"done": True, **{f"best_{task}": best[task] for task in best}})

        trainable = tune.with_resources(trial, {"cpu": 1})
        path = str(storage / name)
        if tune.Tuner.can_restore(path):
            tuner = tune.Tuner.restore(path, trainable, resume_unfinished=True, resume_errored=True)
        else:
            tuner = tune.Tuner(
                trainable,
                param_space={"setting": tune.grid_search([list(pair) for pair in settings])},
                # A process a trial would import everything anew each time.
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=str(storage),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_FAILURES),
                    callbacks=[JsonLoggerCallback(), Advance()],
                ),
            )
        errors = tuner.fit().errors
    if errors:
        reason = " ".join(str(errors[0]).strip().splitlines()[-1].split())[:300]
        raise StageError(
            f"{len(errors)} of {len(settings)} settings of the sweep failed, the first with: "
            f"{reason}; mend the cause and run the same command again"
        )


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each setting's best counts, and of each task the best setting; the first among equals.

    >>> point = {"n_components": 3, "map": 0.5}
    >>> result = {"representation": "delta", "sub_network": "full", "best": {"retrieval": point}}
    >>> summarise([result])["best"]["retrieval"]["n_components"]
    3
    """
    from lorastyle.evaluation.selection import OBJECTIVES

    best: dict[str, Any] = {}
    for task, objective in OBJECTIVES.items():
        scored = [result for result in results if task in result["best"]]
        if scored:
            winner = max(scored, key=lambda result: result["best"][task][objective])
            best[task] = {
                "representation": winner["representation"],
                "sub_network": winner["sub_network"],
                **winner["best"][task],
            }
    return {
        "best": best,
        "settings": {
            f"{result['representation']}/{result['sub_network']}": dict(result["best"])
            for result in results
        },
    }


def _write_results(directory: Path, results: Sequence[Mapping[str, Any]]) -> None:
    import pandas as pd

    from lorastyle.evaluation.selection import CURVE_COLUMNS

    names = ("representation", "sub_network")
    rows = [
        {**{name: result[name] for name in names}, **point}
        for result in results
        for point in result["curve"]
    ]
    table = pd.DataFrame(rows, columns=[*names, *CURVE_COLUMNS])
    write_parquet(directory / RESULTS_FILE, table)
