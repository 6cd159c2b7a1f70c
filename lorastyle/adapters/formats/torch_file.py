"""Reading `.pt`, `.bin` and `.ckpt`: pickles, through `torch.load(weights_only=True)` alone."""

from __future__ import annotations

import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lorastyle.adapters.formats.sniffing import is_safetensors
from lorastyle.errors import AdapterFileError

if TYPE_CHECKING:
    from lorastyle.adapters.formats.opening import Array, Limits

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_NESTED: tuple[str, ...] = ("state_dict", "lora", "model", "module", "params", "weights")
"""Keys under which training scripts hide a state dict."""

Read = tuple[dict[str, "Array"], dict[str, str], dict[str, str], str]


def recognise(start: bytes) -> bool:
    """A zip archive, or a pickle of protocol 2 or later as PyTorch once wrote them."""
    is_pickle = start[:1] == _PICKLE and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return not is_safetensors(start) and (start.startswith(_ZIP) or is_pickle)


def read(file: IO[bytes], name: str, limits: Limits) -> Read:
    """Tensors as float32 or float64, their dtypes, strings beside them, and the container.

    Raises AdapterFileError; a pickle that would execute anything is refused, not run.
    """
    if file.read(4) == _ZIP:
        _check_archive(file, name, limits)
    else:
        _check_pickles(file, name, limits)
    file.seek(0)
    content = _load(file, name)
    values = dict(_named(content, name, limits))
    tensors, dtypes = {}, {}
    budget = limits.file_bytes
    for key, value in values.items():
        array, dtype = _array(key, value, name, budget)
        budget -= array.nbytes
        tensors[key], dtypes[key] = array, dtype
    container = "torch-list" if isinstance(content, list | tuple) else "torch"
    return tensors, dtypes, _strings(content), container


def _check_archive(file: IO[bytes], name: str, limits: Limits) -> None:
    """The archive's own table of contents, before anything is unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OSError) as error:
        raise AdapterFileError(
            f"{name} is a damaged or truncated PyTorch file (its zip table cannot be read); "
            "download it again"
        ) from error
    if len(entries) > limits.n_tensors + 100:
        raise AdapterFileError(
            f"{name} has {len(entries):,} entries, more than the limit of "
            f"{limits.n_tensors + 100:,}; give the LoRA alone"
        )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.file_bytes:
        raise AdapterFileError(
            f"{name} unpacks to {unpacked:,} bytes, more than the limit of "
            f"{limits.file_bytes:,}; it is no LoRA file"
        )
    index = max((e.file_size for e in entries if e.filename.endswith(".pkl")), default=0)
    if index > limits.header_bytes:
        raise AdapterFileError(
            f"{name} has a pickle of {index:,} bytes in it, more than the limit of "
            f"{limits.header_bytes:,}; it is no LoRA file"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise AdapterFileError(
            f"{name} is a compressed zip, which PyTorch does not write; unpack it first"
        )
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise AdapterFileError(
            f"{name} is a zip archive without PyTorch weights in it; unpack it first"
        )


def _check_pickles(file: IO[bytes], name: str, limits: Limits) -> None:
    """The older format's five pickles, by the number of their instructions: nothing is built."""
    file.seek(0)
    n_left = INSTRUCTIONS_A_TENSOR * limits.n_tensors
    try:
        n_left = instructions_left(file, n_left)
    except Exception as error:  # the parser raises whatever the bytes provoke
        raise AdapterFileError(
            f"{name} cannot be read as a PyTorch file: it is damaged or truncated; "
            "ask for a .safetensors file"
        ) from error
    if n_left < 0:
        raise AdapterFileError(
            f"{name} is a pickle of more than {INSTRUCTIONS_A_TENSOR * limits.n_tensors:,} "
            "instructions, the limit; it is no LoRA file"
        )


