"""The files of an ablation, `RUN/ablations/FACTOR.*`, also where the run lies in a bucket."""

from __future__ import annotations

from pathlib import Path

from lorastyle.ablation.figure import ablation_figure
from lorastyle.ablation.levels import Ablation
from lorastyle.ablation.tables import to_csv, to_markdown
from lorastyle.report.canvas import save_figure, styled
from lorastyle.runs import Run, write_atomically, write_json

DIRECTORY = "ablations"


def write_ablation(run: Run, ablation: Ablation) -> list[Path]:
    """Write `FACTOR.md`, `.csv`, `.json`, of an ordered factor `.png` and `.svg`; their paths.

    Those of an earlier ablation of the factor are replaced.
    """
    stem = run.directory / DIRECTORY / ablation.factor.name
    table, records, document = (stem.with_suffix(f".{end}") for end in ("md", "csv", "json"))
    write_atomically(table, to_markdown(ablation))
    write_atomically(records, to_csv(ablation))
    write_json(document, ablation.to_dict() | {"config_hash": run.experiment.hash()})
    written = [table, records, document]
    figure = ablation_figure(ablation)
    if figure is not None:
        with styled():
            written += save_figure(figure, stem)
    if run.url is not None:
        for path in written:
            run.place.write(f"{DIRECTORY}/{path.name}", [path.read_bytes()])
    return written
