"""The stage `sweep`: a Ray Tune grid over rank, representation, sub-network and calibration.

A trial is one setting: it scores every PC count, form of calibration and objective on
validation, since one Gram matrix and one k-means serve all of them. The choice is made when all
trials are done, and only then the chosen settings are looked at on the test adapters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import yaml

from lorastyle.distributed.dask_scheduler import pass_scheduler
from lorastyle.distributed.grid import Grid, grid_of
from lorastyle.distributed.rank_runs import prepare_ranks, trained_ranks
from lorastyle.distributed.session import Session
from lorastyle.distributed.trials import Trials, shown
from lorastyle.distributed.tuning import forget_trials, try_all
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import bring_up_to_date
from lorastyle.embedding.style_space import Task
from lorastyle.embedding.wanted import wanted_products
from lorastyle.errors import StageError
from lorastyle.evaluation.chosen import embedded_grams, scores_on_test
from lorastyle.evaluation.protocol import ProtocolSettings
from lorastyle.evaluation.sweep_choice import choose_best, results_table
from lorastyle.evaluation.swept import BEST_FILE, RESULTS_FILE, current_inputs, pick_of
from lorastyle.places.place import Place, place_of
from lorastyle.records import digest
from lorastyle.report.swept import write_sweep_report
from lorastyle.runs import Run, StageOutcome, carry_out, write_atomically, write_parquet

GRID = "grid-"
"""A grid's directory in `sweep/` begins with it: Tune's state, and the trials' scores."""


def sweep(
    run: Run,
    *,
    session: Session | None = None,
    force: bool = False,
    train_missing: bool = False,
) -> StageOutcome:
    """Try every setting at every PC count; write `results.parquet`, `best.yaml` and figures.

    What the grid needs and the embedding lacks is embedded first. Adapters of ranks that were
    never trained are trained with `train_missing`, and otherwise a reason to refuse. See
    `evaluation.swept` for the files. Raises StageError naming a trial that failed.
    """
    with nullcontext(session) if session else Session(run.experiment.compute.address) as session:
        trained_ranks(run.experiment)  # refuses what cannot be, before anything is made for it
        grams = _with_all_products(run, session)
        ranks = prepare_ranks(run, session, train_missing=train_missing)
        grid = grid_of(run.experiment, grams)
        inputs = {
            **current_inputs(run),
            "settings": [setting.key for setting in grid.settings],
            "ranks": {str(rank): embedded for rank, embedded in ranks.items()},
        }
        # Forced though nothing changed: then not even the trials are to be believed.
        anew = force and run.status("sweep", inputs).state == "current"
        return carry_out(
            run, "sweep", inputs, lambda: _sweep(run, grid, inputs, session, anew), force=force
        )


def _with_all_products(run: Run, session: Session) -> GramSet:
    """The run's Gram matrices; embedded first, where the sweep is to try what they lack."""
    grams = embedded_grams(run)
    wanted = wanted_products(run.experiment, grams.targets)
    if all(grams.has(*each) for each in product(wanted.representations, wanted.expressions)):
        return grams
    bring_up_to_date(run, pass_scheduler(session))
    return embedded_grams(run)


def _sweep(
    run: Run, grid: Grid, inputs: Mapping[str, Any], session: Session, anew: bool
) -> dict[str, Any]:
    # What curves depend on, and not how one chooses from them: another rule repeats no trial.
    scored = {name: value for name, value in inputs.items() if name != "choice"}
    name = f"{GRID}{digest(scored)[:12]}"
    scores = place_of(run.absolute_location).child(f"sweep/{name}/scores")
    if anew:
        scores.clear()
    _discard_other_grids(run.sweep_path, "" if anew else name)
    found = _try(Trials(run.absolute_location, scores, grid.settings), run, name, session)
    results = results_table(grid.settings, found)
    best = choose_best(grid.settings, found, run.experiment)
    for task in get_args(Task):
        if task in best["best"]:
            point = best["best"][task]
            point["test"] = _on_test(run, task, point, scores)
    _write(run, results, best)
    return {
        "n_settings": len(grid.settings),
        "n_points": len(results),
        "best": best["best"],
        "left_out": dict(grid.left_out),
        "digest": digest([found, best]),
    }


def _try(trials: Trials, run: Run, name: str, session: Session) -> list[dict[str, Any]]:
    """What every trial found, in order; those that an earlier attempt finished are not repeated."""
    n_settings, directory = len(trials.settings), run.sweep_path.absolute() / name
    for _ in range(2):
        if len(trials.finished()) < n_settings:
            session.start()
            with shown(trials):
                try_all(trials.carry_out, n_settings, directory)
        found = [one for number in range(n_settings) if (one := trials.read(number))]
        if len(found) == n_settings:
            return found
        # Tune takes trials for finished whose scores are gone.
        forget_trials(directory)
    raise StageError(
        f"the scores of {n_settings - len(found)} of {n_settings} trials vanish from "
        f"{trials.scores.where('')} as they are written; see who else works there"
    )


def _on_test(run: Run, task: Task, point: Mapping[str, Any], scores: Place) -> dict[str, Any]:
    """The chosen setting's scores on test: looked at once, and kept beside the trials' scores."""
    chosen = {name: point[name] for name in sorted(point) if name not in ("validation", "argmax")}
    key = f"test-{task}-{digest(chosen)[:12]}.json"
    content = scores.read(key)
    if content is None:
        found = scores_on_test(run, task, pick_of(point, run.experiment))
        content = json.dumps(found, indent=1, allow_nan=False).encode()
        scores.write(key, [content])
    return dict(json.loads(content))


def _write(run: Run, results: pd.DataFrame, best: Mapping[str, Any]) -> None:
    write_parquet(run.sweep_path / RESULTS_FILE, results)
    # Through JSON, so that what stands twice is written twice, and not as YAML's references.
    plain = json.loads(json.dumps(best))
    write_atomically(run.sweep_path / BEST_FILE, yaml.safe_dump(plain, sort_keys=False))
    top_k = ProtocolSettings.of(run.experiment).top_k
    write_sweep_report(run.sweep_path, results, best, top_k)


def _discard_other_grids(directory: Path, name: str) -> None:
    """Remove the directories of all grids but this one."""
    for other in directory.glob(f"{GRID}*"):
        if other.name != name:
            shutil.rmtree(other)
