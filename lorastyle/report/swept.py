"""What a sweep leaves for people beside its results: figures and the ablation table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lorastyle.report.ablation import ablation_csv, ablation_markdown
from lorastyle.report.canvas import save_figure, styled
from lorastyle.report.curve_figures import curves, ranks
from lorastyle.report.sweep_panels import curve_panels, rank_panels
from lorastyle.report.sweep_results import SweepResults
from lorastyle.runs import write_atomically


def write_sweep_report(
    directory: Path, results: pd.DataFrame, best: Mapping[str, Any], top_k: int
) -> list[Path]:
    """Write `ablation.md`, `ablation.csv`, and as PNG and SVG `curves` and `ranks`; their paths.

    `results` and `best` are what `results.parquet` and `best.yaml` hold. A figure that there
    is nothing to draw for, as `ranks` after a sweep of one rank, is removed if it was there.
    """
    table, records = directory / "ablation.md", directory / "ablation.csv"
    write_atomically(table, ablation_markdown(results, best, top_k))
    write_atomically(records, ablation_csv(results, best, top_k))
    written = [table, records]
    for name, figure in sweep_figures(SweepResults(results, best), top_k).items():
        if figure is not None:
            written += save_figure(figure, directory / name)
            continue
        for suffix in (".png", ".svg"):
            (directory / name).with_suffix(suffix).unlink(missing_ok=True)
    return written


def sweep_figures(swept: SweepResults, top_k: int | None) -> dict[str, Any]:
    """`curves` and `ranks`; None where there is nothing to draw."""
    by_count, by_rank = curve_panels(swept, top_k), rank_panels(swept, top_k)
    with styled():
        return {
            "curves": curves(by_count) if by_count else None,
            "ranks": ranks(by_rank) if by_rank else None,
        }
