"""`Run`: where the files of a run lie, and for each stage a manifest that is written last.

Stages exchange files, not live objects. A manifest holds the hashes of what the
stage read and of what it wrote; no manifest means unfinished, a matching one
means there is nothing to do.

A run is a directory, or a prefix of a bucket. In a bucket, stages work on a copy in
a directory of this machine, and what they made is published when they are done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lorastyle.config import Experiment, load_experiment
from lorastyle.errors import StageError
from lorastyle.records import digest
from lorastyle.runs.differences import differences
from lorastyle.runs.location import location, make_working_copy, working_copy
from lorastyle.runs.paths import CONFIG_FILE, RunPaths, manifest_key
from lorastyle.runs.published import Files, files_below, publish, pull
from lorastyle.runs.writing import json_text, write_atomically

IMAGES = ("corpus", "regularisation")
"""Published files below these are pulled one by one, when they are first wanted."""
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "plan": (
        *("catalogue.parquet", "plan.parquet", "regularisation.parquet"),
        *("left_out.csv", "captions.csv"),
        *IMAGES,
    ),
    "embed": ("embedding",),
    "sweep": tuple(
        f"sweep/{name}"
        for name in (
            *("results.parquet", "best.yaml", "ablation.md", "ablation.csv"),
            *("curves.png", "curves.svg", "ranks.png", "ranks.svg"),
        )
    ),
    "evaluate": ("evaluation",),
    "report": ("report",),
}
"""Files and folders that a stage publishes. Adapters are not among them: they are written to
the bucket one by one, as they are trained or ingested."""

MANIFEST_VERSION = 1
MANIFEST_KEYS = frozenset(
    {"version", "stage", "inputs", "outputs", "output_hash", "wall_s", "finished_at"}
)


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage's output is there and made from the present inputs."""

    state: str
    """`missing`, `current` or `stale`."""
    changed: tuple[str, ...] = ()
    """Which inputs changed, where stale."""


