"""In which style space to search: what the sweep found best, where the query allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorastyle.config import CalibrationForm
from lorastyle.embedding.gram import GramSet
from lorastyle.errors import StageError
from lorastyle.evaluation.swept import FinishedSweep, Pick, finished_sweep
from lorastyle.records import UNLABELLED
from lorastyle.runs import Run

DEFAULT_SUB_NETWORKS = ("feed_forward", "full", "self_attention", "cross_attention")
"""Without a sweep: the paper's best sub-network, then what there is."""


@dataclass(frozen=True)
class SpaceChoice:
    """A style space and how many of its components count."""

    representation: str
    sub_network: str
    n_components: int | None
    """None: as many as there are artists, or all."""
    why: str
    """A sentence for people."""
    calibration: CalibrationForm | None = None
    """None: the embedding's."""

    @property
    def key(self) -> str:
        return f"{self.representation}/{self.sub_network}"


def choose_setting(
    run: Run,
    *,
    representations: tuple[str, ...],
    sub_networks: tuple[str, ...],
    representation: str | None = None,
    sub_network: str | None = None,
    reason: str = "",
) -> SpaceChoice:
    """The best space for retrieval on validation, among those a query can be placed in.

    `representations` and `sub_networks` are possible for the query, and `reason` says why;
    the other two are the user's wishes. Raises StageError where nothing fits.
    """
    embedded = run.manifest("embed")
    if embedded is None:
        raise StageError(
            f"{run.location} has no style space; run `lorastyle embed {run.location}` first"
        )
    there = _there(run, embedded, sub_networks)
    fits = [
        pair
        for pair in there
        if pair[0] in representations
        and representation in (None, pair[0])
        and sub_network in (None, pair[1])
    ]
    if not fits:
        names = ", ".join("/".join(pair) for pair in there) or "none"
        raise StageError(
            f"no style space fits {representation or 'any representation'} of "
            f"{sub_network or 'any sub-network'}: the query can be placed by "
            f"{' or '.join(representations)} of {' or '.join(sub_networks)}"
            f"{f' ({reason})' if reason else ''}, and {run.location} has {names}"
        )
    swept = finished_sweep(run)
    picks = swept.picks("retrieval") if swept is not None else {}
    scored = {pair: picks["/".join(pair)] for pair in fits if "/".join(pair) in picks}
    if swept is not None and scored:
        pair = max(scored, key=lambda each: scored[each].score)
        pick = scored[pair]
        why = f"best on validation, {_objective(run)} {pick.chosen_score:.3f}"
        why = _joined(why, _better_elsewhere(run, swept, pick), reason)
        return SpaceChoice(*pair, pick.n_components, why, pick.calibration)
    order = {name: place for place, name in enumerate(DEFAULT_SUB_NETWORKS)}
    pair = min(
        fits, key=lambda each: (representations.index(each[0]), order.get(each[1], len(order)))
    )
    return SpaceChoice(*pair, None, _joined("no sweep has chosen", reason))


def _there(
    run: Run, embedded: Mapping[str, Any], sub_networks: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Spaces that there are, or that the Gram matrices can give, of sub-networks of the query."""
    grams = GramSet.load(run.embedding_path)
    return [
        (name, network)
        for name in embedded["outputs"]["representations"]
        for network in sub_networks
        if grams.has(name, network)
    ]


def _objective(run: Run) -> str:
    return {"map": "mAP", "recall_at_k": "recall"}[run.experiment.sweep.retrieval_objective]


def _better_elsewhere(run: Run, swept: FinishedSweep, ours: Pick) -> str:
    """Where the sweep's best is of adapters of another rank: they lie in a run of their own."""
    best = swept.pick("retrieval")
    if best is None or not best.setting.in_other_run or best.chosen_score <= ours.chosen_score:
        return ""
    where = run.rank_location(best.setting.rank or 0)
    return f"adapters of rank {best.setting.rank} reach {best.chosen_score:.3f}: search {where}"


def default_components(run: Run, n_components: int) -> int:
    """As many components as there are artists, about which scores peak; all without labels."""
    table = GramSet.load(run.embedding_path).table
    n_artists = table.loc[table["artist"] != UNLABELLED, "artist"].nunique()
    return min(n_components, n_artists) if n_artists > 1 else n_components


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
