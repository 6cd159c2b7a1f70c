"""What the report calls things."""

from __future__ import annotations

import re
from collections.abc import Mapping

SUB_NETWORK_NAMES: Mapping[str, str] = {
    "full": "full network",
    "feed_forward": "feed-forward",
    "self_attention": "self-attention",
    "cross_attention": "cross-attention",
}
_BLOCK_NAMES: Mapping[str, str] = {"down": "down blocks", "mid": "middle block", "up": "up blocks"}
_SIGNS: Mapping[str, str] = {"+": " + ", "-": " − ", "&": " ∩ "}
REPRESENTATION_NAMES: Mapping[str, str] = {
    "factors": "factors",
    "delta": "ΔW",
    "delta-aligned": "ΔW, aligned",
}
SCORE_NAMES: Mapping[str, str] = {
    "ari": "ARI",
    "nmi": "NMI",
    "map": "mAP",
    "map_at_k": "mAP@k",
    "recall_at_k": "Recall@k",
}
KIND_NAMES: Mapping[str, str] = {
    "train": "train",
    "calibration": "calibration",
    "val": "validation",
    "test": "test",
    "query_calibration": "calibration queries",
    "query_val": "validation queries",
    "query_test": "test queries",
}


def plain(name: str) -> str:
    """An identifier as words.

    >>> plain("colour_histogram")
    'colour histogram'
    """
    return name.replace("_", " ")


def sub_network_name(expression: str) -> str:
    """An expression of sub-networks as words; names of modules stay as they are.

    >>> sub_network_name("full-cross_attention"), sub_network_name("up.1&to_v+res2")
    ('full network − cross-attention', 'up block 1 ∩ to_v + resolution 1/2')
    """
    parts = re.split(r"([+&-])", expression.replace(" ", ""))
    return "".join(_SIGNS[part] if part in _SIGNS else _term_name(part) for part in parts)


def _term_name(name: str) -> str:
    if found := re.fullmatch(r"(down|up)\.([0-9]+)", name):
        return f"{found[1]} block {found[2]}"
    if found := re.fullmatch(r"res([0-9]+)", name):
        return "full resolution" if found[1] == "1" else f"resolution 1/{found[1]}"
    return SUB_NETWORK_NAMES.get(name) or _BLOCK_NAMES.get(name, name)


def representation_name(representation: str) -> str:
    """A representation as words, cut to a rank or not.

    >>> representation_name("delta@4")
    'ΔW cut to rank 4'
    """
    base, cut, rank = representation.partition("@")
    name = REPRESENTATION_NAMES.get(base, plain(base))
    return f"{name} cut to rank {rank}" if cut else name


def space_name(space: str) -> str:
    """A style space, by its key in the metrics, as words.

    >>> space_name("factors/full"), space_name("delta/up&to_v@rank8")
    ('factors · full network', 'ΔW of rank 8 · up blocks ∩ to_v')
    """
    representation, _, rest = space.partition("/")
    sub_network, _, rank = rest.partition("@")
    if rank.startswith("truncated"):
        representation += f"@{rank.removeprefix('truncated')}"
    name = representation_name(representation)
    if rank.startswith("rank"):
        name += f" of rank {rank.removeprefix('rank')}"
    return f"{name} · {sub_network_name(sub_network)}"


def percent(fraction: float, std: float | None = None) -> str:
    """A fraction as the paper prints it, in percent.

    >>> percent(0.9561, 0.025), percent(0.5)
    ('95.6 ± 2.5', '50.0')
    """
    text = f"{100 * fraction:.1f}"
    return text if std is None else f"{text} ± {100 * std:.1f}"


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.42), duration(75), duration(7380)
    ('0.4 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of 1000.

    >>> size(45_279_000_000), size(812)
    ('45.3 GB', '812 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"
