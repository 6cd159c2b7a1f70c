"""The stage `evaluate`: style spaces and image features into the paper's tables.

Writes, in `run.evaluation_path`:

- `metrics.json`: clustering, retrieval, features, similarity, comparison, floor, protocol; see
  docs/formats.md.
  Fractions of one, never NaN; what could not be computed is absent and `NAME_reason` stands beside
  it, or in `reasons` for a whole entry.
- `curves.parquet`: representation, sub_network, n_components, ari_mean, ari_std, nmi_mean, nmi_std,
  map, map_at_k, recall_at_k; validation scores for every PC count.
- `scores.parquet`: representation, sub_network, calibrated, fit, adapter_id, artist, genre, role,
  component_1 to component_10.
- `queries.parquet`: representation, sub_network (empty for image features, which are named in
  `feature`, with their `scenario`), calibrated, adapter_id, artist, role, average_precision,
  average_precision_at_k, recall_at_k.
- `calibration.parquet`: see `drift.calibration_table`. `similarity.parquet`: see
  `likeness.similarity_table`.
- `tables/`: the paper's tables as Markdown, LaTeX, CSV and JSON (docs/evaluation.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from lorastyle.adapters.module_sets import expand
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.chosen import fitted, grams_of
from lorastyle.evaluation.comparison import paired_differences
from lorastyle.evaluation.curves import CLUSTERING_COLUMNS, CURVE_COLUMNS, RETRIEVAL_COLUMNS, merged
from lorastyle.evaluation.drift import calibration_summary, calibration_table
from lorastyle.evaluation.encoding import feature_of
from lorastyle.evaluation.findings import Findings
from lorastyle.evaluation.floor import floor_section
from lorastyle.evaluation.image_features import feature_names, measure_features
from lorastyle.evaluation.intervals import LEVEL, N_RESAMPLES, SEED
from lorastyle.evaluation.likeness import similarity_section, similarity_table
from lorastyle.evaluation.paper_tables import paper_tables
from lorastyle.evaluation.protocol import HELD_OUT, ProtocolSettings, Setting
from lorastyle.evaluation.selection import (
    Choice,
    Curves,
    calibration_forms,
    choices_of,
    setting_curves,
)
from lorastyle.evaluation.swept import FinishedSweep, SweptSetting, finished_sweep, own_setting
from lorastyle.evaluation.table_formats import write_table
from lorastyle.evaluation.weights import query_table, score_table, weight_entries
from lorastyle.progress import progress
from lorastyle.records import UNLABELLED, Role, digest
from lorastyle.runs import Run, StageOutcome, carry_out, write_json

NO_FEATURE = "there is no image feature to compare the weights with"


def evaluate(
    run: Run, *, force: bool = False, prepare: Callable[[pd.DataFrame], None] | None = None
) -> StageOutcome:
    """Score every style space and image feature of an embedded run.

    `prepare` is told the embedded adapters (columns row, role, ...) before anything is scored: it
    may make the images and features that are missing, on other machines.
    PC counts come from the sweep's curves where it is finished on this embedding,
    else from the same function here, so that they are the same; the settings that the
    sweep found best are scored too where the embedding did not name them. Raises
    StageError before embedding, ConfigError for an unknown image feature.
    """
    experiment = run.experiment
    for name in experiment.evaluation.features:
        feature_of(run, name)
    embedding = experiment.embedding.model_dump(mode="json")
    upstream = "plan" if run.is_planned else "ingest"
    swept = finished_sweep(run)
    inputs = {
        upstream: run.upstream_hash(upstream),
        "embed": run.upstream_hash("embed"),
        "embedding": embedding,
        "evaluation": experiment.evaluation.model_dump(mode="json", exclude={"generated"}),
        "protocol": experiment.protocol.model_dump(mode="json", include={"train", "calibration"}),
    }
    if experiment.evaluation.generated:
        inputs["generation"] = experiment.generation.model_dump(mode="json")
    if swept is not None:
        inputs["sweep"] = run.upstream_hash("sweep")
    return carry_out(run, "evaluate", inputs, lambda: _evaluate(run, swept, prepare), force=force)


def _evaluate(
    run: Run, swept: FinishedSweep | None, prepare: Callable[[pd.DataFrame], None] | None
) -> dict[str, Any]:
    grams = GramSet.load(run.embedding_path)
    if prepare is not None:
        prepare(grams.table)
    findings = Findings()
    settings, findings.absent = _settings(run, grams, swept)
    n_items = len(settings) + len(feature_names(run))
    with progress("evaluate", n_items, "methods") as shown:
        for setting in settings:
            _measure_weights(run, setting, grams, swept, findings)
            shown.advance()
        measure_features(run, grams.table, findings, shown)
    metrics = {
        "clustering": findings.clustering,
        "retrieval": findings.retrieval,
        "features": findings.features,
        "similarity": _similarity(run, settings, grams, swept, findings),
        "comparison": _comparison(swept, findings),
        "floor": floor_section(grams.table, run.experiment),
        "protocol": _protocol(run, grams.table),
    }
    if findings.absent:
        metrics["reasons"] = findings.absent
    findings.write_tables(run.evaluation_path)
    for table in paper_tables(metrics, findings.shares, run.experiment):
        write_table(run.evaluation_path / "tables", table)
    write_json(run.metrics_path, metrics)
    return {
        "metrics": digest(metrics),
        "n_settings": len(settings),
        "n_features": len(findings.features),
    }


def _settings(
    run: Run, grams: GramSet, swept: FinishedSweep | None
) -> tuple[list[SweptSetting], dict[str, str]]:
    """What to score, and why other settings cannot be.

    Those of the embedding, and those that the sweep found best for either task.
    """
    experiment = run.experiment
    expressions = expand(experiment.embedding.sub_networks, grams.targets)
    wanted = [
        own_setting(experiment, representation, expression)
        for representation in experiment.embedding.representations
        for expression in expressions
    ]
    absent = {
        setting.key: f"the adapters have no {setting.sub_network} layers"
        if setting.representation in grams.representations
        else f"the representation {setting.representation} was not embedded"
        for setting in wanted
        if not grams.has(setting.representation, setting.sub_network)
    }
    found = [setting for setting in wanted if setting.key not in absent]
    known = {setting.key for setting in found}
    picks = [pick for task in HELD_OUT if swept and (pick := swept.pick(task)) is not None]
    best = {pick.setting.key: pick.setting for pick in picks if pick.setting.key not in known}
    return [*found, *best.values()], absent


def _measure_weights(
    run: Run,
    wanted: SweptSetting,
    grams: GramSet,
    swept: FinishedSweep | None,
    findings: Findings,
) -> None:
    protocol = ProtocolSettings.of(run.experiment)
    setting = fitted(run, wanted, grams if wanted.is_own else grams_of(run, wanted))
    curves = swept.curves(setting.key) if swept is not None else {}
    if not curves:
        curves = setting_curves(setting, calibration_forms(run.experiment), protocol)
    choices = choices_of(curves, run.experiment.sweep)
    setting = setting.calibrated_as({task: one.calibration for task, one in choices.items()})
    counts = {task: choice.n_components for task, choice in choices.items()}
    entries, queries = weight_entries(setting, counts, protocol)
    for task, entry in entries.items():
        findings.entries(task)[setting.key] = entry
    for task, reason in setting.absent.items():
        findings.absent[f"{task}/{setting.key}"] = reason
    for task, space in setting.spaces.items():
        summary = calibration_summary(space, entries[task]["n_components"])
        entries[task]["calibration_diagnostics"] = summary
    share = grams.share(wanted.sub_network)
    if math.isfinite(share):
        findings.shares[setting.key] = share
    findings.calibration.append(calibration_table(setting))
    findings.curves.append(_with_name(setting, _chosen_curve(curves, choices)))
    findings.scores.append(score_table(setting))
    findings.queries.append(query_table(setting, queries))


def _chosen_curve(curves: Curves, choices: Mapping[Task, Choice]) -> pd.DataFrame:
    """The curve of each task under the form of calibration chosen for it, in one frame."""
    first = next(iter(curves))
    parts = {
        task: curves[choices[task].calibration if task in choices else first] for task in HELD_OUT
    }
    columns = ["n_components", *CLUSTERING_COLUMNS]
    retrieval = parts["retrieval"][["n_components", *RETRIEVAL_COLUMNS]]
    return merged(parts["clustering"][columns], retrieval)


def _with_name(setting: Setting, curve: pd.DataFrame) -> pd.DataFrame:
    names = {"representation": setting.representation, "sub_network": setting.sub_network}
    return curve.assign(**names)[[*names, *CURVE_COLUMNS]]


def _comparison(swept: FinishedSweep | None, findings: Findings) -> dict[str, Any]:
    """The best setting's retrieval less every other method's, query by query."""
    pick = swept.pick("retrieval") if swept is not None else None
    best = pick.setting.key if pick is not None else findings.best("retrieval")
    queries = findings.table("queries")
    if best is None or queries.empty:
        return {"reason": "there is no query"}
    roles = HELD_OUT["retrieval"].items()
    differences = {split: paired_differences(queries, best, role.value) for split, role in roles}
    return {"setting": best, **{split: found for split, found in differences.items() if found}}


def _similarity(
    run: Run,
    settings: Sequence[SweptSetting],
    grams: GramSet,
    swept: FinishedSweep | None,
    findings: Findings,
) -> dict[str, Any]:
    """The best setting's embedding beside the image features'."""
    pick = swept.pick("clustering") if swept is not None else None
    best = pick.setting.key if pick is not None else findings.best("clustering")
    if best is None or not findings.feature_vectors:
        return {"reason": "there is no style space" if best is None else NO_FEATURE}
    (wanted,) = (setting for setting in settings if setting.key == best)
    setting = fitted(run, wanted, grams if wanted.is_own else grams_of(run, wanted))
    # That of retrieval was fitted on all train adapters.
    space = setting.spaces.get("retrieval") or setting.spaces["clustering"]
    names = grams.table["adapter_id"].tolist()
    table = similarity_table(best, space, findings.feature_vectors, names)
    findings.similarity.append(table)
    return similarity_section(best, table)


def _protocol(run: Run, table: pd.DataFrame) -> dict[str, Any]:
    settings = ProtocolSettings.of(run.experiment)
    counts = table["role"].value_counts()
    return {
        "n_artists": int(table.loc[table["artist"] != UNLABELLED, "artist"].nunique()),
        "adapters_per_role": {role.value: int(counts.get(role.value, 0)) for role in Role},
        "k": settings.top_k,
        "seeds": list(range(settings.n_seeds)),
        "interval": {"level": LEVEL, "n_resamples": N_RESAMPLES, "seed": SEED},
        "config_hash": run.experiment.hash(),
    }
