"""Opening a LoRA file or folder: what lies in it, within limits, whatever it is called.

A file is told by its first bytes: safetensors, PyTorch's zip or its older pickle, or
something that is no LoRA at all and is named for what it is. Nothing in a file is
executed: pickles go through `torch.load(weights_only=True)` alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lorastyle.adapters.formats.memory import MemoryFile
from lorastyle.errors import AdapterFileError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What a file may ask for before it is refused. A caller with larger files raises them."""

    file_bytes: int = 4 << 30
    """Of the file, and of all its tensors once read as float32."""
    header_bytes: int = 16 << 20
    """Of a safetensors header, or a folder's adapter_config.json."""
    n_tensors: int = 20_000
    tensor_dimensions: int = 8
    factor_numbers: int = 1 << 30
    """In all factors together: a few kilobytes of LoKr can stand for a matrix of any size."""
    operations: float = 3e13
    """Multiplications spent on factorising: minutes on one core. All of SD 1.5 as a full
    difference takes a third of it."""


@dataclass(frozen=True, eq=False)
class Opened:
    """The tensors of a file and what it says of itself."""

    name: str
    """Of the file or folder, for messages."""
    container: str
    """`safetensors`, `torch` or `torch-list`."""
    tensors: Mapping[str, Array]
    """float32 or float64; integers where a file counts. Of a list, keys are positions."""
    dtypes: Mapping[str, str]
    """Of each tensor, as stored: `float16`, `bfloat16`, ..."""
    n_bytes: int
    sha256: str | None
    """None where it was not asked for: of a large file it takes as long as the reading."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    """The adapter_config.json beside the weights."""
    is_finite: bool = False
    """All tensors were looked at together, and all their numbers are; else nobody has looked."""


WEIGHT_FILES: tuple[str, ...] = (
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights.bin",
)
"""What PEFT and diffusers call the file in a folder, in the order in which they look."""
CONFIG_FILE = "adapter_config.json"


@dataclass(frozen=True, eq=False)
class FileInMemory:
    """A file that lies nowhere, as one that was just uploaded; with `config` what a PEFT folder
    holds. Arrays that are read from it may be views of `content`: leave it as it is.
    """

    name: str
    """For messages."""
    content: bytes | memoryview
    config: bytes | memoryview | None = None
    """The adapter_config.json beside it."""


def open_adapter_file(
    path: Path | FileInMemory, limits: Limits | None = None, *, hashed: bool = True
) -> Opened:
    """Read a file, or the weights of a PEFT or diffusers folder, into arrays.

    Raises AdapterFileError, and nothing else, for whatever cannot be read.
    """
    limits = limits or Limits()
    if isinstance(path, FileInMemory):
        return _open_in_memory(path, limits, hashed)
    try:
        if path.is_dir():
            return _open_folder(path, limits, hashed)
        return _open_file(path, path.name, limits, hashed)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AdapterFileError(f"{path} cannot be read: {reason}; check the path") from error
    except ValueError as error:  # a path with a null byte
        raise AdapterFileError(f"{str(path)!r} cannot be read: {error}; check the path") from error


def sha256_of(path: Path | FileInMemory) -> str:
    """`Opened.sha256` of what was opened without: a file's, or that of a folder's weights."""
    if isinstance(path, FileInMemory):
        return hashlib.sha256(path.content).hexdigest()
    with (_weights_of(path) if path.is_dir() else path).open("rb") as file:
        return _sha256(file)


def _open_in_memory(file: FileInMemory, limits: Limits, hashed: bool) -> Opened:
    config = None
    if file.config is not None:
        name = f"{CONFIG_FILE} of {file.name}"
        _check_size(name, len(file.config), limits.header_bytes)
        config = _config_table(bytes(file.config), name)
    _check_size(file.name, len(file.content), limits.file_bytes)
    content = MemoryFile(file.content)
    opened = _open(content, len(file.content), file.name, limits, hashed)
    return replace(opened, config=config)


def _open_folder(path: Path, limits: Limits, hashed: bool) -> Opened:
    weights = _weights_of(path)
    config = _config_of(path / CONFIG_FILE, limits)
    opened = _open_file(weights, path.name or str(path), limits, hashed)
    return replace(opened, config=config)


def _weights_of(folder: Path) -> Path:
    found = [folder / name for name in WEIGHT_FILES if (folder / name).exists()]
    if not found:
        raise AdapterFileError(
            f"{folder} is a folder without adapter weights; one with {WEIGHT_FILES[0]} or "
            f"{WEIGHT_FILES[2]} can be read, others file by file"
        )
    return found[0]


def _config_of(path: Path, limits: Limits) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    with _regular_file(path, limits.header_bytes) as (file, _):
        return _config_table(file.read(), str(path))


def _config_table(text: bytes, name: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{name} is not JSON; save the adapter again") from error
    if not isinstance(config, dict):
        raise AdapterFileError(f"{name} holds no JSON object; save the adapter again")
    return config


def _open_file(path: Path, name: str, limits: Limits, hashed: bool) -> Opened:
    with _regular_file(path, limits.file_bytes) as (file, n_bytes):
        return _open(file, n_bytes, name, limits, hashed)


def _open(
    file: BufferedReader | MemoryFile, n_bytes: int, name: str, limits: Limits, hashed: bool
) -> Opened:
    from lorastyle.adapters.formats import safetensors_file, torch_file
    from lorastyle.adapters.formats.sniffing import foreign

    start = file.read(512)
    file.seek(0)
    what = foreign(start, n_bytes)
    if what is not None:
        raise AdapterFileError(f"{name} {what}")
    is_finite = False
    if torch_file.recognise(start):
        buffered = file if isinstance(file, BufferedReader) else BufferedReader(file)
        tensors, dtypes, metadata, container = torch_file.read(buffered, name, limits)
    else:
        stored = safetensors_file.read(file, n_bytes, name, limits)
        tensors, dtypes, metadata, is_finite = stored
        container = "safetensors"
    sha256 = _sha256(file) if hashed else None
    return Opened(name, container, tensors, dtypes, n_bytes, sha256, metadata, is_finite=is_finite)


def _sha256(file: BufferedReader | MemoryFile) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(name: object, n_bytes: int, max_bytes: int) -> None:
    """Raises AdapterFileError above the limit."""
    if n_bytes > max_bytes:
        raise AdapterFileError(
            f"{name} has {n_bytes:,} bytes, more than the limit of {max_bytes:,}; "
            "raise the limit if it is a LoRA, give the LoRA alone if it is a checkpoint"
        )


@contextmanager
def _regular_file(path: Path, max_bytes: int) -> Iterator[tuple[BufferedReader, int]]:
    """The open file and its size. Links are followed (the Hub's cache consists of them);
    what is no regular file in the end is refused without waiting for it.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AdapterFileError(f"{path} is no regular file; give the weights themselves")
        _check_size(path, status.st_size, max_bytes)
        yield file, status.st_size