def instructions_left(file: IO[bytes], n_left: int) -> int:
    """What five pickles leave of so many instructions; below 0 where they have more.

    Nothing is built. Raises whatever damaged bytes provoke in the parser.
    """
    # Damaged strings make the parser warn of their escapes: to nobody here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(5):
            for _instruction in pickletools.genops(file):
                n_left -= 1
                if n_left < 0:
                    break
    return n_left


INSTRUCTIONS_A_TENSOR = 100
"""Of a pickle, at most: a tensor takes about forty."""


def _load(file: IO[bytes], name: str) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        text = str(error)
        unsafe = "Unsupported" in text or "GLOBAL" in text or "allowlist" in text
        why = (
            "it asks to run code or holds more than tensors"
            if unsafe
            else "it is damaged or truncated"
        )
        raise AdapterFileError(
            f"{name} cannot be read as a PyTorch file: {why}; ask for a .safetensors file"
        ) from error


def _named(content: Any, name: str, limits: Limits) -> Iterator[tuple[str, Any]]:
    """Tensors and numbers by key; of a list by position."""
    if isinstance(content, list | tuple):
        pairs = [(str(position), value) for position, value in enumerate(content)]
    elif isinstance(content, dict):
        pairs = [(key, value) for key, value in content.items() if isinstance(key, str)]
    else:
        raise AdapterFileError(
            f"{name} holds a {type(content).__name__}, not a table or list of tensors; "
            "save the LoRA's state dict"
        )
    if any(key == "string_to_param" for key, _ in pairs):
        raise AdapterFileError(
            f"{name} is a textual-inversion embedding, which changes no weights; give a LoRA"
        )
    nested = [value for key, value in pairs if key in _NESTED and isinstance(value, dict) and value]
    if nested and not any(_is_tensor(value) for _, value in pairs):
        pairs = [(key, value) for key, value in nested[0].items() if isinstance(key, str)]
    kept = [(key, value) for key, value in pairs if _is_tensor(value) or _is_number(value)]
    if not any(_is_tensor(value) for _, value in kept):
        raise AdapterFileError(f"{name} holds no tensors; save the LoRA's state dict")
    if len(kept) > limits.n_tensors:
        raise AdapterFileError(
            f"{name} holds {len(kept):,} tensors, more than the limit of "
            f"{limits.n_tensors:,}; give the LoRA alone"
        )
    lost = [key for key, value in pairs if isinstance(value, dict | list) and _holds_tensors(value)]
    if lost:
        raise AdapterFileError(
            f"{name} holds tensors nested under {lost[0][:80]!r}, which this release does not "
            "read; save the LoRA's state dict alone"
        )
    yield from kept


def _holds_tensors(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return any(_is_tensor(item) for item in items)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _array(key: str, value: Any, name: str, budget: int) -> tuple[Array, str]:
    """A tensor as NumPy; half precision becomes float32."""
    import torch

    if not _is_tensor(value):
        # Python's integers have no largest; what is beyond float64 is found not to be finite.
        number = float(value) if abs(value) < 1e300 else float("inf")
        return np.asarray(number), type(value).__name__
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise AdapterFileError(
            f"{name} stores tensor {key[:80]!r} sparse, quantised or complex; "
            "convert it to float16 first"
        )
    # Expanded tensors hold one number and claim a million.
    if value.numel() * max(value.element_size(), 4) > budget:
        raise AdapterFileError(
            f"{name} has tensors of more bytes than the limit, the last {key[:80]!r} with "
            f"{value.numel():,} numbers; give the LoRA alone"
        )
    dtype = str(value.dtype).removeprefix("torch.")
    value = value.detach()
    if value.is_floating_point() and value.element_size() < 4:
        value = value.float()
    try:
        return np.ascontiguousarray(value.resolve_neg().numpy()).reshape(value.shape), dtype
    except (TypeError, RuntimeError) as error:
        raise AdapterFileError(
            f"{name} stores tensor {key[:80]!r} as {dtype}; convert it to float16 first"
        ) from error


def _strings(content: Any) -> dict[str, str]:
    if not isinstance(content, dict):
        return {}
    return {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, str)
    }
