"""What a file that is no LoRA file is instead, from its first bytes."""

from __future__ import annotations

_COMPRESSED: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-zip"),
    (b"Rar!\x1a\x07", "RAR"),
)
_KNOWN: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"RIFF", "a RIFF file (WebP, WAV)"),
    (b"GGUF", "a GGUF file, which holds whole quantised models"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF"),
)


def foreign(start: bytes, n_bytes: int) -> str | None:
    """What it is and what to do, as the end of a sentence; None for what may be weights.

    >>> foreign(b"version https://git-lfs.github.com/spec/v1", 130)
    'is a Git LFS pointer, not the weights; run git lfs pull'
    """
    if n_bytes == 0:
        return "is empty (0 bytes); download it again"
    if is_safetensors(start):
        return None
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run git lfs pull"
    for magic, name in _COMPRESSED:
        if start.startswith(magic):
            return f"is compressed with {name}; unpack it first"
    for magic, name in _KNOWN:
        if start.startswith(magic):
            return f"is {name}, not a LoRA; give a .safetensors or .pt file"
    return _text(start)


def is_safetensors(start: bytes) -> bool:
    """A length below 2^40, then JSON. A length may begin like any other format's magic."""
    return start[5:8] == bytes(3) and start[8:9] == b"{"


def _text(start: bytes) -> str | None:
    head = start.lstrip()[:64].lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not the weights (a login or an error?); download it again"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "is text, not weights; give a .safetensors or .pt file"
    return None
