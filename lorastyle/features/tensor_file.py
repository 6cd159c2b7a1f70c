"""Tensors out of safetensors and PyTorch files of strangers: no code is run, no size believed."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorastyle.errors import FeatureError

MAX_BYTES = 16 * 2**30
"""Of a file. The largest CLIP that is published has 10 GB."""
MAX_INDEX_BYTES = 64 * 2**20
"""Of the pickle in a PyTorch file, which names its tensors."""
MAX_TENSORS = 20_000


def read_tensors(
    paths: Sequence[Path], *, inside: Sequence[str] = (), ignored: str = ""
) -> dict[str, Tensor]:
    """Tensors by name, in float32, of one file or of the shards of one.

    Of a PyTorch file, those in the table under the first key of `inside` that it has, else all;
    tables in a table are joined by a dot. Names that `ignored` matches whole are left unread, and
    so is what is no tensor. Raises FeatureError.
    """
    is_wanted = _unless(ignored)
    return {
        name: _float32(path, name, tensor)
        for path in paths
        for name, tensor in _entries(path, inside, is_wanted)
    }


def _unless(ignored: str) -> Callable[[str], bool]:
    pattern = re.compile(ignored)
    return lambda name: not ignored or pattern.fullmatch(name) is None


def _entries(
    path: Path, inside: Sequence[str], is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Tensor]]:
    try:
        n_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise FeatureError(f"cannot read '{path}': {error.strerror or error}") from error
    if n_bytes > MAX_BYTES:
        raise FeatureError(
            f"'{path}' has {n_bytes:,} bytes, more than the limit of {MAX_BYTES:,}; "
            "give the weights of an image feature"
        )
    if start.startswith(b"PK\x03\x04"):
        return _of_pytorch(path, n_bytes, inside, is_wanted)
    if start[8:9] == b"{":
        return _of_safetensors(path, is_wanted)
    raise FeatureError(
        f"'{path}' is neither a safetensors file nor one that PyTorch 1.6 or later wrote; "
        "load it where it came from and save it as safetensors"
    )


def _of_safetensors(path: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        # It limits the header to 100 MB, and compares what it says with the file's length.
        with safe_open(path, framework="pt") as file:
            for name in filter(is_wanted, file.keys()):
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise FeatureError(f"'{path}' is no whole safetensors file: {error}") from error


def _of_pytorch(
    path: Path, n_bytes: int, inside: Sequence[str], is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Tensor]]:
    _check_archive(path, n_bytes)
    content = _load(path)
    table = next((content[key] for key in inside if _is_table(content.get(key))), content)
    for name, tensor in _flat(table):
        if not is_wanted(name):
            continue
        # A view may claim any size: an expanded tensor holds one number.
        if tensor.numel() * tensor.element_size() > n_bytes:
            raise FeatureError(
                f"'{path}' claims {tensor.numel():,} numbers for {name[:80]!r}, more than it "
                "holds; name another file"
            )
        yield name, tensor


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


def _load(path: Path) -> Mapping[Any, Any]:
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (_NotBuilt, name) for name in _STAND_INS
    ]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            # Mapped: of a training checkpoint the optimiser's two thirds stay on the disk.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        text = str(error)
        is_unsafe = any(word in text for word in ("Unsupported", "GLOBAL", "allowlist"))
        why = "it asks to run code" if is_unsafe else "it is damaged or cut short"
        raise FeatureError(
            f"'{path}' cannot be read as a PyTorch file: {why}; ask for a .safetensors file"
        ) from error
    if not _is_table(content):
        raise FeatureError(
            f"'{path}' holds a {type(content).__name__}, not a table of tensors; "
            "save the state dict"
        )
    return dict(content)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a table and of tables in it, no deeper."""
    for name, value in table.items():
        entries = value.items() if _is_table(value) else [("", value)]
        for inner, tensor in entries:
            if isinstance(tensor, Tensor):
                yield (f"{name}.{inner}" if inner else name), tensor


def _float32(path: Path, name: str, tensor: Tensor) -> Tensor:
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not is_plain or not tensor.is_floating_point():
        raise FeatureError(
            f"'{path}' stores {name[:80]!r} as {tensor.dtype}, {tensor.layout}; features take "
            "floating point numbers, plainly stored"
        )
    # A copy, even of the right type: a view would keep the file mapped.
    return tensor.detach().to(torch.float32, copy=True).contiguous()
