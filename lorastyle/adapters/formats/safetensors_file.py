"""Reading safetensors with NumPy alone, every number of the header checked before use.

The safetensors library cannot give bfloat16 to NumPy, and torch costs seconds to import.
Layout of a file: a little-endian uint64 n, n bytes of JSON, then the tensors' bytes.
Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import numpy as np

from lorastyle.adapters.factorisation import is_finite
from lorastyle.adapters.formats.memory import MemoryFile
from lorastyle.errors import AdapterFileError

if TYPE_CHECKING:
    from lorastyle.adapters.formats.opening import Array, Limits

_DTYPES: dict[str, tuple[str, str]] = {
    "F64": ("float64", "<f8"),
    "F32": ("float32", "<f4"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
    "I64": ("int64", "<i8"),
    "I32": ("int32", "<i4"),
    "I16": ("int16", "<i2"),
    "I8": ("int8", "i1"),
    "U8": ("uint8", "u1"),
    "BOOL": ("bool", "?"),
}
"""Of each safetensors name: ours, and how NumPy reads it. Others are refused by name."""

Read = tuple[dict[str, "Array"], dict[str, str], dict[str, str], bool]


def read(file: BufferedReader | MemoryFile, n_bytes: int, name: str, limits: Limits) -> Read:
    """Tensors as float32 or float64 (or integers), their dtypes, the metadata, and whether all
    numbers are known to be finite: tensors of one dtype are read, and looked at, in one go.

    Raises AdapterFileError where header and file do not agree to the byte.
    """
    header, start = _header(file, n_bytes, name, limits)
    metadata = _metadata(header.pop("__metadata__", {}), name)
    if len(header) > limits.n_tensors:
        raise AdapterFileError(
            f"{name} declares {len(header):,} tensors, more than the limit of "
            f"{limits.n_tensors:,}; give the LoRA alone"
        )
    spans = {key: _span(key, entry, name, limits) for key, entry in header.items()}
    _check_cover(spans, n_bytes - start, name)
    n_read = 4 * sum(math.prod(span.shape) for span in spans.values())
    if n_read > limits.file_bytes:
        raise AdapterFileError(
            f"{name} needs {n_read:,} bytes as float32, more than the limit of "
            f"{limits.file_bytes:,}; raise the limit if it is a LoRA"
        )
    data = _rest(file, n_bytes - start)
    if len(data) != n_bytes - start:
        raise AdapterFileError(f"{name} ended while it was read; download it again")
    dtypes = {key: _DTYPES[span.dtype][0] for key, span in spans.items()}
    if len(set(dtypes.values())) == 1:
        dtype = next(iter(spans.values())).dtype
        whole, n_each = _numbers(data, dtype), np.dtype(_DTYPES[dtype][1]).itemsize
        tensors = {
            key: whole[span.begin // n_each : span.end // n_each].reshape(span.shape)
            for key, span in spans.items()
        }
        return tensors, dtypes, metadata, whole.dtype == np.float32 and is_finite(whole)
    tensors = {key: _tensor(data, span) for key, span in spans.items()}
    return tensors, dtypes, metadata, False


def _rest(file: BufferedReader | MemoryFile, n_bytes: int) -> Array:
    if isinstance(file, MemoryFile):
        return file.rest(n_bytes)
    data = np.empty(n_bytes, np.uint8)
    return data[: file.readinto(data.data)]


_LARGEST = 1 << 62
"""Of a shape's or offset's numbers; JSON has no largest of its own."""


class _Span:
    """Where a tensor lies among the bytes after the header."""

    __slots__ = ("begin", "dtype", "end", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], begin: int, end: int) -> None:
        self.dtype, self.shape, self.begin, self.end = dtype, shape, begin, end


def _header(
    file: BufferedReader | MemoryFile, n_bytes: int, name: str, limits: Limits
) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    if file.read(1) != b"{":
        raise AdapterFileError(
            f"{name} is neither safetensors nor PyTorch (no header of either); "
            "give the weights themselves"
        )
    if length > limits.header_bytes:
        raise AdapterFileError(
            f"{name} declares a header of {length:,} bytes, more than the limit of "
            f"{limits.header_bytes:,}; it is no LoRA file"
        )
    if 8 + length > n_bytes:
        raise AdapterFileError(
            f"{name} is truncated: its header needs {8 + length:,} bytes, the file has "
            f"{n_bytes:,}; download it again"
        )
    text = b"{" + file.read(max(length - 1, 0))
    try:
        header = json.loads(text.decode(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(
            f"{name} has a safetensors header of {length:,} bytes that is damaged "
            "(no valid JSON); download it again"
        ) from error
    if not isinstance(header, dict):
        raise AdapterFileError(f"{name} has a safetensors header that is no table; save it again")
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _metadata(values: Any, name: str) -> dict[str, str]:
    if not isinstance(values, dict):
        raise AdapterFileError(f"{name} has metadata that is no table; save it again")
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _span(key: str, entry: Any, name: str, limits: Limits) -> _Span:
    """One line of the header, checked."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = [*shape, begin, end]
    except (TypeError, KeyError, ValueError) as error:
        raise AdapterFileError(
            f"{name} describes tensor {_shown(key)} incompletely; download it again"
        ) from error
    if any(type(number) is not int or not 0 <= number < _LARGEST for number in whole):
        raise AdapterFileError(
            f"{name} gives tensor {_shown(key)} a shape or offset that is no whole number; "
            "download it again"
        )
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise AdapterFileError(
            f"{name} stores tensor {_shown(key)} as {_shown(dtype)}; "
            "convert it to float16 or bfloat16 first"
        )
    if len(shape) > limits.tensor_dimensions:
        raise AdapterFileError(
            f"{name} gives tensor {_shown(key)} {len(shape)} dimensions, more than the limit "
            f"of {limits.tensor_dimensions}; it is no LoRA file"
        )
    wanted = math.prod(shape) * np.dtype(_DTYPES[dtype][1]).itemsize
    if end - begin != wanted:
        raise AdapterFileError(
            f"{name} gives tensor {_shown(key)} {end - begin:,} bytes, its shape {tuple(shape)} "
            f"needs {wanted:,}; download it again"
        )
    return _Span(dtype, tuple(shape), begin, end)


def _check_cover(spans: dict[str, _Span], n_bytes: int, name: str) -> None:
    """Every byte belongs to one tensor: no gap, no overlap, nothing beyond the end."""
    reached = 0
    for key, span in sorted(spans.items(), key=lambda item: (item[1].begin, item[1].end)):
        if span.begin != reached:
            raise AdapterFileError(
                f"{name} puts tensor {_shown(key)} at byte {span.begin:,} instead of "
                f"{reached:,}; download it again"
            )
        reached = span.end
    if reached != n_bytes:
        word = "is truncated" if reached > n_bytes else "has bytes that belong to no tensor"
        raise AdapterFileError(
            f"{name} {word}: its tensors need {reached:,} bytes, {n_bytes:,} are there; "
            "download it again"
        )


def _tensor(data: Array, span: _Span) -> Array:
    return _numbers(data[span.begin : span.end], span.dtype).reshape(span.shape)


def _numbers(data: Array, dtype: str) -> Array:
    """(n,): bytes as what they stand for; a view where that is possible."""
    raw = data.view(_DTYPES[dtype][1])
    if dtype == "BF16":  # the upper half of a float32
        widened = raw.astype(np.uint32)
        widened <<= 16
        return widened.view(np.float32)
    if dtype == "F16":
        return raw.astype(np.float32)
    return np.require(raw, requirements="A")


def _shown(value: object) -> str:
    """A hostile name, short and printable."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
