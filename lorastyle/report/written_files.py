"""Which figures and sheets reports wrote, so that a later one removes those it does not make.

The manifest lists them, but it goes before a report is made again. So they are noted beside
the page as well, each before it is written: a report that was killed leaves nothing unknown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lorastyle.runs import Run, write_json

FIGURES, SHEETS = "figures", "sheets"
FOLDERS = (FIGURES, SHEETS)
NOTE_FILE = ".written.json"
"""Hidden, so that it is not published: another machine has other files."""


@dataclass
class WrittenFiles:
    """Files below a report's folder, by names such as `figures/methods.png`."""

    directory: Path
    earlier: frozenset[str] = frozenset()
    """Those that earlier reports wrote, as far as they are known."""
    now: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, run: Run) -> WrittenFiles:
        """For the next report of a run; to be called while the manifest of the last is there."""
        outputs = (run.manifest("report") or {}).get("outputs", {})
        listed = {f"{folder}/{name}" for folder in FOLDERS for name in _listed(outputs.get(folder))}
        noted = _read_note(run.report_path / NOTE_FILE)
        return cls(run.report_path, frozenset(filter(_is_below_folder, listed | noted)))

    def remember(self) -> None:
        """Note what there is, before the manifest that lists it is forgotten for good."""
        self._note(self.earlier)

    def place(self, folder: str, name: str) -> Path:
        """Where to write a file, which is noted first."""
        self.now.add(f"{folder}/{name}")
        self._note(self.earlier | self.now)
        return self.directory / folder / name

    def remove_others(self) -> None:
        """Remove what earlier reports wrote and this one did not; nobody else's files."""
        for name in self.earlier - self.now:
            path = self.directory / name
            if path.is_file():
                path.unlink()
        self._note(self.now)

    def _note(self, names: set[str] | frozenset[str]) -> None:
        write_json(self.directory / NOTE_FILE, {"files": sorted(names)})


def _read_note(path: Path) -> set[str]:
    """The names in a note; none where it is not there or damaged: then nothing is removed."""
    try:
        note: Any = json.loads(path.read_bytes())
        return set(_listed(note["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _listed(names: object) -> list[str]:
    """The names in a list from a file, which may hold anything."""
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _is_below_folder(name: str) -> bool:
    """Whether it is a file right below one of ours, whatever a run from elsewhere says."""
    path = PurePosixPath(name)
    return len(path.parts) == 2 and path.parts[0] in FOLDERS and path.name != ".."
