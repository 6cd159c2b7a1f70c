"""An embedded run made of vectors that tests have at hand: what scikit-learn says can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lorastyle.ablation.embedded import Embedded
from lorastyle.ablation.measuring import RememberingGrams
from lorastyle.config import Experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.runs import Run
from tests.evaluation.conftest import make_experiment, make_table

WIDTHS = {"self_attention": 20, "cross_attention": 15, "feed_forward": 25}
COUNTS = {"train": 6, "val": 2, "test": 2, "query_calibration": 2, "query_val": 2, "query_test": 2}


@dataclass(frozen=True)
class Database:
    """Adapters of known artists as vectors (n, p), and their inner products."""

    grams: GramSet
    vectors: np.ndarray
    experiment: Experiment

    @property
    def table(self):
        return self.grams.table

    def embedded(self, experiment: Experiment | None = None) -> Embedded:
        return Embedded(RememberingGrams.of(self.grams), experiment or self.experiment)

    def saved(self, directory: Path, experiment: Experiment | None = None) -> Run:
        """A run whose stages up to `embed` are said to be done."""
        run = Run.create(directory, experiment or self.experiment)
        self.grams.save(run.embedding_path)
        for stage in ("plan", "train", "embed"):
            run.finish(stage, {}, {}, 0.0)
        return run


def make_database(n_artists: int = 4, noise: float = 2.0, seed: int = 3) -> Database:
    rng = np.random.default_rng(seed)
    table = make_table(n_artists, COUNTS)
    artist = table["artist"].str.removeprefix("artist").astype(int).to_numpy()
    width = sum(WIDTHS.values())
    vectors = rng.normal(size=(n_artists, width))[artist]
    vectors = vectors + noise * rng.normal(size=(len(table), width))
    parts = np.split(vectors, np.cumsum(list(WIDTHS.values()))[:-1], axis=1)
    sums = {name: part @ part.T for name, part in zip(WIDTHS, parts, strict=True)}
    experiment = make_experiment(
        embedding={"max_components": 7, "representations": ["factors"]},
        evaluation={"features": []},
    )
    return Database(GramSet(table, {"factors": sums}), vectors, experiment)


@pytest.fixture(scope="module")
def database() -> Database:
    return make_database()
