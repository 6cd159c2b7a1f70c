"""Tensors out of safetensors and PyTorch files of strangers: no code is run, no size believed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.errors import FeatureError
from lorastyle.features.pytorch_file import is_pytorch, is_table, read_table, tensors_of

MAX_BYTES = 16 * 2**30
"""Of a file. The largest CLIP that is published has 10 GB."""


def read_tensors(
    paths: Sequence[Path], *, inside: Sequence[str] = (), ignored: str = ""
) -> dict[str, Tensor]:
    """Tensors by name, in float32, of one file or of the shards of one.

    Of a PyTorch file, those in the table under the first key of `inside` that it has, else all;
    tables in a table are joined by a dot. Names that `ignored` matches whole are left unread, and
    so is what is no tensor. Raises FeatureError.
    """
    pattern = re.compile(ignored) if ignored else None

    def is_wanted(name: str) -> bool:
        return pattern is None or pattern.fullmatch(name) is None

    return {
        name: _float32(path, name, tensor)
        for path in paths
        for name, tensor in _entries(path, inside, is_wanted)
    }


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
    if start[8:9] == b"{":
        return _of_safetensors(path, is_wanted)
    if is_pytorch(start):
        return _of_pytorch(path, n_bytes, inside, is_wanted)
    raise FeatureError(
        f"'{path}' is neither a safetensors file nor one of PyTorch's; load it where it came from "
        "and save it as safetensors"
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
    content = read_table(path, n_bytes)
    table = next((content[key] for key in inside if is_table(content.get(key))), content)
    n_left = n_bytes
    for name, tensor in tensors_of(table):
        if not is_wanted(name):
            continue
        # Views may claim any size: an expanded tensor holds one number, and many may share one.
        n_left -= tensor.numel() * tensor.element_size()
        if n_left < 0:
            raise FeatureError(
                f"'{path}' claims more numbers than it holds, with the {tensor.numel():,} of "
                f"{name[:80]!r}; name another file"
            )
        yield name, tensor


def _float32(path: Path, name: str, tensor: Tensor) -> Tensor:
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not is_plain or not tensor.is_floating_point():
        raise FeatureError(
            f"'{path}' stores {name[:80]!r} as {tensor.dtype}, {tensor.layout}; features take "
            "floating point numbers, plainly stored"
        )
    # A copy, even of the right type: a view would keep the file mapped.
    return tensor.detach().to(torch.float32, copy=True).contiguous()
