"""A run: one directory, and for each stage a manifest that is written last.

Stages exchange files, not live objects. A manifest holds the hashes of what the
stage read and of what it wrote; no manifest means unfinished, a matching one
means there is nothing to do.
"""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lorastyle.config import Experiment, load_experiment
from lorastyle.errors import StageError
from lorastyle.records import digest

if TYPE_CHECKING:
    import pandas as pd

STAGES: tuple[str, ...] = ("plan", "train", "embed", "sweep", "evaluate", "report")
"""In the order in which a whole run carries them out."""

MANIFEST_VERSION = 1
MANIFEST_KEYS = frozenset(
    {"version", "stage", "inputs", "outputs", "output_hash", "wall_s", "finished_at"}
)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a small file so that a reader sees all of it or nothing.

    `durable` waits for the disk; without it a power cut may lose the file, not tear it.
    """
    data = content.encode() if isinstance(content, str) else content
    with _replacing(path, durable=durable) as file:
        file.write(data)


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a `.npy` file atomically, without a copy of the array in memory."""
    with _replacing(path) as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def _replacing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique among threads, processes and hosts that share the directory.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write JSON atomically; NaN is an error, never a token in the file."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n", durable=durable)


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage's output is there and made from the present inputs."""

    state: str
    """`missing`, `current` or `stale`."""
    changed: tuple[str, ...] = ()
    """Which inputs changed, where stale."""


@dataclass(frozen=True)
class Run:
    """Paths of a run and the experiment it was made with."""

    directory: Path
    experiment: Experiment

    @classmethod
    def create(cls, directory: Path, experiment: Experiment, *, force: bool = False) -> Run:
        """Open or make the run; refuse an experiment that contradicts it.

        Raises StageError naming the settings that differ. `force` accepts the
        new experiment: stages whose inputs changed are then made again.
        """
        run = cls(directory, experiment)
        if run.config_path.exists() and not force:
            recorded = cls.open(directory).experiment
            if recorded.hash() != experiment.hash():
                changes = ", ".join(_differences(recorded, experiment))
                raise StageError(
                    f"{directory} was made with other settings ({changes}); "
                    "choose another --run, or --force to replace what depends on them"
                )
        text = experiment.to_yaml()
        if not run.config_path.exists() or run.config_path.read_text(encoding="utf-8") != text:
            write_atomically(run.config_path, text)
        return run

    @classmethod
    def open(cls, directory: Path) -> Run:
        """An existing run. Raises StageError where there is none."""
        path = directory / "config.yaml"
        if not path.is_file():
            raise StageError(
                f"{directory} is not a run (no config.yaml); make one with `lorastyle run CONFIG`"
            )
        return cls(directory, load_experiment(path))

    @property
    def config_path(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def corpus_path(self) -> Path:
        """Where the procedural corpus is painted."""
        return self.directory / "corpus"

    @property
    def catalogue_path(self) -> Path:
        return self.directory / "catalogue.parquet"

    @property
    def plan_path(self) -> Path:
        return self.directory / "plan.parquet"

    @property
    def store_path(self) -> Path:
        return self.directory / "adapters.zarr"

    @property
    def ingested_path(self) -> Path:
        """Where adapters from elsewhere lie."""
        return self.directory / "ingested"

    @property
    def search_path(self) -> Path:
        """What searching keeps: where every adapter lies in the style space."""
        return self.directory / "search"

    @property
    def embedding_path(self) -> Path:
        return self.directory / "embedding"

    @property
    def sweep_path(self) -> Path:
        return self.directory / "sweep"

    @property
    def evaluation_path(self) -> Path:
        return self.directory / "evaluation"

    @property
    def metrics_path(self) -> Path:
        return self.evaluation_path / "metrics.json"

    @property
    def report_path(self) -> Path:
        return self.directory / "report"

    @property
    def is_planned(self) -> bool:
        """True where adapters are trained here; False where all come from elsewhere."""
        return self.experiment.corpus.source != "adapters"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this run has."""
        return STAGES if self.is_planned else STAGES[STAGES.index("embed") :]

    def manifest_path(self, stage: str) -> Path:
        return self.directory / "manifests" / f"{stage}.json"

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage recorded, or None."""
        path = self.manifest_path(stage)
        try:
            recorded = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            recorded = None
        if not isinstance(recorded, dict) or not recorded.keys() >= MANIFEST_KEYS:
            raise StageError(f"{path} is damaged; delete it to have '{stage}' made again")
        return recorded

    def status(self, stage: str, inputs: Mapping[str, Any]) -> StageStatus:
        """Compare a stage's manifest with the inputs it would be made from now."""
        recorded = self.manifest(stage)
        if recorded is None:
            return StageStatus("missing")
        before = recorded["inputs"]
        now = json.loads(json.dumps(dict(inputs)))
        changed = sorted(
            key for key in before.keys() | now.keys() if before.get(key) != now.get(key)
        )
        if changed:
            return StageStatus("stale", tuple(changed))
        return StageStatus("current")

    def finish(
        self, stage: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], wall_s: float
    ) -> None:
        """Record a stage as done. Called once its files are all in place."""
        manifest = {
            "version": MANIFEST_VERSION,
            "stage": stage,
            "inputs": dict(inputs),
            "outputs": dict(outputs),
            "output_hash": digest(json.loads(json.dumps(dict(outputs)))),
            "wall_s": round(wall_s, 3),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_json(self.manifest_path(stage), manifest)

    def upstream_hash(self, stage: str) -> str:
        """The output hash of a finished stage, as input of the next one.

        Raises StageError if it is not finished, naming the command that does it.
        """
        recorded = self.manifest(stage)
        if recorded is None:
            raise StageError(
                f"{self.directory} has no finished '{stage}' stage; "
                f"run `lorastyle {stage} {self.directory}` first"
            )
        return str(recorded["output_hash"])


@dataclass(frozen=True)
class StageOutcome:
    """What calling a stage did."""

    stage: str
    skipped: bool
    """True when its output was already there, made from the same inputs."""
    wall_s: float
    outputs: Mapping[str, Any]


def carry_out(
    run: Run,
    stage: str,
    inputs: Mapping[str, Any],
    body: Callable[[], Mapping[str, Any]],
    *,
    force: bool = False,
) -> StageOutcome:
    """Do a stage unless it is done; `body` writes its files and returns a record of them.

    `inputs` and the record are small JSON values: settings, counts, digests.
    Raises StageError, naming what changed, where the stage is done from other
    inputs and `force` is not set.
    """
    status = run.status(stage, inputs)
    if status.state == "current" and not force:
        recorded = run.manifest(stage) or {}
        return StageOutcome(stage, True, float(recorded["wall_s"]), recorded["outputs"])
    if status.state == "stale" and not force:
        raise StageError(
            f"the inputs of '{stage}' in {run.directory} changed ({', '.join(status.changed)}); "
            "use --force to make it again, or another --run"
        )
    start = time.monotonic()
    # An interrupted remake must not look finished: the old manifest goes first.
    run.manifest_path(stage).unlink(missing_ok=True)
    outputs = body()
    wall_s = time.monotonic() - start
    run.finish(stage, inputs, outputs, wall_s)
    return StageOutcome(stage, False, wall_s, outputs)


def _differences(recorded: Experiment, wanted: Experiment) -> list[str]:
    before, now = (
        _flatten(recorded.model_dump(mode="json")),
        _flatten(wanted.model_dump(mode="json")),
    )
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(("name", "compute."))
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
