"""A grid of settings tried by Ray Tune: interrupted, it goes on where it was.

Tune keeps the state of its trials below a directory of the grid's own. What a trial found is a
file of its own too (`trials`), where all machines see it: Tune's state may be lost, or be of
a moment before a trial's end, and still nothing that was finished is computed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorastyle.distributed.environment import environment
from lorastyle.errors import StageError

MAX_TRIAL_FAILURES = 2
DIRECTORY = "tune"

_QUIET_TUNE = {
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner goes to stdout, whatever the verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # imports TensorBoard
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

Body = Callable[[int], Mapping[str, float]]
"""One trial: tries the setting of this number, leaves its scores where they are looked for, and
returns the best of each objective. It is carried out in other processes."""


def try_all(body: Body, n_settings: int, directory: Path) -> None:
    """Carry out a trial for every setting, as many at once as the cluster has cores.

    Ray must be initialised. `directory` belongs to this very grid. Raises StageError if a
    trial failed `MAX_TRIAL_FAILURES` times and once more, when all others are done.
    """
    with environment(_QUIET_TUNE):
        errors = _tuner(body, n_settings, directory).fit().errors
    if errors:
        reason = " ".join(str(errors[0]).strip().splitlines()[-1].split())[:300]
        raise StageError(
            f"{len(errors)} of {n_settings} trials of the sweep failed, the first with: "
            f"{reason}; mend the cause and run the same command again"
        )


def forget_trials(directory: Path) -> None:
    """Remove Tune's state of a grid: the next attempt begins with all of its trials."""
    shutil.rmtree(directory / DIRECTORY, ignore_errors=True)


def _tuner(body: Body, n_settings: int, directory: Path) -> Any:
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    def trial(config: Mapping[str, Any]) -> None:
        tune.report({"done": True, **body(config["setting"])})

    trainable = tune.with_resources(trial, {"cpu": 1})
    restored = _restored(tune.Tuner, directory / DIRECTORY, trainable)
    if restored is not None:
        return restored
    return tune.Tuner(
        trainable,
        param_space={"setting": tune.grid_search(list(range(n_settings)))},
        # A process a trial would import everything anew each time.
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            name=DIRECTORY,
            storage_path=str(directory),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_FAILURES),
            # Pickled with the tuner: it must know nothing of this process.
            callbacks=[JsonLoggerCallback()],
        ),
    )


def _restored(tuner: Any, path: Path, trainable: Any) -> Any | None:
    """The tuner of an interrupted attempt, or None where there is none that can go on."""
    if not tuner.can_restore(str(path)):
        return None
    try:
        found = tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=True)
        found.get_results()
    except Exception:
        # Killed while it was written. The trials' own files are all that matters.
        forget_trials(path.parent)
        return None
    return found
