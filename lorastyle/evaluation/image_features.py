"""Image features of a run: encoded, scored, and kept for what compares embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lorastyle.corpus.stage import read_plan
from lorastyle.errors import StageError
from lorastyle.evaluation.baselines import adapter_features, feature_entry
from lorastyle.evaluation.encoding import Encoding, Generated, Originals, feature_of
from lorastyle.evaluation.findings import Findings
from lorastyle.evaluation.labelled import FloatArray
from lorastyle.evaluation.protocol import HELD_OUT, ProtocolSettings
from lorastyle.evaluation.weights import label_queries
from lorastyle.features.contract import aggregate
from lorastyle.progress import Progress
from lorastyle.records import Role
from lorastyle.runs import Run


def feature_names(run: Run) -> tuple[str, ...]:
    """The image features to score: none where adapters came without images."""
    return run.experiment.evaluation.features if run.is_planned else ()


def generated_rows(run: Run, table: pd.DataFrame) -> list[int]:
    """Rows of the adapters whose generated images are scored: gallery and queries.

    `table` has columns row, role. None where the experiment does not ask for it.
    """
    if not run.experiment.evaluation.generated or not feature_names(run):
        return []
    roles = [Role.TRAIN.value, *(role.value for role in HELD_OUT["retrieval"].values())]
    return [int(row) for row in table.loc[table["role"].isin(roles), "row"]]


def measure_features(run: Run, table: pd.DataFrame, findings: Findings, shown: Progress) -> None:
    """Image features of exactly the adapters whose weights were compared.

    Raises StageError where generated images are to be scored that have not been made.
    """
    names = feature_names(run)
    if not names:
        return
    originals, images_of = Originals.of(run), _images_of(run, table)
    image_ids = list(originals.catalogue["image_id"])
    made_by = Generated(run, generated_rows(run, table))
    for name in names:
        feature = feature_of(run, name)
        encoded = Encoding(run, feature, originals).read()
        vectors = adapter_features(encoded, image_ids, images_of)
        generated = _generated_vectors(made_by, name, table)
        entry, queries = feature_entry(
            vectors, table, ProtocolSettings.of(run.experiment), generated
        )
        findings.features[name] = {"identity": feature.identity(), **entry}
        findings.feature_vectors[name] = vectors
        findings.queries += [
            label_queries(table, scores).assign(feature=name, scenario=scenario)
            for scenario, scores in queries.items()
        ]
        shown.advance()


def _generated_vectors(pictures: Generated, name: str, table: pd.DataFrame) -> FloatArray | None:
    """Of each adapter of the table; zeros for those whose images nobody looks at."""
    if not pictures.rows:
        return None
    feature = feature_of(pictures.run, name, generated=True)
    encoded = Encoding(pictures.run, feature, pictures).read()
    ends = np.cumsum(pictures.sizes)
    members = [range(end - size, end) for end, size in zip(ends, pictures.sizes, strict=True)]
    vectors = np.zeros((len(table), encoded.shape[1]))
    vectors[table["row"].isin(pictures.rows)] = aggregate(encoded, members)
    return vectors


def _images_of(run: Run, table: pd.DataFrame) -> Sequence[Sequence[str]]:
    planned: Mapping[str, Sequence[str]] = {
        spec.adapter_id: spec.image_ids for spec in read_plan(run)
    }
    unplanned = set(table["adapter_id"]) - planned.keys()
    if unplanned:
        raise StageError(
            f"{len(unplanned)} embedded adapters are not in the plan, first {min(unplanned)!r}; "
            "embed the run again"
        )
    return [planned[name] for name in table["adapter_id"]]
