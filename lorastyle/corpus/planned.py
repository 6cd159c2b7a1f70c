"""Files of a planned run: tables read back, and images that travel with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lorastyle.errors import StageError
from lorastyle.runs import Run


def read_table(run: Run, path: Path) -> pd.DataFrame:
    """A table that `plan` writes. Raises StageError where the run is not planned."""
    run.pull("plan")
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise StageError(
            f"{path} does not exist; run `lorastyle plan {run.location}` first"
        ) from error


def copy_images(source: Path, target: Path, names: Iterable[str]) -> None:
    """Images of a user's folder into one of the run's own, to be published with the plan."""
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, path)
