"""One value of a factor: chosen on validation as everywhere, then scored, test once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lorastyle.ablation.levels import Entry
from lorastyle.config import CalibrationForm, Experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.products import Gram
from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.drift import calibration_summary
from lorastyle.evaluation.floor import random_retrieval
from lorastyle.evaluation.protocol import ProtocolSettings, Setting
from lorastyle.evaluation.selection import (
    Choice,
    Curves,
    calibration_forms,
    choices_of,
    setting_curves,
)
from lorastyle.evaluation.swept import FinishedSweep
from lorastyle.evaluation.weights import weight_entries

N_FIXED = 2
"""Components under which drift is comparable between values that choose other counts."""


@dataclass(frozen=True)
class RememberingGrams(GramSet):
    """Gram matrices of which the last one asked for is kept: a union of many takes time."""

    _last: dict[tuple[str, str], Gram] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, grams: GramSet) -> RememberingGrams:
        return cls(grams.table, grams.sums, grams.provenance, grams.energies, grams.groups_hold)

    def matrix(self, representation: str, expression: str) -> Gram:
        name = representation, expression
        if name not in self._last:
            found = super().matrix(*name)
            self._last.clear()
            self._last[name] = found
        return self._last[name]


@dataclass(frozen=True)
class Measured:
    """What the evaluation's metrics would say of a setting."""

    entries: Mapping[Task, Entry]
    absent: Mapping[Task, str]


def measure(
    setting: Setting,
    experiment: Experiment,
    *,
    protocol: ProtocolSettings | None = None,
    forms: Sequence[CalibrationForm] | None = None,
    swept: FinishedSweep | None = None,
) -> Measured:
    """Choose PC count and calibration on validation, then score all splits there.

    Forms of calibration are by default those of the experiment. Curves that the finished sweep
    has of this setting are not computed again.
    """
    protocol = protocol or ProtocolSettings.of(experiment)
    choices = choose(setting, experiment, protocol=protocol, forms=forms, swept=swept)
    calibrated = setting.calibrated_as({task: one.calibration for task, one in choices.items()})
    return score(calibrated, {task: one.n_components for task, one in choices.items()}, protocol)


def choose(
    setting: Setting,
    experiment: Experiment,
    *,
    protocol: ProtocolSettings,
    forms: Sequence[CalibrationForm] | None = None,
    swept: FinishedSweep | None = None,
) -> dict[Task, Choice]:
    """The choice of each task, by the rule of `evaluation.selection`: no test adapter is seen."""
    curves: Curves = swept.curves(setting.key) if swept is not None and forms is None else {}
    if not curves:
        wanted = calibration_forms(experiment) if forms is None else forms
        curves = setting_curves(setting, wanted, protocol)
    return choices_of(curves, experiment.sweep)


def score(setting: Setting, counts: Mapping[Task, int], protocol: ProtocolSettings) -> Measured:
    """Scores of a calibrated setting at given PC counts, with its calibration's diagnostics.

    Besides what the evaluation gives, `drift_of_two`: the drift under the first two components,
    and `floor`: what retrieval would score by chance in this gallery.
    A task without a count takes the number of artists, as the evaluation does.
    """
    entries, _ = weight_entries(setting, counts, protocol)
    for task, space in setting.spaces.items():
        summary = calibration_summary(space, entries[task]["n_components"])
        entries[task]["calibration_diagnostics"] = summary
        two = min(N_FIXED, space.n_components)
        entries[task]["drift_of_two"] = calibration_summary(space, two)["drift"]
    if (vectors := setting.vectors.get("retrieval")) is not None:
        entries["retrieval"]["floor"] = {
            split: random_retrieval(vectors.fit.artists, part.artists, protocol.top_k)
            for split, part in vectors.held_out.items()
        }
    return Measured(entries, setting.absent)
