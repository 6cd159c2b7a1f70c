"""The stage `evaluate`: style spaces and image features into the paper's tables.

Writes, in `run.evaluation_path`:

- `metrics.json`: clustering, retrieval, features, protocol; see docs/formats.md.
  Fractions of one, never NaN; what could not be computed is absent and `NAME_reason` stands beside
  it, or in `reasons` for a whole entry.
- `curves.parquet`: representation, sub_network, n_components, ari_mean, ari_std, nmi_mean, nmi_std,
  map, map_at_k, recall_at_k; validation scores for every PC count.
- `scores.parquet`: representation, sub_network, calibrated, fit, adapter_id, artist, genre, role,
  component_1 to component_10.
- `queries.parquet`: representation, sub_network (empty for image features, which are named in
  `feature`), calibrated, adapter_id, artist, role, average_precision, average_precision_at_k,
  recall_at_k.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import Task
from lorastyle.errors import StageError
from lorastyle.evaluation.baselines import adapter_features, encode_catalogue, feature_entry
from lorastyle.evaluation.protocol import ProtocolSettings, Setting, fit_setting
from lorastyle.evaluation.selection import (
    CURVE_COLUMNS,
    choose_counts,
    curve_inputs,
    setting_curve,
)
from lorastyle.evaluation.weights import label_queries, query_table, score_table, weight_entries
from lorastyle.features.contract import image_feature
from lorastyle.progress import Progress, progress
from lorastyle.records import UNLABELLED, Role, digest
from lorastyle.runs import Run, StageOutcome, carry_out, write_json, write_parquet

SWEEP_RESULTS = "results.parquet"


@dataclass
class Findings:
    """What the stage collects before it writes anything."""

    clustering: dict[str, Any] = field(default_factory=dict)
    retrieval: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    curves: list[pd.DataFrame] = field(default_factory=list)
    scores: list[pd.DataFrame] = field(default_factory=list)
    queries: list[pd.DataFrame] = field(default_factory=list)

    def entries(self, task: Task) -> dict[str, Any]:
        return self.clustering if task == "clustering" else self.retrieval


def evaluate(run: Run, *, force: bool = False) -> StageOutcome:
    """Score every style space and image feature of an embedded run.

    PC counts come from the sweep's curves where it is finished on this embedding,
    else from the same function here, so that they are the same. Raises StageError
    before embedding, ConfigError for an unknown image feature.
    """
    experiment = run.experiment
    for name in experiment.evaluation.features:
        image_feature(name)
    embedding = experiment.embedding.model_dump(mode="json")
    upstream = "plan" if run.is_planned else "ingest"
    inputs = {
        upstream: run.upstream_hash(upstream),
        "embed": run.upstream_hash("embed"),
        "embedding": embedding,
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "protocol": experiment.protocol.model_dump(mode="json", include={"train", "calibration"}),
    }
    return carry_out(run, "evaluate", inputs, lambda: _evaluate(run), force=force)


def _evaluate(run: Run) -> dict[str, Any]:
    grams = GramSet.load(run.embedding_path)
    findings = Findings()
    settings, findings.absent = _settings(run, grams)
    n_features = len(run.experiment.evaluation.features) if run.is_planned else 0
    n_items = len(settings) + n_features
    with progress("evaluate", n_items, "methods") as shown:
        _measure_weights(run, grams, settings, findings, shown)
        _measure_features(run, grams.table, findings, shown)
    metrics = {
        "clustering": findings.clustering,
        "retrieval": findings.retrieval,
        "features": findings.features,
        "protocol": _protocol(run, grams.table),
    }
    if findings.absent:
        metrics["reasons"] = findings.absent
    _write_tables(run.evaluation_path, findings)
    write_json(run.metrics_path, metrics)
    return {
        "metrics": digest(metrics),
        "n_settings": len(settings),
        "n_features": len(findings.features),
    }


def _settings(run: Run, grams: GramSet) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Representations and sub-networks to score, and why others cannot be."""
    wanted = [
        (representation, sub_network)
        for representation in run.experiment.embedding.representations
        for sub_network in run.experiment.embedding.sub_networks
    ]
    absent = {
        f"{representation}/{sub_network}": f"the adapters have no {sub_network} layers"
        if representation in grams.representations
        else f"the representation {representation} was not embedded"
        for representation, sub_network in wanted
        if representation not in grams.representations or sub_network not in grams.sub_networks
    }
    return [pair for pair in wanted if "/".join(pair) not in absent], absent


