"""Sheets of a real run: the images its adapters were trained on, and those they made."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from lorastyle.base.images import load_image
from lorastyle.corpus.stage import corpus_root, read_catalogue, read_plan
from lorastyle.generation.kept import GeneratedImages
from lorastyle.generation.sheet import GAP, LABELS, MARGIN, TITLE
from lorastyle.pictures import read_picture
from lorastyle.report.picture_sections import artists_section
from lorastyle.report.source import ReportSource
from lorastyle.report.thumbnails import SIDE
from lorastyle.report.training_sheets import sheet_rows, write_sheets
from lorastyle.report.written_files import WrittenFiles
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays

TOP = 2 * MARGIN + TITLE + 15


def source_of(run: Run) -> ReportSource:
    nothing = pd.DataFrame()
    return ReportSource(
        run=run,
        metrics={},
        spaces={},
        curves=nothing,
        queries=nothing,
        calibration=nothing,
        catalogue=read_catalogue(run),
        plan=pd.read_parquet(run.plan_path),
        manifests={},
    )


def tile(sheet: Image.Image, line: int, place: int) -> np.ndarray:
    left, top = MARGIN + LABELS + place * (SIDE + GAP), TOP + line * (SIDE + GAP)
    return np.asarray(sheet.crop((left, top, left + SIDE, top + SIDE))).astype(int)


def test_images_stand_in_the_order_of_training_with_those_made_below(trained_run, tmp_path):
    source, catalogue = source_of(trained_run), read_catalogue(trained_run)
    rows = sheet_rows(source)
    specs = {spec.row: spec for spec in read_plan(trained_run)}
    assert {specs[row].artist for row in rows} == set(catalogue["artist"])
    assert {(specs[row].role.value, specs[row].index) for row in rows} == {("train", 0)}
    spec = specs[rows[0]]
    colours = np.random.default_rng(0).integers(0, 256, (len(spec.image_ids), 1, 1, 3))
    made = np.broadcast_to(colours, (len(colours), 32, 32, 3)).astype(np.uint8)
    ((name, _),) = GeneratedImages.of(trained_run).contents([spec.row])
    KeptArrays.of(trained_run, "generated").keep(name, made)

    sheets = tmp_path / "sheets"
    written = write_sheets(source, WrittenFiles(tmp_path))
    assert sorted(path.name for path in sheets.iterdir()) == sorted(written.values())
    assert written.keys() == set(catalogue["artist"])
    with_made = read_picture(sheets / written[spec.artist])
    paths = catalogue.set_index("image_id")["path"]
    for place, image in enumerate(spec.image_ids):
        path = corpus_root(trained_run) / paths[image]
        size = min(read_picture(path).size)
        expected = Image.fromarray(load_image(path, size)).resize((SIDE, SIDE))
        assert np.abs(tile(with_made, 0, place) - np.asarray(expected)).mean() < 6
        assert (tile(with_made, 1, place) == colours[place]).all()
    other = read_picture(sheets / written[specs[rows[1]].artist])
    assert other.height == with_made.height - (SIDE + GAP)
    cards = artists_section(source, {}, written)
    assert all(f'href="sheets/{file}"' in cards for file in written.values())


def test_adapters_that_are_not_at_hand_have_no_sheet(trained_run, tmp_path):
    source = source_of(trained_run)
    (trained_run.store_path / "zarr.json").unlink()
    assert write_sheets(source, WrittenFiles(tmp_path)) == {}
