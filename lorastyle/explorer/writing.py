"""The explorer as one file, or as a folder where it would be too large for one."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lorastyle.errors import StageError
from lorastyle.explorer.document import document, scores_text
from lorastyle.explorer.page import make_page
from lorastyle.explorer.pictures import Pictures
from lorastyle.explorer.plotting_library import plotly_script
from lorastyle.explorer.spaces import ShownSpace
from lorastyle.report.markup import Markup, script_json, tag
from lorastyle.report.words import size
from lorastyle.runs import write_atomically

LARGEST_FILE = 32_000_000
"""Bytes of a page in one file. Browsers open more, but mail and reviewers do not."""
_MARK = "data/plotly.js"
_FRAME = 60_000
"""About what the page has besides data and library."""


@dataclass(frozen=True)
class Content:
    """What an explorer shows."""

    name: str
    adapters: pd.DataFrame
    spaces: Sequence[ShownSpace]
    pictures: Pictures


@dataclass(frozen=True)
class Written:
    """Where an explorer was written; `page` is to be opened."""

    page: Path
    n_bytes: int
    is_folder: bool


def write_explorer(
    content: Content, out: Path, *, largest: int = LARGEST_FILE, report: str | None = None
) -> Written:
    """Write `out`, an HTML file; above `largest` bytes a folder of its name without the suffix.

    `report` is the address of the run's report as seen from `out`. Raises StageError where `out`
    does not end in .html, or the folder holds something else than an explorer.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise StageError(f"{out} does not end in .html; the explorer is a page")
    facts = document(content.adapters, content.spaces, content.pictures)
    files: dict[str, Any] = {"adapters": facts}
    for number, space in enumerate(content.spaces):
        files[f"space-{number}"] = scores_text(space)
    texts = {name: script_json(value) for name, value in files.items()}
    in_base64 = content.pictures.n_bytes * 4 // 3
    n_bytes = sum(len(text) for text in texts.values()) + in_base64 + _FRAME + len(plotly_script())
    if n_bytes > largest:
        written = _write_folder(content, facts, texts, out.with_suffix(""), report)
        out.unlink(missing_ok=True)  # an earlier explorer
        return written
    if content.pictures.files:
        encoded = [base64.b64encode(one).decode("ascii") for one in content.pictures.files]
        texts["pictures"] = script_json(encoded)
    page = make_page(
        content.name,
        [_element(name, text) for name, text in texts.items()],
        _about(content, f"all in this file of {size(n_bytes)}"),
        in_folder=False,
        report=report,
    ).encode()
    write_atomically(out, page)
    return Written(out, len(page), False)


def _write_folder(
    content: Content,
    facts: dict[str, Any],
    texts: Mapping[str, Markup],
    folder: Path,
    report: str | None,
) -> Written:
    """`index.html`, `data/*.js` and `pictures/*.jpg`: the page loads what it comes to need."""
    if folder.exists() and not (folder / _MARK).is_file() and any(folder.iterdir()):
        raise StageError(
            f"the explorer is too large for one file, and the folder {folder} holds something "
            "else; name another file with --out, or raise --largest-mb"
        )
    for part in ("data", "pictures"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    facts = {**facts, "pictures": {"n": len(content.pictures.files), "folder": True}}
    scripts = {
        name: f'lorastyle.files["{name}"]={text};\n'
        for name, text in {**texts, "adapters": script_json(facts)}.items()
    }
    # First: by it an explorer that was not finished is known for one.
    n_bytes = (folder / _MARK).write_bytes(plotly_script().encode())
    for name, text in scripts.items():
        n_bytes += (folder / "data" / f"{name}.js").write_bytes(text.encode())
    for number, picture in enumerate(content.pictures.files):
        n_bytes += (folder / "pictures" / f"{number:06d}.jpg").write_bytes(picture)
    about = _about(content, f"in this folder of {size(n_bytes)}")
    above = None if report is None else f"../{report}"
    page = make_page(content.name, [], about, in_folder=True, report=above).encode()
    write_atomically(folder / "index.html", page)
    return Written(folder / "index.html", n_bytes + len(page), True)


def _element(name: str, text: Markup) -> Markup:
    return tag("script", text, type="application/json", id=f"file-{name}")


def _about(content: Content, where: str) -> str:
    n_pictures, n_spaces = len(content.pictures.files), len(content.spaces)
    return (
        f"{len(content.adapters):,} adapters in {n_spaces} style "
        f"space{'' if n_spaces == 1 else 's'}, {n_pictures:,} pictures, {where}. It works without "
        "a network and sends nothing. Drawn by plotly.js (MIT)."
    )
