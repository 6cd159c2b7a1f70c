"""Alpha and where it was found: tensors, a folder's config, diffusers' metadata, or nowhere.

`scaling = alpha / rank`. A file that says nothing means alpha = rank, scaling 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lorastyle.adapters.updates import ModuleKey
from lorastyle.errors import AdapterFileError

METADATA_KEY = "lora_adapter_metadata"
"""Under which diffusers keeps PEFT's config in a safetensors header, as JSON."""


class Alpha(NamedTuple):
    """What a file says of a module's alpha."""

    value: float | None
    source: str
    """`tensor`, `metadata`, `config` or `absent`."""
    by_root: bool = False
    """Rank-stabilised LoRA: divided by the root of the rank."""

    @property
    def is_unset(self) -> bool:
        """A tensor of 0, which kohya and LyCORIS take for "the rank"; to PEFT 0 is 0."""
        return self.value == 0 and self.source == "tensor"

    def scaling(self, rank: int) -> float:
        if self.value is None:
            return 1.0
        return self.value / (math.sqrt(rank) if self.by_root else rank)


class AlphaTable:
    """Alphas that a file gives apart from its tensors, by network and module.

    Raises AdapterFileError for a table that is damaged.
    """

    def __init__(
        self, name: str, config: Mapping[str, Any] | None, metadata: Mapping[str, str]
    ) -> None:
        self._name = name
        self._source = "config"
        self._tables: dict[str, Mapping[str, Any]] = {} if config is None else {"": config}
        if config is None and METADATA_KEY in metadata:
            self._source = "metadata"
            self._tables = _by_network(_parsed(name, metadata[METADATA_KEY]))
        self._patterns = {
            network: _Patterns(name, table.get("alpha_pattern") or {})
            for network, table in self._tables.items()
        }
        self._ranks = {
            network: _Patterns(name, table.get("rank_pattern") or {})
            for network, table in self._tables.items()
        }

    def rank_of(self, key: ModuleKey) -> int | None:
        """The rank the config gives a module, for updates that do not show one."""
        network = key.network if key.network in self._tables else ""
        if network not in self._tables:
            return None
        value = self._ranks[network].match(key.module) or self._tables[network].get("r")
        rank = 0 if value is None else int(number(self._name, value))
        return rank if rank > 0 else None

    def of(self, key: ModuleKey) -> Alpha:
        """Of a module without an alpha tensor of its own."""
        network = key.network if key.network in self._tables else ""
        table = self._tables.get(network)
        if table is None:
            return Alpha(None, "absent")
        value = self._patterns[network].match(key.module)
        if value is None:
            value = table.get("lora_alpha", table.get("alpha"))
        if value is None:
            return Alpha(None, "absent")
        return Alpha(number(self._name, value), self._source, bool(table.get("use_rslora")))


def number(name: str, value: Any) -> float:
    """A finite rank or alpha. Raises AdapterFileError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # JSON has integers of any size.
    if not is_number or not abs(value) < _LARGEST:
        raise AdapterFileError(
            f"{name} gives {str(value)[:40]!r} as a rank or alpha, which is no finite number; "
            "save the adapter again"
        )
    return float(value)


_LARGEST = 1e30


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(
            f"{name} has metadata {METADATA_KEY!r} that is not JSON; save the adapter again"
        ) from error
    if not isinstance(table, dict):
        raise AdapterFileError(
            f"{name} has metadata {METADATA_KEY!r} that is no table; save the adapter again"
        )
    return table


def _by_network(table: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Diffusers' keys are `unet.r`, `text_encoder.lora_alpha`; others have no network."""
    networks: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        network, dot, field = key.partition(".")
        networks.setdefault(network if dot else "", {})[field if dot else key] = value
    return {network: values for network, values in networks.items() if values}


class _Patterns:
    """PEFT's `alpha_pattern`: the first key that ends a module's name, at a dot, counts.

    Keys are regular expressions, and a file's author may have written one that never ends:
    plain names are looked up, and only simple expressions are tried.
    Source: peft.utils.other.get_pattern_key.
    """

    def __init__(self, name: str, patterns: Any) -> None:
        if not isinstance(patterns, dict):
            raise AdapterFileError(
                f"{name} has a rank_pattern or alpha_pattern that is no table; "
                "save the adapter again"
            )
        self._values: list[float] = [number(name, value) for value in patterns.values()]
        self._plain: dict[str, int] = {}
        self._expressions: list[tuple[int, re.Pattern[str]]] = []
        for position, pattern in enumerate(patterns):
            if len(self._expressions) > _MAX_EXPRESSIONS:
                raise AdapterFileError(
                    f"{name} has more than {_MAX_EXPRESSIONS} expressions in a pattern; "
                    "write the modules' names"
                )
            if re.fullmatch(r"[\w.]*", pattern):
                self._plain.setdefault(pattern, position)
            else:
                self._expressions.append((position, _compiled(name, pattern)))

    def match(self, module: str) -> float | None:
        words = module.split(".")
        endings = (".".join(words[start:]) for start in range(len(words)))
        found = [self._plain[ending] for ending in endings if ending in self._plain]
        found += [position for position, pattern in self._expressions if pattern.match(module)]
        return self._values[min(found)] if found else None


_MAX_EXPRESSIONS = 100
_MAX_REPETITIONS = 2
"""Repetitions in one pattern: time is then bounded by the cube of a name's length."""


def _compiled(name: str, pattern: str) -> re.Pattern[str]:
    simple = (
        len(pattern) <= 200
        and len(re.findall(r"[*+{?]", pattern)) <= _MAX_REPETITIONS
        and not re.search(r"\)[*+{?]|\(\?", pattern)
    )
    try:
        if simple:
            return re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError):
        pass
    raise AdapterFileError(
        f"{name} has a pattern {pattern[:60]!r} that is too involved to be tried safely; "
        "write the modules' names"
    )
