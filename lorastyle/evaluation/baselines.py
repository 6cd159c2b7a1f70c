"""Image features under the protocol: what a site could do that kept the training images.

An adapter's vector is the mean feature of the images it was trained on. The fit set is *all* train
adapters: a feature needs none of them for calibration. Clustering compares by Euclidean distance,
retrieval by cosine, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.embedding.style_space import Task
from lorastyle.errors import StageError
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors, TaskVectors
from lorastyle.evaluation.protocol import (
    HELD_OUT,
    ProtocolSettings,
    absences,
    clustering_entry,
    retrieval_entry,
)
from lorastyle.evaluation.retrieval import RetrievalScores
from lorastyle.evaluation.scenarios import SCENARIOS
from lorastyle.features.contract import Features, aggregate
from lorastyle.records import Role

NOT_GENERATED = "no images were generated with the adapters of this run"


def adapter_features(
    features: Features, image_ids: Sequence[str], images_of: Sequence[Sequence[str]]
) -> FloatArray:
    """Mean feature of each adapter's images: (n_adapters, dimension).

    `image_ids` name the rows of `features`. Raises StageError for an image that is
    not among them.
    """
    position = {image_id: row for row, image_id in enumerate(image_ids)}
    wanted = {image_id for images in images_of for image_id in images}
    if absent := sorted(wanted - position.keys()):
        raise StageError(
            f"{len(absent)} training images are not in the catalogue, first {absent[0]!r}; "
            "plan the run again"
        )
    return aggregate(features, [[position[name] for name in images] for images in images_of])


def feature_vectors(vectors: FloatArray, table: pd.DataFrame, task: Task) -> TaskVectors:
    """Adapter features as a task; `table` labels them (columns artist, role)."""
    roles, artists = table["role"].to_numpy(), table["artist"].to_numpy().astype(np.str_)

    def part(role: Role) -> LabelledVectors:
        chosen = roles == role.value
        return LabelledVectors(vectors[chosen], artists[chosen])

    held_out = {name: part(role) for name, role in HELD_OUT[task].items()}
    return TaskVectors(part(Role.TRAIN), held_out)


def feature_entry(
    vectors: FloatArray,
    table: pd.DataFrame,
    settings: ProtocolSettings,
    generated: FloatArray | None = None,
) -> tuple[dict[str, Any], Mapping[str, Mapping[str, RetrievalScores]]]:
    """`{"clustering": {...}, "retrieval": {SCENARIO: {...}}}`, and single queries' by scenario.

    `vectors` (n_adapters, dimension) are of the images the adapters were trained on,
    `generated` of images that they made. The scenarios that need those are absent without
    them.
    """
    clusters = feature_vectors(vectors, table, "clustering")
    clustering = clustering_entry(clusters, settings)
    clustering |= absences("clustering", clustering, clusters)
    sources = {"orig": vectors} | ({} if generated is None else {"gen": generated})
    tasks = {name: feature_vectors(each, table, "retrieval") for name, each in sources.items()}
    retrieval: dict[str, Any] = {}
    queries: dict[str, Mapping[str, RetrievalScores]] = {}
    for scenario in SCENARIOS:
        gallery, _, asked = scenario.partition("_")
        if not {gallery, asked} <= tasks.keys():
            retrieval[f"{scenario}_reason"] = NOT_GENERATED
            continue
        task = TaskVectors(tasks[gallery].fit, tasks[asked].held_out)
        entry, queries[scenario] = retrieval_entry(task, settings, "cosine")
        retrieval[scenario] = entry | absences("retrieval", entry, task)
    return {"clustering": clustering, "retrieval": retrieval}, queries
