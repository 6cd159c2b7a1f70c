"""PyTorch's own files, which are pickles: `torch.load(weights_only=True)` after distrust."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorastyle.adapters.formats.torch_file import INSTRUCTIONS_A_TENSOR, instructions_left
from lorastyle.errors import FeatureError

MAX_INDEX_BYTES = 64 * 2**20
"""Of the pickle in a PyTorch file, which names its tensors."""
MAX_TENSORS = 20_000
_ZIP = b"PK\x03\x04"


def is_pytorch(start: bytes) -> bool:
    """By its first bytes: a zip archive, or the pickle that PyTorch before 1.6 wrote."""
    return start.startswith(_ZIP) or start[:1] == b"\x80"


def _check_archive(path: Path, n_bytes: int) -> None:
    """The archive's table of contents, before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise FeatureError(
            f"'{path}' is damaged or cut short (its zip table cannot be read); fetch it again"
        ) from error
    names = [entry.filename for entry in entries]
    index = max((one.file_size for one in entries if one.filename.endswith(".pkl")), default=0)
    if any("/code/" in name for name in names):
        why = "is a TorchScript archive, which is a program; save its state dict as safetensors"
    elif not any(name.endswith("data.pkl") for name in names):
        why = "is a zip archive without PyTorch weights in it; unpack it first"
    elif any(one.compress_type != zipfile.ZIP_STORED for one in entries):
        why = "is a compressed zip, which PyTorch does not write; unpack it first"
    elif len(entries) > MAX_TENSORS or index > MAX_INDEX_BYTES:
        why = (
            f"has {len(entries):,} entries and a pickle of {index:,} bytes in it, and the limits "
            f"are {MAX_TENSORS:,} and {MAX_INDEX_BYTES:,}; give the weights of an image feature"
        )
    elif sum(one.file_size for one in entries) > n_bytes:
        why = "says that it unpacks to more bytes than it has; fetch it again"
    else:
        return
    raise FeatureError(f"'{path}' {why}")


def _check_pickles(path: Path) -> None:
    """The five pickles of PyTorch before 1.6, by their instructions: nothing is built."""
    n_left = INSTRUCTIONS_A_TENSOR * MAX_TENSORS
    try:
        with path.open("rb") as file:
            n_left = instructions_left(file, n_left)
    except Exception as error:  # the parser raises whatever the bytes provoke
        raise FeatureError(
            f"'{path}' is damaged or cut short (its pickles cannot be read); fetch it again"
        ) from error
    if n_left < 0:
        raise FeatureError(
            f"'{path}' is a pickle of more than {INSTRUCTIONS_A_TENSOR * MAX_TENSORS:,} "
            "instructions, the limit; give the weights of an image feature"
        )


class _NotBuilt:
    """What stands where a checkpoint holds an object of one of the kinds in `_STAND_INS`."""

    def __new__(cls, *_arguments: object) -> _NotBuilt:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        """Forgotten."""


_STAND_INS = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)
"""What training scripts save beside the weights; CSD's released file has all but the last.
None of them is called, not even these."""


def read_table(path: Path, n_bytes: int) -> dict[str, Any]:
    """What a file of so many bytes holds; tensors are mapped where they can be.

    Raises FeatureError for what would run code, is damaged, or is no table.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == _ZIP
    if is_zip:
        _check_archive(path, n_bytes)
    else:
        _check_pickles(path)
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (_NotBuilt, name) for name in _STAND_INS
    ]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            # Mapped: what is left unread, as an optimiser's state, stays on the disk.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        text = str(error)
        is_unsafe = any(word in text for word in ("Unsupported", "GLOBAL", "allowlist"))
        why = "it asks to run code" if is_unsafe else "it is damaged or cut short"
        raise FeatureError(
            f"'{path}' cannot be read as a PyTorch file: {why}; ask for a .safetensors file"
        ) from error
    if not is_table(content):
        raise FeatureError(
            f"'{path}' holds a {type(content).__name__}, not a table of tensors; "
            "save the state dict"
        )
    return dict(content)


def is_table(value: Any) -> bool:
    """Whether it is a dictionary with names for keys."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def tensors_of(table: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a table and of tables in it, no deeper."""
    for name, value in table.items():
        entries = value.items() if is_table(value) else [("", value)]
        for inner, tensor in entries:
            if isinstance(tensor, Tensor):
                yield (f"{name}.{inner}" if inner else name), tensor
