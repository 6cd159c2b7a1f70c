"""What two adapters are to each other: one file, the same weights, one training, kin, strangers.

Each is a separate finding with its own evidence, because users need them apart: a site
that takes steps 3,500 and 3,750 of one training for duplicates is wrong, and so is one that
misses the same weights in another format. docs/verdicts.md says what the thresholds were set on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorastyle.adapters.alignment import AlignedSums, aligned_similarity, aligned_sums
from lorastyle.adapters.pairs import PairProducts, Products, compare_pair
from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.errors import LayoutMismatchError

VERDICTS: tuple[str, ...] = (
    "empty",
    "not_comparable",
    "identical_bytes",
    "same_weights",
    "same_run",
    "similar_style",
    "unrelated",
)
"""The first that holds is the verdict."""

EXACT_RANK = 1024
"""Updates are compared at any rank a layer can have; only databases need a bound on it."""
RUN_METADATA = ("ss_session_id", "ss_training_started_at")
"""What kohya writes once for all checkpoints of a training."""


@dataclass(frozen=True)
class Thresholds:
    """Where one verdict ends and the next begins; see docs/verdicts.md."""

    same_weights: float = 0.01
    """Relative difference of the updates that rounding to bfloat16 does not exceed."""
    same_run: float = 0.6
    """Cosine of the updates of two checkpoints, at least."""
    same_start: float = 0.93
    """Cosine of the flattened lora_A from which both are of one training."""
    similar_style: float = 0.35
    """Cosine of the updates against what their row spaces allow, of the same style at least."""
    covered: float = 0.5
    """Share of both updates on shared modules, below which nothing is said of them."""


COMMON_START = Thresholds(same_run=0.9)
"""Where all adapters began with one lora_A, as those of a run do, that two of them did is no
evidence; then their updates must agree more than those of one artist ever do."""


@dataclass(frozen=True)
class Comparison:
    """The verdict on a pair, every finding, and the scores they rest on."""

    verdict: str
    findings: Mapping[str, bool]
    """By verdict, whether it holds."""
    scores: Mapping[str, Any]
    evidence: tuple[str, ...] = ()
    """Sentences for people."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "verdict": self.verdict,
            "findings": dict(self.findings),
            "scores": dict(self.scores),
            "evidence": list(self.evidence),
        }


@dataclass
class _Case:
    """A pair under examination."""

    a: Adapter
    b: Adapter
    limits: Thresholds
    findings: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(VERDICTS, False))
    scores: dict[str, Any] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)

    def find(self, verdict: str, sentence: str) -> None:
        self.findings[verdict] = True
        self.evidence.append(sentence)

    def closed(self) -> Comparison:
        verdict = next(name for name in VERDICTS if self.findings[name])
        return Comparison(verdict, self.findings, self.scores, tuple(self.evidence))


def compare_adapters(a: Adapter, b: Adapter, thresholds: Thresholds | None = None) -> Comparison:
    """Compare two adapters by their updates; format, rank, alpha and dtype do not matter.

    The U-Net decides; text encoders do where one of the two changes nothing else. Scores:
    `cosine` and `relative_difference` of the updates on the modules both change,
    `aligned_cosine`, which is against what their row spaces allow, `norm_ratio` (b's over
    a's), `row_overlap` and `factor_cosine` of lora_A, `coverage`, and `parts` with the cosine
    of each sub-network.
    """
    case = _Case(a, b, thresholds or Thresholds())
    same_bytes = a.facts.get("sha256") is not None and a.facts["sha256"] == b.facts.get("sha256")
    if same_bytes:
        case.find("identical_bytes", "both files have the same bytes")
    if _is_empty(case) or _is_foreign(case):
        return case.closed()
    try:
        pair = compare_pair(*_compared_parts(a, b))
    except LayoutMismatchError as error:
        case.find("not_comparable", str(error))
        return case.closed()
    if not pair.modules:
        case.find(
            "not_comparable",
            f"they change {len(a)} and {len(b)} modules and none of them in common",
        )
        return case.closed()
    _score(case, pair)
    _judge(case, pair)
    return case.closed()


def _is_empty(case: _Case) -> bool:
    empty = [one for one in (case.a, case.b) if not _energy(one) > 0]
    for one in empty:
        case.find("empty", f"{one.name!r} changes nothing: all its updates are zero")
    return bool(empty)


def _energy(adapter: Adapter) -> float:
    return sum(update.energy() for update in adapter.updates.values())


def _is_foreign(case: _Case) -> bool:
    ours, theirs = (str(one.facts.get("family", "other")) for one in (case.a, case.b))
    case.scores["families"] = [ours, theirs]
    if ours == theirs or "other" in (ours, theirs):
        return False
    case.find("not_comparable", f"they belong to different base models, {ours} and {theirs}")
    return True


