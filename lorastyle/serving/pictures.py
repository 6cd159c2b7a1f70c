"""A picture of an adapter: the first image that it was trained on, small."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from pathlib import Path

import pandas as pd

from lorastyle.corpus.stage import corpus_root
from lorastyle.report.thumbnails import thumbnail
from lorastyle.runs import Run

MOST_KEPT = 4096
"""Pictures of about 5 kB that stay in memory."""


class Pictures:
    """Of a run's trained adapters, by row; none where adapters were ingested.

    Paths come from the run's catalogue: a request names a row and nothing else.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._paths = _paths(run) if run.is_planned else {}
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, bytes | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paths)

    def jpeg(self, row: int) -> bytes | None:
        """The picture, or None where there is none or it cannot be read."""
        path = self._paths.get(row)
        if path is None:
            return None
        with self._lock:
            if row in self._kept:
                return self._kept[row]
        made = self._made(path)
        with self._lock:
            self._kept[row] = made
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return made

    def _made(self, path: Path) -> bytes | None:
        try:
            address = thumbnail(self._run.fetch(path))
        except OSError:
            return None
        return None if address is None else base64.b64decode(address.partition(",")[2])


def _paths(run: Run) -> dict[int, Path]:
    root = corpus_root(run)
    catalogue = pd.read_parquet(run.catalogue_path, columns=["image_id", "path"])
    path_of = dict(zip(catalogue["image_id"].astype(str), catalogue["path"], strict=True))
    plan = pd.read_parquet(run.plan_path, columns=["row", "image_ids"])
    return {
        int(row): root / str(path_of[str(images[0])])
        for row, images in zip(plan["row"], plan["image_ids"], strict=True)
        if len(images) and str(images[0]) in path_of
    }
