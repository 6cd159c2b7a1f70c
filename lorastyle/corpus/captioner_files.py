"""Which BLIP a captioner's name means: files on this machine, fetched where they are not here yet.

No torch here: a plan whose images are all described already only asks which captioner it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import CorpusError
from lorastyle.file_contents import names_in, read_config, sha256_of
from lorastyle.hub import cached_snapshot, fetch_snapshot, looks_like_hub_id, revision_of

MODEL_TYPE = "blip"
CONFIG = "config.json"
_SMALL = (
    CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
"""Configs and tokenizer: all of these that there are."""
_NEEDED = (
    ("image processor", ("preprocessor_config.json", "processor_config.json")),
    ("tokenizer", ("tokenizer.json", "vocab.txt")),
)
"""What a captioner has besides config and weights: one of these files each."""
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


@dataclass(frozen=True)
class CaptionerIdentity:
    """Which captioner wrote a text. Cheap to pickle."""

    name: str
    sha256: str
    """Of the names and bytes of the files that are loaded: weights, configs, tokenizer."""
    revision: str | None = None
    """The commit of a model from the hub."""


@dataclass(frozen=True)
class CaptionerFiles:
    """Where the files of one captioner lie."""

    name: str
    folder: Path
    revision: str | None = None

    def identity(self) -> CaptionerIdentity:
        """Reads all of the weights, once a process: a second or two for each gigabyte."""
        whole = hashlib.sha256()
        for name in sorted(files_to_load(self.name, names_in(self.folder))):
            whole.update(f"{name}\0".encode())
            whole.update(bytes.fromhex(sha256_of(self.folder / name)))
        return CaptionerIdentity(self.name, whole.hexdigest(), self.revision)


def find_captioner(name: str) -> CaptionerFiles:
    """The files of a BLIP: of a folder, of the hub's cache, or fetched from the hub.

    `name` is a folder or `owner/name`, with or without `@revision`. What is whole in the cache
    is used without asking the hub for a newer one. Raises CorpusError, naming what is missing,
    and for another kind of model; HubError where it can be neither found nor fetched.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        found = CaptionerFiles(name, folder)
    elif looks_like_hub_id(name):
        snapshot = _cached(name) or _fetched(name)
        found = CaptionerFiles(name, snapshot, revision=revision_of(snapshot))
    else:
        raise CorpusError(
            f"corpus.captioner '{name}' is neither a folder nor a hub id 'owner/name' or "
            "'owner/name@revision'; name a BLIP model, or leave it out"
        )
    _check_kind(found)
    files_to_load(name, names_in(found.folder))
    return found


def files_to_load(name: str, files: Collection[str]) -> list[str]:
    """Of a model's files those that are loaded. Raises CorpusError where a part is missing."""
    small = [file for file in _SMALL if file in files]
    for part, choices in _NEEDED:
        if not any(choice in files for choice in choices):
            raise CorpusError(f"captioner '{name}' has no {part} (none of {', '.join(choices)})")
    return [*small, *_weights(name, files)]


def _weights(name: str, files: Collection[str]) -> Iterable[str]:
    if "model.safetensors" in files:
        return ["model.safetensors"]
    shards = sorted(file for file in files if _SHARD.fullmatch(file))
    if shards and _INDEX in files:
        return [_INDEX, *shards]
    raise CorpusError(
        f"captioner '{name}' has no weights in model.safetensors, and pickles are not read; take "
        "a revision that has them, or load it with transformers once and save it"
    )


def _check_kind(found: CaptionerFiles) -> None:
    """Before any library says it in its own words, or loads something else."""

    def refused(error: Exception) -> CorpusError:
        reason = getattr(error, "strerror", None) or error
        return CorpusError(
            f"captioner '{found.name}' is no model: cannot read its {CONFIG}: {reason}"
        )

    kind = read_config(found.folder / CONFIG, refused).get("model_type")
    if kind != MODEL_TYPE:
        raise CorpusError(
            f"captioner '{found.name}' is a model of type {kind!r}, and captions are written by "
            f"{MODEL_TYPE!r}; name a BLIP for captioning"
        )


def _cached(name: str) -> Path | None:
    """The model's folder in the hub's local cache, if it is whole."""
    folder = cached_snapshot(name, CONFIG)
    if folder is None:
        return None
    try:
        files_to_load(name, names_in(folder))
    except CorpusError:
        return None  # A download that was cut short: the rest is fetched.
    return folder


def _fetched(name: str) -> Path:
    # Before gigabytes of something else.
    _check_kind(CaptionerFiles(name, fetch_snapshot(name, lambda _: [CONFIG])))
    return fetch_snapshot(name, lambda files: files_to_load(name, files))