def _measure_weights(
    run: Run,
    grams: GramSet,
    settings: Iterable[tuple[str, str]],
    findings: Findings,
    shown: Progress,
) -> None:
    protocol, swept = ProtocolSettings.of(run.experiment), sweep_curves(run)
    form = run.experiment.embedding.calibration_form
    for representation, sub_network in settings:
        setting = fit_setting(grams, None, representation, sub_network, run.experiment)
        curve = swept.get(setting.key)
        if curve is None:
            curve = setting_curve(setting, protocol)
        entries, queries = weight_entries(setting, choose_counts(curve), protocol)
        for task, entry in entries.items():
            findings.entries(task)[setting.key] = entry
        for task, reason in setting.absent.items():
            findings.absent[f"{task}/{setting.key}"] = reason
        findings.curves.append(_with_name(setting, curve))
        findings.scores.append(score_table(setting, form))
        findings.queries.append(query_table(setting, queries))
        shown.advance()


def sweep_curves(run: Run) -> dict[str, pd.DataFrame]:
    """The sweep's curves by setting, if it is finished on this embedding; else none."""
    recorded, path = run.manifest("sweep"), run.sweep_path / SWEEP_RESULTS
    if recorded is None or not path.exists():
        return {}
    now = {"embed": run.upstream_hash("embed"), **curve_inputs(run.experiment)}
    if any(recorded["inputs"].get(name) != value for name, value in now.items()):
        return {}
    table = pd.read_parquet(path)
    # A results file of another form is no reason to fail: the curves can be made here.
    if not {"representation", "sub_network", *CURVE_COLUMNS} <= set(table.columns):
        return {}
    return {
        f"{representation}/{sub_network}": curve[list(CURVE_COLUMNS)].reset_index(drop=True)
        for (representation, sub_network), curve in table.groupby(["representation", "sub_network"])
    }


def _with_name(setting: Setting, curve: pd.DataFrame) -> pd.DataFrame:
    names = {"representation": setting.representation, "sub_network": setting.sub_network}
    return curve.assign(**names)[[*names, *CURVE_COLUMNS]]


def _measure_features(run: Run, table: pd.DataFrame, findings: Findings, shown: Progress) -> None:
    """Image features of exactly the adapters whose weights were compared."""
    from lorastyle.base.images import load_image

    names = run.experiment.evaluation.features if run.is_planned else ()
    if not names:
        return
    catalogue, root = read_catalogue(run), corpus_root(run)
    run.fetch_all(root / path for path in catalogue["path"])
    images_by_adapter = {spec.adapter_id: spec.image_ids for spec in read_plan(run)}
    unplanned = set(table["adapter_id"]) - images_by_adapter.keys()
    if unplanned:
        raise StageError(
            f"{len(unplanned)} embedded adapters are not in the plan, first {min(unplanned)!r}; "
            "embed the run again"
        )
    images_of = [images_by_adapter[name] for name in table["adapter_id"]]
    for name in names:
        feature = image_feature(name)
        encoded = encode_catalogue(
            feature, catalogue, lambda path, size: load_image(root / path, size)
        )
        vectors = adapter_features(encoded, list(catalogue["image_id"]), images_of)
        entry, queries = feature_entry(vectors, table, ProtocolSettings.of(run.experiment))
        findings.features[name] = entry
        findings.queries.append(label_queries(table, queries).assign(feature=name))
        shown.advance()


def _protocol(run: Run, table: pd.DataFrame) -> dict[str, Any]:
    settings = ProtocolSettings.of(run.experiment)
    counts = table["role"].value_counts()
    return {
        "n_artists": int(table.loc[table["artist"] != UNLABELLED, "artist"].nunique()),
        "adapters_per_role": {role.value: int(counts.get(role.value, 0)) for role in Role},
        "k": settings.top_k,
        "seeds": list(range(settings.n_seeds)),
        "config_hash": run.experiment.hash(),
    }


def _write_tables(directory: Path, findings: Findings) -> None:
    for name in ("curves", "scores", "queries"):
        parts = [part for part in getattr(findings, name) if len(part)]
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        write_parquet(directory / f"{name}.parquet", table)
