"""What expressions of sub-networks mean: sets of a layout's modules.

How they are written is in `sub_networks`. Everything is told by names and shapes, so no base
model is loaded. `targets` are always all modules of a layout: how many blocks a U-Net has, and
so its resolutions, does not show in a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

from lorastyle.adapters.layout import AdapterLayout, TargetModule, joined
from lorastyle.records import SUB_NETWORKS
from lorastyle.sub_networks import FAMILIES, PROJECTIONS, STAGES, check_entry, parse

Targets = Sequence[TargetModule]

_BLOCK = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.")
_ENDINGS = {
    "to_q": ".to_q",
    "to_k": ".to_k",
    "to_v": ".to_v",
    "to_out": ".to_out.0",
    "ff_in": ".ff.net.0.proj",
    "ff_out": ".ff.net.2",
}


def modules_of(expression: str, targets: Targets) -> tuple[str, ...]:
    """Names of the modules that an expression names, in the order of `targets`; maybe none.

    >>> targets = [TargetModule("mid_block.attentions.0.attn1.to_q", "self_attention", 8, 8)]
    >>> modules_of("mid&to_q", targets), modules_of("full-to_q", targets)
    (('mid_block.attentions.0.attn1.to_q',), ())
    """
    chosen: set[str] = set()
    for term in parse(expression):
        named = set.intersection(*(_named(name, targets) for name in term.names))
        chosen = chosen | named if term.operator == "+" else chosen - named
    return tuple(target.name for target in targets if target.name in chosen)


def column_ranges(expression: str, layout: AdapterLayout) -> list[slice]:
    """Column ranges of an adapter vector that hold these modules, neighbours joined."""
    wanted = set(modules_of(expression, layout.targets))
    return joined(
        slice(entry.offset, entry.stop) for entry in layout.entries if entry.module in wanted
    )


def expand(entries: Iterable[str], targets: Targets) -> tuple[str, ...]:
    """Expressions without spaces, each once, in place of a list's entries.

    A family becomes those of its members that name a module here. Any other entry stays,
    even where it names none.
    """
    found: dict[str, None] = {}
    for entry in map(check_entry, entries):
        members = _family(entry, targets) if entry in FAMILIES else [entry]
        found.update(dict.fromkeys(members))
    return tuple(found)


def atoms(expressions: Iterable[str], targets: Targets) -> tuple[tuple[str, ...], ...]:
    """The coarsest partition of all modules of which every expression is a union.

    No atom crosses the three sub-networks. Atoms and their modules are in the order of
    `targets`.
    """
    members = [frozenset(modules_of(expression, targets)) for expression in expressions]
    parts: dict[tuple[object, ...], list[str]] = {}
    for target in targets:
        key = (target.sub_network, *(target.name in each for each in members))
        parts.setdefault(key, []).append(target.name)
    return tuple(tuple(names) for names in parts.values())


def share(expression: str, targets: Targets) -> float:
    """Part of an adapter's parameters that lies in these modules: the same at any rank."""
    wanted = set(modules_of(expression, targets))
    sizes = {target.name: target.in_features + target.out_features for target in targets}
    total = sum(sizes.values())
    return sum(size for name, size in sizes.items() if name in wanted) / total if total else 0.0


def _named(name: str, targets: Targets) -> set[str]:
    holds = _holds(name, targets)
    return {target.name for target in targets if holds(target)}


def _holds(name: str, targets: Targets) -> Callable[[TargetModule], bool]:
    """Whether a module is one of those that a single name means."""
    if name == "full":
        return lambda target: True
    if name == "attention":
        return lambda target: target.sub_network in ("self_attention", "cross_attention")
    if name in SUB_NETWORKS:
        return lambda target: target.sub_network == name
    if name in PROJECTIONS:
        ending = _ENDINGS[name]
        return lambda target: f".{target.name}".endswith(ending)
    if name.partition(".")[0] in STAGES:
        return lambda target: name in (_level_of(target.name), _stage_of(target.name))
    if name.startswith("res") and name[3:].isdecimal():
        n_blocks = _n_blocks(targets)
        return lambda target: _resolution_of(target.name, n_blocks) == int(name[3:])
    return lambda target: _fits(name, target.name)


def _level_of(module: str) -> str:
    """`down.0`, `mid`, `up.3`; nothing where the module is in no block."""
    found = _BLOCK.match(module)
    if found is None:
        return ""
    return f"{found[1]}.{found[2]}" if found[1] else "mid"


def _stage_of(module: str) -> str:
    return _level_of(module).partition(".")[0]


def _resolution_of(module: str, n_blocks: int) -> int | None:
    """How many times narrower than the latents the block's features are."""
    stage, _, number = _level_of(module).partition(".")
    if stage == "down":
        return int(2 ** int(number))
    if stage == "up":
        return int(2 ** (n_blocks - 1 - int(number)))
    return int(2 ** (n_blocks - 1)) if stage else None


def _n_blocks(targets: Targets) -> int:
    """Blocks on the way down, which are as many as on the way up.

    Blocks without attention have no modules. The fewest blocks are taken for which those
    that face each other, down.i and up.(n-1-i), are equally wide.
    """
    widths: dict[str, dict[int, int]] = {"down": {}, "up": {}}
    for target in targets:
        stage, _, number = _level_of(target.name).partition(".")
        if number:
            widths[stage].setdefault(int(number), _width(target))
    down, up = widths["down"], widths["up"]
    least = 1 + max((*down, *up), default=0)
    return next(
        n for n in count(least) if all(up.get(n - 1 - i, wide) == wide for i, wide in down.items())
    )


def _width(target: TargetModule) -> int:
    """Channels of the block: every projection ends in them but the feed-forward's first."""
    return target.in_features if target.name.endswith(_ENDINGS["ff_in"]) else target.out_features


def _fits(pattern: str, name: str) -> bool:
    """Whether a name is the pattern with any text in place of each `*`.

    No regular expression: a pattern of many stars would take for ever.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    place = len(first)
    for part in rest[:-1]:
        found = name.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return len(name) - place >= len(rest[-1]) and name.endswith(rest[-1])


def _family(family: str, targets: Targets) -> list[str]:
    """The members that the layout has."""
    return [member for member in _members(family, targets) if modules_of(member, targets)]


def _members(family: str, targets: Targets) -> Iterator[str]:
    if family == "by-sub-network":
        yield from SUB_NETWORKS
    elif family == "by-block":
        yield from STAGES
    elif family == "by-level":
        yield from sorted({_level_of(target.name) for target in targets} - {""}, key=_level_place)
    elif family == "by-resolution":
        n_blocks = _n_blocks(targets)
        there = {_resolution_of(target.name, n_blocks) for target in targets}
        yield from (f"res{level}" for level in sorted(level for level in there if level))
    elif family == "by-projection":
        yield from PROJECTIONS
    else:
        yield from (target.name for target in targets)


def _level_place(level: str) -> tuple[int, int]:
    """As features pass through the U-Net."""
    stage, _, number = level.partition(".")
    return STAGES.index(stage), int(number or 0)
