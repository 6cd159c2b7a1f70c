"""What the page's script is given: plain values, adapters and pictures by number."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.explorer.columns import codes_of, columns_of
from lorastyle.explorer.pictures import Pictures
from lorastyle.explorer.spaces import NOTES, ShownSpace
from lorastyle.report.palette import ACCENT, INK, MUTED, PAPER, RULE


def document(
    adapters: pd.DataFrame, spaces: Sequence[ShownSpace], pictures: Pictures
) -> dict[str, Any]:
    """All but scores and pictures: those are files of their own, or elements."""
    columns = columns_of(adapters)
    return {
        "theme": {theme: _theme(theme) for theme in ("light", "dark")},
        "columns": columns,
        "adapters": {
            "id": adapters["adapter_id"].astype(str).tolist(),
            **codes_of(adapters, columns),
            "n_images": [len(images) for images in adapters["images"]],
            "pictures": pictures.of_adapter,
        },
        "spaces": [
            {
                "key": space.key,
                "name": space.name,
                "task": space.task,
                "note": NOTES[space.task],
                "k": int(space.scores.shape[1]),
                "n_compared": space.n_compared,
                "n_placed": int(np.isfinite(space.scores[:, 0]).sum()),
                "explained": [round(share, 5) for share in space.explained],
            }
            for space in spaces
        ],
        "pictures": {"n": len(pictures.files), "folder": False},
    }


def scores_text(space: ShownSpace) -> str:
    """Scores as base64 of little-endian float32, row by row."""
    return base64.b64encode(space.scores.astype("<f4").tobytes()).decode("ascii")


def _theme(theme: str) -> dict[str, str]:
    named = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER, "accent": ACCENT}
    return {name: colour[theme] for name, colour in named.items()}
