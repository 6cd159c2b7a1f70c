"""An explorer of invented adapters, and a browser to open it in."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lorastyle.explorer.pictures import Pictures
from lorastyle.explorer.spaces import ShownSpace
from lorastyle.explorer.writing import Content
from tests.explorer.browser import Browser, executable

HOSTILE = "</script><script>window.stolen=1</script><img src=x onerror=window.stolen=2>"
ARTISTS = {"claude_monet": "outdoors", "alfred_sisley": "outdoors", "rembrandt": "indoors"}
ROLES = ("train", "train", "train", "train", "val", "test", "query_test")
N_COMPARED = 5


def jpeg(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (24, 24), (shade, 90, 140)).save(content, format="JPEG")
    return content.getvalue()


def invented(n_artists_more: int = 0) -> pd.DataFrame:
    """Adapters by three artists and one whose every name is an attack; two are from elsewhere."""
    rows = []
    more = {f"artist_{number:03d}": "others" for number in range(n_artists_more)}
    for artist, genre in {**ARTISTS, HOSTILE: HOSTILE, **more}.items():
        for index, role in enumerate(ROLES):
            name = f"{artist}-{role}-{index}"
            rows.append(
                (name, artist, genre, role, "4", "trained here", (f"{artist}/{index}.png",))
            )
    rows.append((HOSTILE, "unlabelled", "unlabelled", "ingested", "16", f"a file: {HOSTILE}", ()))
    rows.append(("stranger", "unlabelled", "unlabelled", "ingested", "8", "a file: kohya", ()))
    names = ["adapter_id", "artist", "genre", "role", "rank", "source", "images"]
    return pd.DataFrame(rows, columns=names).assign(row=range(len(rows)))


def invented_spaces(adapters: pd.DataFrame, k: int = 7) -> list[ShownSpace]:
    """Clusters by artist; in the second space the adapters from elsewhere have no place."""
    rng = np.random.default_rng(4)
    centre = {artist: 2 * rng.normal(size=k) for artist in adapters["artist"].unique()}
    centres = np.stack([centre[artist] for artist in adapters["artist"]])
    scores = (centres + 0.3 * rng.normal(size=centres.shape)).astype(np.float32)
    partly = rng.normal(size=scores.shape).astype(np.float32)
    partly[(adapters["role"] == "ingested").to_numpy()] = np.nan
    shares = tuple(0.4 / 2**place for place in range(k))
    return [
        ShownSpace("retrieval", "delta", "full", scores, N_COMPARED, shares),
        ShownSpace("clustering", "factors", "feed_forward", partly, 3, shares),
    ]


@pytest.fixture(scope="session")
def make_content() -> Callable[..., Content]:
    def make(n_artists_more: int = 0) -> Content:
        adapters = invented(n_artists_more)
        shown = [[place] if images else [] for place, images in enumerate(adapters["images"])]
        files = [jpeg(7 * place % 256) for place in range(len(adapters) - 2)]
        return Content(
            f"run of {HOSTILE}", adapters, invented_spaces(adapters), Pictures(files, shown)
        )

    return make


@pytest.fixture(scope="session")
def content(make_content: Callable[..., Content]) -> Content:
    return make_content()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("there is no Chromium on this machine; install one to test the explorer in it")
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()
