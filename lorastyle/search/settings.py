"""In which style space to search: what the sweep found best, where the query allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lorastyle.embedding.gram import GramSet
from lorastyle.errors import StageError
from lorastyle.records import UNLABELLED
from lorastyle.runs import Run

BEST_FILE = "best.yaml"
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
    there = [
        (name, network)
        for name in embedded["outputs"]["representations"]
        for network in embedded["outputs"]["sub_networks"]
        if network in run.experiment.embedding.sub_networks
    ]
    fits = [
        pair
        for pair in there
        if pair[0] in representations
        and pair[1] in sub_networks
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
    swept = _swept(run)
    scored = {pair: swept["/".join(pair)] for pair in fits if "/".join(pair) in swept}
    if scored:
        pair = max(scored, key=lambda each: float(scored[each]["map"]))
        why = f"best mAP on validation, {float(scored[pair]['map']):.3f}"
        return SpaceChoice(*pair, int(scored[pair]["n_components"]), _joined(why, reason))
    order = {name: place for place, name in enumerate(DEFAULT_SUB_NETWORKS)}
    pair = min(fits, key=lambda each: (representations.index(each[0]), order[each[1]]))
    return SpaceChoice(*pair, None, _joined("no sweep has chosen", reason))


def default_components(run: Run, n_components: int) -> int:
    """As many components as there are artists, about which scores peak; all without labels."""
    table = GramSet.load(run.embedding_path).table
    n_artists = table.loc[table["artist"] != UNLABELLED, "artist"].nunique()
    return min(n_components, n_artists) if n_artists > 1 else n_components


def _swept(run: Run) -> Mapping[str, Mapping[str, Any]]:
    """The best retrieval point of each setting, where a sweep of this embedding is done."""
    recorded, path = run.manifest("sweep"), run.sweep_path / BEST_FILE
    current = recorded is not None and recorded["inputs"].get("embed") == run.upstream_hash("embed")
    if not current or not path.is_file():
        return {}
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))["settings"]
    return {name: best["retrieval"] for name, best in settings.items() if "retrieval" in best}


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
