"""How large the explorer of n adapters is, and how long a browser takes over what a reader does.

    python -m benchmarks.explorer 2000 100000

Adapters are invented: n / 80 artists, 60 components in two spaces, of which 30 count, ten training
images each, of at most 5,000. Times are of a headless Chromium that draws WebGL in software: a
machine with a GPU is faster. Needs a Chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lorastyle.explorer.pictures import SIDE, Pictures
from lorastyle.explorer.spaces import ShownSpace
from lorastyle.explorer.writing import Content, write_explorer
from tests.explorer.browser import Browser

N_COMPONENTS, N_COMPARED = 60, 30
ROLES = ("train",) * 7 + ("val", "test", "ingested")


def invented(n: int) -> Content:
    """N adapters in clusters by artist."""
    rng = np.random.default_rng(0)
    n_artists = max(2, n // 80)
    number = np.arange(n) % n_artists
    spread = 1 / np.sqrt(np.arange(1, N_COMPONENTS + 1))
    centres = rng.normal(size=(n_artists, N_COMPONENTS)) * spread
    adapters = pd.DataFrame(
        {
            "row": range(n),
            "adapter_id": [f"artist_{one:04d}-{place:06d}" for place, one in enumerate(number)],
            "artist": [f"artist_{one:04d}" for one in number],
            "genre": [f"genre_{one % 12:02d}" for one in number],
            "role": [ROLES[place // n_artists % len(ROLES)] for place in range(n)],
            "rank": "16",
            "source": "trained here",
            "images": [("image",) * 10] * n,
        }
    )
    spaces = []
    for representation in ("delta", "factors"):
        noise = 0.3 * rng.normal(size=(n, N_COMPONENTS)) * spread
        scores = (centres[number] + noise).astype(np.float32)
        shares = tuple((spread**2 / (spread**2).sum()).tolist())
        spaces.append(ShownSpace("retrieval", representation, "full", scores, N_COMPARED, shares))
    n_pictures = min(5_000, 4 * n)
    pictures = [_picture(rng) for _ in range(n_pictures)]
    shown = rng.integers(0, n_pictures, (n, 10)).tolist()
    return Content(f"{n:,} invented adapters", adapters, spaces, Pictures(pictures, shown))


def _picture(rng: np.random.Generator) -> bytes:
    """Smooth noise: about as many bytes as a painting."""
    small = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
    content = io.BytesIO()
    large = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    large.save(content, format="JPEG", quality=78, optimize=True)
    return content.getvalue()


def measured(n: int, folder: Path) -> dict[str, object]:
    """Sizes in MB, times in seconds."""
    content = invented(n)
    start = time.monotonic()
    written = write_explorer(content, folder / f"{n}.html")
    found: dict[str, object] = {
        "adapters": n,
        "what": "folder" if written.is_folder else "file",
        "mb": round(written.n_bytes / 1e6, 1),
        "write_s": round(time.monotonic() - start, 2),
    }
    browser = Browser(folder / f"profile-{n}", 1400, 900)
    try:
        start = time.monotonic()
        browser.open(written.page.as_uri())
        found["open_s"] = round(time.monotonic() - start, 2)
        found["hover_s"] = _hover(browser)
        for name, action in ACTIONS.items():
            found[f"{name}_s"] = _seconds(browser, action)
        found["heap_mb"] = round(browser.evaluate("performance.memory.usedJSHeapSize") / 1e6)
        if browser.complaints():
            raise RuntimeError(str(browser.complaints()))
    finally:
        browser.close()
    return found


def _change(field: str, value: str) -> str:
    return (
        f"(() => {{ const f = document.getElementById('{field}'); f.value = '{value}';"
        " f.dispatchEvent(new Event('change')); })()"
    )


PICK = (
    "document.getElementById('plot').emit("
    "'plotly_click', { points: [{ curveNumber: 0, pointNumber: 11 }] })"
)
ACTIONS = {
    "pick": PICK,
    "axis": _change("x", "4"),
    "colour": _change("colour", "genre"),
    "hide": "document.querySelector('#legend .toggle').click()",
    "space": _change("space", "1"),
    "three_d": "document.getElementById('dims-3').click()",
}


def _hover(browser: Browser) -> float:
    """From a pointer that moves onto a mark to its picture and name."""
    place = browser.evaluate(
        "(() => { const plot = document.getElementById('plot'), l = plot._fullLayout;"
        "const box = plot.getBoundingClientRect(), { space: s, rows: [row] } = lorastyle.view;"
        "return [box.left + l.xaxis._offset + l.xaxis.d2p(s.scores[row * s.k]),"
        " box.top + l.yaxis._offset + l.yaxis.d2p(s.scores[row * s.k + 1])]; })()"
    )
    start = time.monotonic()
    browser.move(*place)
    browser.wait("!document.getElementById('tip').hidden")
    return round(time.monotonic() - start, 2)


def _seconds(browser: Browser, action: str) -> float:
    before = browser.evaluate("lorastyle.ready")
    start = time.monotonic()
    browser.evaluate(action)
    browser.wait(f"lorastyle.ready > {before}")
    browser.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    return round(time.monotonic() - start, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="+")
    with tempfile.TemporaryDirectory() as folder:
        for n in parser.parse_args().n:
            print(json.dumps(measured(n, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
