"""Where a run lies: paths, URLs, and the working copy of a URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorastyle.config import Experiment
from lorastyle.errors import LorastyleError, StageError
from lorastyle.runs import Run, location
from lorastyle.runs.location import make_working_copy, working_copy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/paper", Path("runs/paper")),
        (Path("/runs/paper"), Path("/runs/paper")),
        ("file:///runs/my%20paper", Path("/runs/my paper")),
        ("s3://bucket/runs/paper/", "s3://bucket/runs/paper"),
        ("gs://bucket/runs/paper", "gs://bucket/runs/paper"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_a_location_is_a_path_or_the_text_of_a_url(text: str, expected: object) -> None:
    assert location(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("s3:///paper", "names no bucket; write s3://BUCKET/PREFIX"),
        ("gs://", "names no bucket; write gs://BUCKET/PREFIX"),
        ("ftp://host/paper", "neither a path nor one of s3://"),
        (Path("s3://bucket/paper"), "s3:/bucket/paper is no URL, for it lacks a slash"),
    ],
)
def test_what_is_no_location_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(LorastyleError, match=sentence):
        location(text)


def test_working_copies_of_two_runs_are_apart_and_lie_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path))
    copies = {working_copy(f"{scheme}://b/{name}") for scheme in ("s3", "gs") for name in "xy"}
    assert len(copies) == 4
    assert {copy.parent for copy in copies} == {tmp_path}


def test_without_a_wish_they_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORASTYLE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert working_copy("s3://b/paper").parent == Path("/cache/lorastyle/runs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/anna")
    assert working_copy("s3://b/paper").parent == Path("/home/anna/.cache/lorastyle/runs")


def test_a_cache_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "file"))
    with pytest.raises(StageError, match="set LORASTYLE_CACHE to a directory with room"):
        make_working_copy("s3://b/paper")


def test_a_run_in_a_directory_is_where_its_directory_is(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Experiment())
    assert run.location == run.directory == tmp_path / "run"
    assert run.store_path == tmp_path / "run" / "adapters.zarr"
    assert run.fetch(run.corpus_path / "x.png") == run.corpus_path / "x.png"
    run.pull("plan", "embed")
    assert run.place.names() == ["config.yaml"]


def test_a_directory_needs_no_network_client(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from lorastyle.config import Experiment
from lorastyle.runs import Run
Run.create(Path(sys.argv[1]), Experiment())
assert "obstore" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=True)
