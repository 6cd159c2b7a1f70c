"""Which files a folder of adapters holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import AdapterFileError

SUFFIXES = (".safetensors", ".pt", ".bin", ".ckpt", ".pth")
"""What is tried in a folder; a file that is named is tried whatever it is called."""
ADAPTER_CONFIG = "adapter_config.json"
"""Makes a folder one adapter: PEFT's."""


@dataclass(frozen=True)
class Candidate:
    """Something that may be an adapter."""

    path: Path
    name: str
    """How the user knows it: relative to the folder it was found in."""


def find_candidates(paths: Iterable[Path]) -> list[Candidate]:
    """The files and PEFT folders meant by some paths, in the order of their names.

    Hidden files, and links that lead out of a folder, are passed over. Raises
    AdapterFileError for a path that is not there, or a folder with nothing to try.
    """
    found: dict[Path, Candidate] = {}
    for path in paths:
        if not path.exists():
            raise AdapterFileError(f"there is no {path}; name a LoRA file or a folder of them")
        here = list(_in_folder(path)) if path.is_dir() else [Candidate(path, path.name)]
        if not here:
            raise AdapterFileError(
                f"{path} holds 0 files that end in {', '.join(SUFFIXES)}; name the files themselves"
            )
        for candidate in here:
            found.setdefault(candidate.path.resolve(), candidate)
    return list(found.values())


def _in_folder(root: Path) -> Iterator[Candidate]:
    if _is_adapter(root):
        yield Candidate(root, root.name)
        return
    inside = root.resolve()
    for path in sorted(_walk(root)):
        if path.resolve().is_relative_to(inside):
            yield Candidate(path, path.relative_to(root).as_posix())


def _walk(folder: Path) -> Iterator[Path]:
    """Files to try, and folders that are one adapter, below a folder; links are not followed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            if _is_adapter(path):
                yield path
            else:
                yield from _walk(path)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()
