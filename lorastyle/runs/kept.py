"""Arrays that a run keeps so that nobody computes them twice: latents, painted images."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.places.place import Place
from lorastyle.runs.run import Run
from lorastyle.runs.writing import write_atomically


@dataclass(frozen=True)
class KeptArrays:
    """Arrays in files of a directory, and in a bucket behind it where the run lies in one.

    A file is replaced whole, and two processes that make the same array do harmless
    double work. What is damaged counts as absent.
    """

    directory: Path
    bucket: Place | None = None

    @classmethod
    def of(cls, run: Run, *names: str) -> KeptArrays:
        """Those in this folder of a run."""
        directory, place = run.directory, run.place
        for name in names:
            directory, place = directory / name, place.child(name)
        return cls(directory, None if run.url is None else place)

    def has(self, name: str) -> bool:
        """Whether `find` would find it; nothing is read, or fetched, but its length."""
        try:
            np.load(self.directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return self.bucket is not None and self.bucket.exists(f"{name}.npy")
        return True

    def find(self, name: str) -> npt.NDArray[Any] | None:
        """From here, or else from the bucket; None where it is nowhere."""
        known = _load(self.directory / f"{name}.npy")
        if known is not None or self.bucket is None:
            return known
        content = self.bucket.read(f"{name}.npy")
        known = None if content is None else _load(io.BytesIO(content))
        if content is not None and known is not None:
            write_atomically(self.directory / f"{name}.npy", content, durable=False)
        return known

    def keep(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write it here and to the bucket."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        if self.bucket is not None:
            self.bucket.write(f"{name}.npy", [buffer.getvalue()])
        write_atomically(self.directory / f"{name}.npy", buffer.getvalue())


def _load(file: Path | io.BytesIO) -> npt.NDArray[Any] | None:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError):  # absent, or cut short by a full disk
        return None
