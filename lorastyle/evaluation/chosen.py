"""Settings as a sweep names them, fitted; and the one look at the test adapters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.labelled import TaskVectors
from lorastyle.evaluation.protocol import (
    HELD_OUT,
    ProtocolSettings,
    Setting,
    clustering_entry,
    fit_setting,
    retrieval_entry,
)
from lorastyle.evaluation.swept import Pick, SweptSetting
from lorastyle.runs import Run

TEST = "test"


def grams_of(run: Run, setting: SweptSetting) -> GramSet:
    """The Gram matrices of the adapters that a setting is of.

    Raises StageError where they are not embedded.
    """
    if setting.in_other_run:
        assert setting.rank is not None
        run = Run.open(run.rank_location(setting.rank))
    return embedded_grams(run)


def embedded_grams(run: Run) -> GramSet:
    """The Gram matrices of an embedded run. Raises StageError before embedding."""
    run.upstream_hash("embed")
    run.pull("embed")
    return GramSet.load(run.embedding_path)


def fitted(
    run: Run, setting: SweptSetting, grams: GramSet, tasks: Iterable[Task] = tuple(HELD_OUT)
) -> Setting:
    """The style spaces of a setting, under its own name: of another rank `delta/full@rank8`."""
    names = setting.embedded_as, setting.sub_network
    found = fit_setting(grams, None, *names, run.experiment, tasks)
    sub_network = setting.key.partition("/")[2]
    return replace(found, representation=setting.representation, sub_network=sub_network)


def scores_on_test(run: Run, task: Task, pick: Pick) -> dict[str, Any]:
    """The scores of the test adapters in one chosen setting; empty where there are none.

    Clustering: `{"ari", "nmi"}`, mean and standard deviation over k-means seeds. Retrieval:
    `{"map", "map_at_k", "recall_at_k", "n_queries"}`.
    """
    setting = fitted(run, pick.setting, grams_of(run, pick.setting), [task])
    vectors = setting.calibrated_as({task: pick.calibration}).vectors[task]
    chosen = vectors.first(pick.n_components)
    only = TaskVectors(chosen.fit, {TEST: chosen.held_out[TEST]})
    settings = ProtocolSettings.of(run.experiment)
    if task == "clustering":
        entry = clustering_entry(only, settings)
    else:
        entry, _ = retrieval_entry(only, settings, "euclidean")
    return dict(entry.get(TEST, {}))
