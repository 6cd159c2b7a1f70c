"""`explore`: from a run to a page in which its style spaces can be looked around in."""

from __future__ import annotations

from pathlib import Path

from lorastyle.explorer.adapters import adapter_table
from lorastyle.explorer.pictures import training_pictures, wanted_images
from lorastyle.explorer.spaces import shown_spaces
from lorastyle.explorer.writing import LARGEST_FILE, Content, Written, write_explorer
from lorastyle.progress import progress
from lorastyle.report.page import EXPLORER_FILES
from lorastyle.runs import Run


def explore(
    run: Run,
    out: Path | None = None,
    *,
    largest: int = LARGEST_FILE,
    with_report: bool | None = None,
) -> Written:
    """Write the explorer of an embedded run, by default beside its report.

    `with_report` says whether a report will stand beside it, by default whether one does.
    PC counts and forms of calibration are those that validation chose, where the run is
    evaluated. Raises StageError before embedding, StoreError without adapters.
    """
    run.upstream_hash("embed")
    # The report as well: it is published again together with the explorer.
    run.pull("plan", "embed", "sweep", "evaluate", "report")
    path = run.report_path / EXPLORER_FILES[0] if out is None else out
    path.parent.mkdir(parents=True, exist_ok=True)
    adapters = adapter_table(run)
    spaces = list(shown_spaces(run, adapters))
    with progress("explore", len(wanted_images(adapters)), "pictures") as shown:
        pictures = training_pictures(run, adapters, shown)
    if with_report is None:
        with_report = (run.report_path / "index.html").is_file()
    written = write_explorer(
        Content(run.experiment.name, adapters, spaces, pictures),
        path,
        largest=largest,
        report="index.html" if with_report and path.parent == run.report_path else None,
    )
    if out is None and run.manifest("report") is not None:
        run.publish_again("report")
    return written
