"""Image features of a run: encoded, scored, and kept for what compares embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.errors import StageError
from lorastyle.evaluation.baselines import adapter_features, encode_catalogue, feature_entry
from lorastyle.evaluation.findings import Findings
from lorastyle.evaluation.protocol import ProtocolSettings
from lorastyle.evaluation.weights import label_queries
from lorastyle.features.contract import image_feature
from lorastyle.progress import Progress
from lorastyle.runs import Run


def feature_names(run: Run) -> tuple[str, ...]:
    """The image features to score: none where adapters came without images."""
    return run.experiment.evaluation.features if run.is_planned else ()


def measure_features(run: Run, table: pd.DataFrame, findings: Findings, shown: Progress) -> None:
    """Image features of exactly the adapters whose weights were compared."""
    from lorastyle.base.images import load_image

    names = feature_names(run)
    if not names:
        return
    catalogue, root = read_catalogue(run), corpus_root(run)
    run.fetch_all(root / path for path in catalogue["path"])
    images_of = _images_of(run, table)
    for name in names:
        feature = image_feature(name)
        encoded = encode_catalogue(
            feature, catalogue, lambda path, size: load_image(root / path, size)
        )
        vectors = adapter_features(encoded, list(catalogue["image_id"]), images_of)
        entry, queries = feature_entry(vectors, table, ProtocolSettings.of(run.experiment))
        findings.features[name] = entry
        findings.feature_vectors[name] = vectors
        findings.queries.append(label_queries(table, queries).assign(feature=name))
        shown.advance()


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
