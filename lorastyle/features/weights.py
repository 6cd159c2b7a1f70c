"""What `evaluation.feature_weights` names: a file, a folder, or a model of the hub.

No torch here: that names are right is checked before a stage does anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lorastyle.errors import ConfigError, FeatureError, HubError
from lorastyle.file_contents import names_in, read_config, sha256_of
from lorastyle.hub import cached_snapshot, fetch_snapshot, looks_like_hub_id

CONFIG = "config.json"
_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}
_CHOICES = tuple(
    re.compile(stem + shard + suffix)
    for stem, suffix in (("model", r"\.safetensors"), ("pytorch_model", r"\.bin"))
    for shard in ("", r"-\d{5}-of-\d{5}")
)
"""In the order in which they are preferred: whole before shards, safetensors before pickles."""
_NONE = "has no whole model.safetensors or pytorch_model.bin in it; name the file of weights"


@dataclass(frozen=True)
class Weights:
    """The weights that one key of `evaluation.feature_weights` stands for.

    Raises ConfigError at once for what is neither here nor a hub id; a hub id is looked up
    when its files are first asked for.
    """

    key: str
    name: str

    def __post_init__(self) -> None:
        path = Path(self.name)
        is_file = path.suffix.lower() in _SUFFIXES
        is_here = bool(self.name) and path.exists()
        if not is_here and (is_file or not looks_like_hub_id(self.name)):
            raise ConfigError(
                f"evaluation.feature_weights.{self.key}: there is no '{self.name}'; name a file, "
                "a folder, or a hub id 'owner/name' or 'owner/name@revision'"
            )

    def __str__(self) -> str:
        return f"'{self.name}' (evaluation.feature_weights.{self.key})"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, or the shards of one in order; fetched from the hub if need be."""
        return self._found[1]

    @cached_property
    def sha256(self) -> str:
        """Of what is loaded, config and weights, whatever its name: about a second a gigabyte."""
        config = self._found[0]
        whole = hashlib.sha256()
        for path in (*([config] if config else ()), *self.paths):
            whole.update(bytes.fromhex(sha256_of(path)))
        return whole.hexdigest()

    def config(self) -> dict[str, Any] | None:
        """The model's config; None beside a single file. Raises FeatureError for a broken one."""
        path = self._found[0]
        if path is None:
            return None
        return read_config(
            path, lambda reason: FeatureError(f"{self} has no readable {CONFIG}: {reason}")
        )

    @cached_property
    def _found(self) -> tuple[Path | None, tuple[Path, ...]]:
        path = Path(self.name)
        if path.is_file():
            return None, (path,)
        folder = path if path.is_dir() else self._snapshot()
        names = names_in(folder)
        config = folder / CONFIG if CONFIG in names else None
        if not (chosen := _chosen(names)):
            raise FeatureError(f"{self} {_NONE}")
        return config, tuple(folder / name for name in chosen)

    def _snapshot(self) -> Path:
        """A hub model's folder in the cache, fetched where it is not whole."""
        try:
            for file in (CONFIG, "model.safetensors", "pytorch_model.bin"):
                cached = cached_snapshot(self.name, file)
                if cached is not None and _chosen(names_in(cached)):
                    return cached
            return fetch_snapshot(self.name, self._wanted)
        except HubError as error:
            raise FeatureError(f"evaluation.feature_weights.{self.key}: {error}") from error

    def _wanted(self, files: Collection[str]) -> list[str]:
        """Of what the hub has."""
        chosen = _chosen(files)
        if not chosen:
            raise FeatureError(f"{self} {_NONE}")
        return [*chosen, *({CONFIG} & set(files))]


def _chosen(names: Iterable[str]) -> list[str]:
    """Those of a model's files that are loaded; none where shards are not all there.

    >>> _chosen(["pytorch_model.bin", "model.safetensors", "flax_model.msgpack"])
    ['model.safetensors']
    >>> _chosen(["model-00001-of-00002.safetensors"])
    []
    """
    names = sorted(names)
    for pattern in _CHOICES:
        found = [name for name in names if pattern.fullmatch(name)]
        if found and _n_shards(found[0]) == len(found):
            return found
    return []


def _n_shards(name: str) -> int:
    shard = re.search(r"-of-(\d{5})\.", name)
    return int(shard.group(1)) if shard else 1
