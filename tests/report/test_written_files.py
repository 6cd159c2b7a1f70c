"""What reports leave in their folder: all that the last one made, and whatever is not theirs."""

from __future__ import annotations

import pandas as pd
import pytest

from lorastyle.report import stage
from lorastyle.report.stage import report
from lorastyle.report.written_files import NOTE_FILE, WrittenFiles
from lorastyle.runs import Run, write_atomically, write_json
from lorastyle.runs.published import files_below


@pytest.fixture
def run(make_evaluated_run, tmp_path) -> Run:
    made: Run = make_evaluated_run(tmp_path / "run", 4, 2)
    return made


def files_of(run: Run) -> set[str]:
    """Names below the report's folder, without its note."""
    paths = (path for path in run.report_path.rglob("*") if path.is_file())
    return {path.relative_to(run.report_path).as_posix() for path in paths} - {NOTE_FILE}


def without_curves(run: Run) -> None:
    """The next report has one figure less."""
    pd.DataFrame().to_parquet(run.evaluation_path / "curves.parquet")


def own_files(run: Run) -> set[str]:
    """Files of the user's, where a report writes and as it might name them."""
    names = {"figures/mine.png", "figures/sweep_ranks.svg", "sheets/mine.png", "notes/mine.txt"}
    for name in names:
        path = run.report_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return names


def test_figures_that_a_later_report_lacks_go_and_the_users_files_stay(run: Run) -> None:
    report(run)
    theirs, mine = files_of(run), own_files(run)
    without_curves(run)
    outcome = report(run, force=True)
    gone = {"figures/components.png", "figures/components.svg"}
    assert gone <= theirs
    assert files_of(run) == (theirs - gone) | mine
    assert {name for name in files_of(run) - mine if name.startswith("figures/")} == {
        f"figures/{name}" for name in outcome.outputs["figures"]
    }


def test_sheets_go_too(run: Run) -> None:
    files = WrittenFiles.of(run)
    for name in ("one.png", "two.png"):
        write_atomically(files.place("sheets", name), "a sheet")
    mine = own_files(run)
    later = WrittenFiles.of(run)
    write_atomically(later.place("sheets", "two.png"), "another sheet")
    later.remove_others()
    assert files_of(run) == {"sheets/two.png"} | mine
    assert WrittenFiles.of(run).earlier == {"sheets/two.png"}


def test_a_report_that_was_killed_leaves_nothing_unknown(run: Run, monkeypatch) -> None:
    report(run)
    theirs = files_of(run)
    (run.report_path / NOTE_FILE).unlink()  # as before there were notes
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(stage, "component_pairs", killed)
        with pytest.raises(KeyboardInterrupt):
            report(run, force=True)
    assert run.manifest("report") is None and files_of(run) == theirs
    without_curves(run)
    report(run)
    assert theirs - files_of(run) == {"figures/components.png", "figures/components.svg"}


@pytest.mark.parametrize(
    "name", ["../config.yaml", "figures/../index.html", "/config.yaml", "figures/a/b", "figures", 7]
)
def test_a_list_from_elsewhere_leads_to_no_other_file(run: Run, name: object) -> None:
    for place in ("index.html", "figures/a/b"):
        write_atomically(run.report_path / place, "mine")
    before = files_of(run)
    for names in ([name, str(run.config_path)], name):
        write_json(run.report_path / NOTE_FILE, {"files": names})
        run.finish("report", {}, {"figures": names, "sheets": names}, 1.0)
        WrittenFiles.of(run).remove_others()
        assert files_of(run) == before and run.config_path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": 3}'])
def test_a_damaged_note_removes_nothing(run: Run, content: str) -> None:
    mine = own_files(run)
    (run.report_path / NOTE_FILE).write_text(content)
    WrittenFiles.of(run).remove_others()
    assert files_of(run) == mine


def test_a_folder_in_the_place_of_a_figure_stays(run: Run) -> None:
    WrittenFiles.of(run).place("figures", "map.png").mkdir(parents=True)
    WrittenFiles.of(run).remove_others()
    assert (run.report_path / "figures" / "map.png").is_dir()


def test_the_note_is_not_published_with_the_report(run: Run) -> None:
    write_atomically(WrittenFiles.of(run).place("figures", "map.png"), "a map")
    assert (run.report_path / NOTE_FILE).exists()
    assert list(files_below(run.directory, ["report"])) == ["report/figures/map.png"]
