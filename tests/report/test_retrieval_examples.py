"""Queries and what they find, against a PCA and a ranking by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_hex

from lorastyle.embedding.gram import GramSet
from lorastyle.records import AdapterSpec, Role
from lorastyle.report.canvas import styled
from lorastyle.report.retrieval_examples import Example, Hit, retrieval_examples, shown_queries
from lorastyle.report.retrieval_grid import examples_part, pictured, retrieval_grid
from lorastyle.report.source import read_source
from lorastyle.report.stage import report
from lorastyle.report.thumbnails import TrainingPictures
from lorastyle.runs import Run, write_json

COUNTS = {Role.TRAIN: 5, Role.QUERY_TEST: 2}
N_COMPONENTS = 3


def embed(run: Run) -> tuple[pd.DataFrame, np.ndarray]:
    """Give an evaluated run Gram matrices and a plan; the table, and the vectors behind them."""
    catalogue = pd.read_parquet(run.catalogue_path)
    more = {"caption": "a painting", "content_hash": catalogue["image_id"], "split": "train"}
    catalogue.assign(**more, width=24, height=24).to_parquet(run.catalogue_path)
    artists = sorted(catalogue["artist"].unique())
    lines = [
        {
            "adapter_id": f"{artist}-{role.value}-{index:02d}",
            "artist": artist,
            "genre": "g",
            "role": role.value,
            "index": index,
        }
        for role, count in COUNTS.items()
        for index in range(count)
        for artist in artists
    ]
    table = pd.DataFrame(lines)
    table.insert(0, "row", np.arange(len(table)))
    rng = np.random.default_rng(2)
    centres = {artist: rng.normal(size=9) for artist in artists}
    vectors = np.stack([centres[artist] for artist in table["artist"]])
    vectors = vectors + 1.1 * rng.normal(size=vectors.shape)
    # Updates are compared by cosine.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gram = {"feed_forward": vectors @ vectors.T}
    GramSet(table, {"factors": gram, "delta": gram}).save(run.embedding_path)
    specs = [
        AdapterSpec.from_dict(
            {
                **line,
                "image_ids": [f"{line['artist']}/{i:03d}.png" for i in range(3)],
                "token": "t",
                "noise_seed": 0,
                "init_seed": 0,
            }
        ).to_dict()
        for line in table.to_dict("records")
    ]
    pd.DataFrame(specs).to_parquet(run.plan_path)
    metrics = json.loads(run.metrics_path.read_text())
    metrics["retrieval"]["delta/feed_forward"]["n_components"] = N_COMPONENTS
    write_json(run.metrics_path, metrics)
    return table, vectors


@pytest.fixture(scope="module")
def embedded(make_evaluated_run, tmp_path_factory):
    run = make_evaluated_run(tmp_path_factory.mktemp("examples") / "run", 4, 2)
    return run, *embed(run)


def test_queries_find_what_a_pca_by_hand_finds(embedded) -> None:
    run, table, vectors = embedded
    gallery = (table["role"] == "train").to_numpy()
    mean = vectors[gallery].mean(axis=0)
    axes = np.linalg.svd(vectors[gallery] - mean, full_matrices=False)[2][:N_COMPONENTS]
    scores = (vectors - mean) @ axes.T
    examples = retrieval_examples(read_source(run, None), None)
    assert len({example.artist for example in examples}) == len(examples) == 4
    answers = []
    for example in examples:
        own = scores[(table["adapter_id"] == example.adapter_id).to_numpy()]
        near = np.argsort(np.linalg.norm(scores[gallery] - own, axis=1))[:3]
        expected = table[gallery].iloc[near]
        assert [hit.adapter_id for hit in example.hits] == expected["adapter_id"].tolist()
        answers += [hit.right for hit in example.hits]
        assert answers[-3:] == (expected["artist"] == example.artist).tolist()
    assert len(set(answers)) == 2


def test_frames_and_marks_tell_right_from_wrong_without_colour_too(embedded) -> None:
    run, *_ = embedded
    source = read_source(run, None)
    examples = retrieval_examples(source, None)
    rows = pictured(examples, TrainingPictures(run, source.catalogue))
    with styled():
        figure = retrieval_grid(rows)
    framed = [ax for ax in figure.axes if ax.get_title(loc="left")]
    hits = [hit for example in examples for hit in example.hits]
    page = BeautifulSoup(examples_part(rows) or "", "html.parser")
    shown = page.select("figure.right, figure.wrong")
    for ax, element, hit in zip(framed, shown, hits, strict=True):
        spine = ax.spines["left"]
        colour, broken = to_hex(spine.get_edgecolor()), spine.get_linestyle() != "-"
        assert (colour, broken) == (("#1b8f6a", False) if hit.right else ("#b8391f", True))
        name = hit.artist.replace("_", " ")
        title = ax.get_title(loc="left")
        assert title == ("✓ " if hit.right else "✗ ") + name
        assert element.figcaption.get_text() == title
        assert element["class"] == ["right" if hit.right else "wrong"]
        assert ax.images[0].get_array().shape == (128, 128, 3)


def test_a_row_shows_no_image_twice_as_far_as_there_are_others(embedded, monkeypatch) -> None:
    run, *_ = embedded
    images = {"query": ["a", "b", "c", "d"], "first": ["b", "e", "f"], "second": ["e"], "none": []}
    asked: list[str] = []
    monkeypatch.setattr(TrainingPictures, "images_of", lambda self, name: images[name])
    monkeypatch.setattr(TrainingPictures, "square", lambda self, image: asked.append(image))
    hits = tuple(Hit(name, "x", True) for name in ("first", "second", "none"))
    (row,) = pictured(
        [Example("query", "x", "best", 1.0, hits)], TrainingPictures(run, pd.DataFrame())
    )
    assert asked == ["e", "e", "a", "b", "c"]
    assert len(row.hits) == len(row.query) == 3


def test_queries_shown_are_from_both_ends_and_the_middle_an_artist_each() -> None:
    precision = np.linspace(1.0, 0.0, 61)
    queries = pd.DataFrame(
        {
            "adapter_id": [f"q{i:02d}" for i in range(61)],
            "artist": [f"a{i // 2:02d}" for i in range(61)],
            "average_precision": precision,
        }
    ).sample(frac=1.0, random_state=1)
    shown = shown_queries(queries)
    # Middle: 30, the first of an artist; its neighbour 29 is by another, 31 is not.
    expected = [(0, "best"), (2, "best"), (4, "best"), (29, "median"), (30, "median")]
    expected += [(32, "median"), (59, "worst"), (60, "worst")]
    drawn = [(int(name[1:]), standing) for name, standing in zip(*_columns(shown), strict=True)]
    assert drawn == expected


def _columns(shown: pd.DataFrame) -> tuple[list[str], list[str]]:
    return shown["adapter_id"].tolist(), shown["standing"].tolist()


def test_the_report_has_them(embedded) -> None:
    run, *_ = embedded
    assert "retrieval_examples.png" in report(run).outputs["figures"]
    page = BeautifulSoup((run.report_path / "index.html").read_text(), "html.parser")
    assert len(page.select("#retrieval .example")) == 4
