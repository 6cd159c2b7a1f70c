"""Which file of a run is where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorastyle.config import Experiment
from lorastyle.places.place import Place, place_of
from lorastyle.runs.location import beside

STAGES: tuple[str, ...] = ("plan", "train", "embed", "sweep", "evaluate", "report")
"""In the order in which a whole run carries them out."""

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class RunPaths:
    """Where the files of a run are: in a directory, or in a bucket and a working copy of it."""

    directory: Path
    """Where its files are worked on: the run's directory, or a working copy of a bucket's."""
    experiment: Experiment
    url: str | None = None
    """Of a run in a bucket."""

    @property
    def location(self) -> Path | str:
        """Where the run lies: what opens it, here or on another machine."""
        return self.directory if self.url is None else self.url

    @property
    def absolute_location(self) -> Path | str:
        """The same for a process that works in another directory."""
        return self.directory.absolute() if self.url is None else self.url

    @property
    def place(self) -> Place:
        """The run's files where it lies."""
        return place_of(self.location)

    @property
    def config_path(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def corpus_path(self) -> Path:
        """Images of the run's own: painted ones, and in a bucket those of a user's folder."""
        return self.directory / "corpus"

    @property
    def regularisation_path(self) -> Path:
        """Regularisation images of the run's own: in a bucket, those of a user's folder."""
        return self.directory / "regularisation"

    @property
    def regularisation_table_path(self) -> Path:
        return self.directory / "regularisation.parquet"

    @property
    def catalogue_path(self) -> Path:
        return self.directory / "catalogue.parquet"

    @property
    def captions_path(self) -> Path:
        """Of each image: whose caption, and what was taken out of it."""
        return self.directory / "captions.csv"

    @property
    def plan_path(self) -> Path:
        return self.directory / "plan.parquet"

    @property
    def store_path(self) -> Path | str:
        """The trained adapters, beside the run's other files or in its bucket."""
        return beside(self.location, "adapters.zarr")

    @property
    def has_store(self) -> bool:
        """Whether there are trained adapters, or room made for them."""
        return place_of(self.store_path).exists("zarr.json")

    @property
    def ingested_path(self) -> Path | str:
        """Adapters from elsewhere, beside the run's other files or in its bucket."""
        return beside(self.location, "ingested")

    def rank_location(self, rank: int) -> Path | str:
        """Where the run with the same adapters at another rank lies: made by the sweep."""
        return beside(self.location, f"ranks/{rank}")

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
        """Of a run in a directory."""
        return self.directory / manifest_key(stage)


def manifest_key(stage: str) -> str:
    """A manifest's name in the run."""
    return f"manifests/{stage}.json"