def _compared_parts(a: Adapter, b: Adapter) -> tuple[Adapter, Adapter]:
    """Their U-Net modules where both have some, else everything."""

    def unet(one: Adapter) -> Adapter:
        kept = {key: value for key, value in one.updates.items() if key.network == "unet"}
        return Adapter(one.name, kept, one.facts)

    ours, theirs = unet(a), unet(b)
    return (ours, theirs) if ours.updates and theirs.updates else (a, b)


def _score(case: _Case, pair: PairProducts) -> None:
    whole = pair.whole
    case.scores |= {
        "cosine": whole.cosine,
        "relative_difference": _relative_difference(whole),
        "norm_ratio": whole.norm_b / whole.norm_a if whole.norm_a > 0 else None,
        "row_overlap": _mean_overlap(pair),
        "factor_cosine": _factor_cosine(pair),
        "aligned_cosine": _aligned_cosine(case.a, case.b, pair.modules),
        "coverage": {
            "shared_modules": whole.n_modules,
            "only_first": len(pair.only_a),
            "only_second": len(pair.only_b),
            "energy_share": [pair.energy_share_a, pair.energy_share_b],
        },
        "parts": {name: products.cosine for name, products in pair.parts.items()},
    }


def _judge(case: _Case, pair: PairProducts) -> None:
    scores, limits = case.scores, case.limits
    share = min(pair.energy_share_a, pair.energy_share_b)
    residual = (max(0.0, 1 - pair.whole.cosine**2)) ** 0.5
    if pair.whole.cosine > 0 and residual <= limits.same_weights and share > 1 - 1e-6:
        ratio = scores["norm_ratio"]
        scaled = "" if abs(ratio - 1) <= limits.same_weights else f", scaled by {ratio:.3g}"
        case.find(
            "same_weights",
            f"their updates differ by {scores['relative_difference']:.2g} of their norm{scaled}",
        )
    evidence = _of_one_run(case, pair)
    if evidence:
        case.find("same_run", evidence)
    if share < limits.covered:
        case.evidence.append(
            f"only {share:.0%} of an update lies on the {pair.whole.n_modules} modules they share"
        )
    aligned = scores["aligned_cosine"]
    if case.findings["same_weights"] or case.findings["same_run"]:
        return
    sentence = (
        f"cosine {pair.whole.cosine:z.3f}, against what their row spaces allow {aligned:z.2f}, "
        f"where adapters of different styles rarely exceed {limits.similar_style:.2f}"
    )
    kin = aligned >= limits.similar_style and share >= limits.covered
    case.find("similar_style" if kin else "unrelated", sentence)


def _of_one_run(case: _Case, pair: PairProducts) -> str | None:
    """Why they are checkpoints of one training, or None."""
    cosine, start = pair.whole.cosine, case.scores["factor_cosine"]
    if case.findings["same_weights"] or cosine < case.limits.same_run:
        return None
    metadata = [dict(one.facts.get("metadata", {})) for one in (case.a, case.b)]
    for name in RUN_METADATA:
        if name in metadata[0] and metadata[0][name] == metadata[1].get(name):
            return f"both files name the training {name} = {metadata[0][name]}, cosine {cosine:.2f}"
    if start is not None and start >= case.limits.same_start:
        return f"cosine {cosine:.2f}, and both began with the same lora_A (cosine {start:.3f})"
    return None


def _relative_difference(whole: Products) -> float | None:
    largest = max(whole.norm_a, whole.norm_b)
    if not largest > 0:
        return None
    square = whole.norm_a**2 + whole.norm_b**2 - 2 * whole.inner
    return float(max(0.0, square) ** 0.5 / largest)


def _mean_overlap(pair: PairProducts) -> float:
    return sum(one.row_overlap for one in pair.modules.values()) / len(pair.modules)


def _factor_cosine(pair: PairProducts) -> float | None:
    known = [one.factor_cosine for one in pair.modules.values() if one.factor_cosine is not None]
    return sum(known) / len(known) if known else None


def _aligned_cosine(a: Adapter, b: Adapter, shared: Iterable[ModuleKey]) -> float:
    """Cosine against what the row spaces allow, over the shared modules: see `alignment`."""
    total = np.zeros((2, 1, 1))
    for key in shared:
        ours, theirs = a.updates[key], b.updates[key]
        total += aligned_sums(
            ours.lora_A[None],
            ours.lora_B[None],
            theirs.lora_A[None],
            theirs.lora_B[None],
            scaling=ours.scaling,
            other_scaling=theirs.scaling,
        )
    return float(aligned_similarity(AlignedSums(*total))[0, 0])
