"""The stage `report`: figures as files, and one offline page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lorastyle import __version__
from lorastyle.errors import StageError
from lorastyle.evaluation.swept import FinishedSweep, finished_sweep
from lorastyle.report import figures
from lorastyle.report.calibration_figure import calibration_curves, calibration_lines
from lorastyle.report.canvas import css_variables, inline_svg, save_figure, save_png, styled
from lorastyle.report.component_pairs import (
    PairedComponents,
    component_pairs,
    pairs_figure,
    pairs_part,
)
from lorastyle.report.curve_figures import curves
from lorastyle.report.drift_figure import drift
from lorastyle.report.lacking import lacking_part
from lorastyle.report.markup import Markup
from lorastyle.report.page import make_page
from lorastyle.report.panels import comparisons, curve_panels, drift_pairs
from lorastyle.report.retrieval_examples import retrieval_examples
from lorastyle.report.retrieval_grid import (
    PicturedExample,
    examples_part,
    pictured,
    retrieval_grid,
)
from lorastyle.report.scenario_figure import scenario_bars
from lorastyle.report.scenario_scores import scenario_methods
from lorastyle.report.scores import TASKS
from lorastyle.report.source import ReportSource, read_source
from lorastyle.report.swept import sweep_figures
from lorastyle.report.thumbnails import TrainingPictures, works_of_artists
from lorastyle.report.training_sheets import write_sheets
from lorastyle.report.written_files import FIGURES, SHEETS, WrittenFiles
from lorastyle.runs import Run, StageOutcome, carry_out, write_atomically

Pairs = Sequence[PairedComponents]
GRID = "retrieval_examples"
"""The figure of photographs: a PNG alone."""
GRID_DPI = 150
"""Its pictures have no more pixels to show."""


def report(
    run: Run, *, force: bool = False, explorer: Callable[[Run], object] | None = None
) -> StageOutcome:
    """Write `report/index.html` and `report/figures/*.png|svg` from an evaluated run.

    `explorer` writes a page beside it before, which it then leads to. Figures and sheets
    that an earlier report wrote, and this one does not, are removed.
    Raises StageError where the run is not evaluated, or where its evaluation
    changed since the report and `force` is not set.
    """
    inputs = {"evaluation": run.upstream_hash("evaluate"), "lorastyle": __version__}
    sweep = finished_sweep(run)
    if sweep is not None:
        inputs["sweep"] = run.upstream_hash("sweep")
    files = WrittenFiles.of(run)

    def body() -> dict[str, Any]:
        files.remember()
        return _report(run, sweep, explorer, files)

    return carry_out(run, "report", inputs, body, force=force)


def _report(
    run: Run,
    sweep: FinishedSweep | None,
    explorer: Callable[[Run], object] | None,
    files: WrittenFiles,
) -> dict[str, Any]:
    if explorer is not None:
        explorer(run)
    source = read_source(run, sweep)
    pairs = component_pairs(source)
    written, static_map = _write_figures(source, pairs, files)
    examples = _examples(source, sweep)
    if examples:
        with styled():
            path = files.place(FIGURES, f"{GRID}.png")
            save_png(retrieval_grid(examples), path.with_suffix(""), GRID_DPI)
        written.append(path.name)
    sheets = write_sheets(source, files)
    works = works_of_artists(run, source.catalogue)
    made = {Path(name).stem for name in written} | ({SHEETS} if sheets else set())
    page = make_page(
        source,
        works,
        static_map,
        pairs=pairs_part(pairs, source.palette),
        examples=examples_part(examples),
        sheets=sheets,
        lacks=lacking_part(source, made),
    ).encode()
    write_atomically(run.report_path / "index.html", page)
    # Only now: until then the earlier page leads to them.
    files.remove_others()
    return {
        "page": "report/index.html",
        "bytes": len(page),
        "sha256": hashlib.sha256(page).hexdigest(),
        FIGURES: written,
        SHEETS: sorted(sheets.values()),
    }


def _examples(source: ReportSource, sweep: FinishedSweep | None) -> list[PicturedExample]:
    """Queries and what they find; none of adapters whose images, or embedding, are not at hand."""
    if not source.run.is_planned:
        return []
    try:
        examples = retrieval_examples(source, sweep)
        return pictured(examples, TrainingPictures(source.run, source.catalogue))
    except StageError:
        return []


def _write_figures(
    source: ReportSource, pairs: Pairs, files: WrittenFiles
) -> tuple[list[str], Markup]:
    """Every figure that the run has data for; its name, and the map for the page."""
    written: list[str] = []
    static_map = Markup("")
    with styled():
        for name, figure in _figures(source, pairs).items():
            paths = [files.place(FIGURES, f"{name}.{kind}") for kind in ("png", "svg")]
            save_figure(figure, paths[0].with_suffix(""))
            written += [path.name for path in paths]
            if name == "style_map":
                variables = css_variables(source.palette)
                static_map = inline_svg(figure, "static-map", "Style map", variables)
    return written, static_map


def _figures(source: ReportSource, pairs: Pairs) -> dict[str, Any]:
    made: dict[str, Any] = {}
    space = source.spaces.get(source.shown_space or "")
    if space is not None:
        made["style_map"] = figures.style_map(space.points(), source.palette)
    if source.swept is not None:
        drawn = sweep_figures(source.swept, source.top_k)
        made |= {f"sweep_{name}": figure for name, figure in drawn.items() if figure is not None}
    elif panels := curve_panels(source):
        made["components"] = curves(panels)
    if drifted := drift_pairs(source):
        made["calibration"] = drift(drifted, source.palette)
    if lines := calibration_lines(source):
        made["calibration_curves"] = calibration_curves(lines)
    if pairs:
        made["component_pairs"] = pairs_figure(pairs, source.palette)
    compared = [(task.capitalize(), rows) for task in TASKS if (rows := comparisons(source, task))]
    if compared:
        made["methods"] = figures.methods(compared)
    if by_scenario := scenario_methods(source):
        made["scenarios"] = scenario_bars(by_scenario, source.top_k)
    return made