@dataclass(frozen=True)
class Run(RunPaths):
    """A run and the experiment it was made with. Cheap to pickle."""

    @classmethod
    def create(cls, where: Path | str, experiment: Experiment, *, force: bool = False) -> Run:
        """Open or make the run at a path or URL; refuse an experiment that contradicts it.

        Raises StageError naming the settings that differ. `force` accepts the
        new experiment: stages whose inputs changed are then made again.
        """
        run = cls._at(where, experiment)
        content = experiment.to_yaml().encode()
        if not run.place.create(CONFIG_FILE, content):
            run._settle(content, force)
        run._copy_config(content)
        return run

    def _settle(self, content: bytes, force: bool) -> None:
        """Put this experiment in the place of the one that is there, unless they contradict."""
        if not force:
            recorded = Run.open(self.location).experiment
            if recorded.hash() != self.experiment.hash():
                changes = ", ".join(differences(recorded, self.experiment))
                raise StageError(
                    f"{self.location} was made with other settings ({changes}); "
                    "choose another --run, or --force to replace what depends on them"
                )
        if self.place.read(CONFIG_FILE) != content:
            self.place.write(CONFIG_FILE, [content])

    @classmethod
    def open(cls, where: Path | str) -> Run:
        """An existing run at a path or URL. Raises StageError where there is none."""
        run = cls._at(where, Experiment())
        content = run.place.read(CONFIG_FILE)
        if content is None:
            raise StageError(
                f"{run.location} is not a run (no config.yaml); make one with "
                f"`lorastyle run CONFIG --run {run.location}`"
            )
        run._copy_config(content)
        return replace(run, experiment=load_experiment(run.config_path))

    def _copy_config(self, content: bytes) -> None:
        if self.url is not None:
            make_working_copy(self.url)
            write_atomically(self.config_path, content)

    @classmethod
    def _at(cls, where: Path | str, experiment: Experiment) -> Run:
        place = location(where)
        if isinstance(place, Path):
            return cls(place, experiment)
        return cls(working_copy(place), experiment, place)

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage recorded, or None."""
        content = self.place.read(manifest_key(stage))
        if content is None:
            return None
        try:
            recorded = json.loads(content)
        except ValueError:
            recorded = None
        if not isinstance(recorded, dict) or not recorded.keys() >= MANIFEST_KEYS:
            where = self.place.where(manifest_key(stage))
            raise StageError(f"{where} is damaged; delete it to have '{stage}' made again")
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
    ) -> Mapping[str, Any]:
        """Record a stage as done; returns its manifest. Called once its files are all in place.

        In a bucket they are published first. Where another machine has finished the same
        stage meanwhile its manifest stands, and its files take the place of ours; raises
        StageError if it was made from other inputs.
        """
        manifest = {
            "version": MANIFEST_VERSION,
            "stage": stage,
            "inputs": dict(inputs),
            "outputs": dict(outputs),
            "output_hash": digest(json.loads(json.dumps(dict(outputs)))),
            "wall_s": round(wall_s, 3),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        json_text(manifest)  # before anything is published
        if stage not in OUTPUTS or self.url is None:
            self.place.write(manifest_key(stage), [json_text(manifest).encode()])
            return manifest
        manifest["files"] = self._publish(stage)
        content = json_text(manifest).encode()
        while not self.place.create(manifest_key(stage), content):
            if (standing := self.manifest(stage)) is not None:
                self._yield_to(standing, manifest)
                return standing
        return manifest

    def forget(self, stage: str) -> None:
        """Have a stage look unfinished; its files stay."""
        self.place.delete(manifest_key(stage))

    def pull(self, *stages: str) -> None:
        """Have here what finished stages made, as their manifests list it.

        Nothing to do for a run in a directory. Images wait until they are wanted. Raises
        StageError naming a file that is gone or damaged.
        """
        for stage in stages:
            files = self._files(stage)
            wanted = {name: files[name] for name in files if not _is_image(name)}
            if wanted:
                self._remove_others(stage, wanted)
                pull(self.place, self.directory, wanted)

    def fetch(self, path: Path) -> Path:
        """The file itself, pulled first if it is an image that a bucket run has and we lack."""
        self.fetch_all([path])
        return path

    def fetch_all(self, paths: Iterable[Path]) -> None:
        """Pull those of these images that a bucket run has and this machine lacks."""
        if self.url is None:
            return
        ours = (path for path in paths if path.is_relative_to(self.directory))
        names = [path.relative_to(self.directory).as_posix() for path in ours]
        wanted = {name: self._images[name] for name in names if name in self._images}
        pull(self.place, self.directory, wanted)

    def publish_again(self, stage: str) -> None:
        """Add to a finished stage what was made for it since. A directory needs nothing."""
        recorded = self.manifest(stage)
        if self.url is not None and recorded is not None:
            content = json_text({**recorded, "files": self._publish(stage)}).encode()
            self.place.write(manifest_key(stage), [content])

    @cached_property
    def _images(self) -> Files:
        """The plan's files, as they were when first asked for."""
        return self._files("plan")

    def _files(self, stage: str) -> Files:
        if self.url is None:
            return {}
        files: Files = (self.manifest(stage) or {}).get("files", {})
        return files

    def _remove_others(self, stage: str, files: Files) -> None:
        """Remove what an earlier attempt left in the working copy: nobody may take it for new."""
        outputs = [output for output in OUTPUTS[stage] if output not in IMAGES]
        for name in files_below(self.directory, outputs):
            if name not in files:
                (self.directory / name).unlink(missing_ok=True)

    def _publish(self, stage: str) -> Files:
        return publish(self.place, self.directory, files_below(self.directory, OUTPUTS[stage]))

    def _yield_to(self, standing: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        """Take over what another machine made of the same stage at the same time."""
        stage = ours["stage"]
        if standing["inputs"] != json.loads(json.dumps(ours["inputs"])):
            raise StageError(
                f"another machine finished '{stage}' of {self.location} meanwhile, from other "
                "inputs; use the same settings in both, and run the same command again"
            )
        self.pull(stage)

    def upstream_hash(self, stage: str) -> str:
        """The output hash of a finished stage, as input of the next one.

        Raises StageError if it is not finished, naming the command that does it.
        """
        recorded = self.manifest(stage)
        if recorded is None:
            raise StageError(
                f"{self.location} has no finished '{stage}' stage; "
                f"run `lorastyle {stage} {self.location}` first"
            )
        return str(recorded["output_hash"])


def _is_image(name: str) -> bool:
    return name.split("/", 1)[0] in IMAGES
