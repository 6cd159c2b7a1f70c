"""Tables, figures and the verb."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest
from click.testing import CliRunner

from lorastyle.ablation.embedded import ablate_embedded
from lorastyle.ablation.factors import FACTORS
from lorastyle.ablation.figure import ablation_figure
from lorastyle.ablation.levels import Ablation, Level, Number, number_of
from lorastyle.ablation.request import Request
from lorastyle.ablation.tables import to_csv, to_markdown
from lorastyle.cli.main import main
from lorastyle.runs import Run


@pytest.fixture(scope="module")
def sizes(database) -> Ablation:
    request = Request(FACTORS["gallery-size"], ("2", "4", "6"), n_draws=2)
    return ablate_embedded(database.embedded(), request)


def entry(value, low, high):
    scores = {"map": value, "ci": {"map": [low, high]}}
    return {"n_components": 3, "calibration": "full", "test": scores}


def test_a_number_of_draws_is_their_mean_and_so_are_its_ends():
    found = number_of([entry(0.2, 0.1, 0.4), entry(0.6, 0.5, 0.8)], ("test", "map"))
    assert found == pytest.approx(Number(0.4, 0.3, 0.6, 0.4 / 2**0.5))
    assert number_of([entry(0.2, 0.1, 0.4), {}], ("test", "map")) is None
    assert number_of([], ("test", "map")) is None


def test_the_csv_has_every_number_in_full(sizes):
    lines = list(csv.DictReader(StringIO(to_csv(sizes))))
    assert [line["gallery-size"] for line in lines] == ["2", "4", "6"]
    for line, level in zip(lines, sizes.levels, strict=True):
        for key, number in level.numbers().items():
            parts = number.to_dict()
            assert float(line[key]) == parts.pop("value")
            assert {part: float(line[f"{key}_{part}"]) for part in parts} == parts
    assert lines[2]["ari/test"] == ""
    assert [line["draws_clustering"] for line in lines] == ["2", "1", "0"]


def test_the_table_has_percent_with_draws_and_intervals(sizes):
    text = to_markdown(sizes)
    number = sizes.levels[0].numbers()["map/test"]
    value, low, high, std = (f"{100 * part:.1f}" for part in number)
    assert f"| {value} ± {std} [{low}, {high}] |" in text
    assert "4 artists, 8 validation adapters, 8 test adapters" in text
    assert "- 6, factors: no clustering, an artist has at most 4 to fit on" in text


def test_text_of_strangers_stays_text():
    level = Level("up*", "factors", "up*", {"retrieval": [entry(0.5, 0.4, 0.6)]})
    ablation = Ablation(FACTORS["sub-networks"], [level], {}, (), {"to_*": "<b>no</b>"})
    text = to_markdown(ablation)
    assert "| `up*` " in text
    assert "- left out to_\\*: &lt;b>no&lt;/b>" in text


def test_the_figure_draws_the_numbers_of_ordered_factors_only(sizes):
    figure = ablation_figure(sizes)
    drawn = {
        ax.get_title(loc="left"): [line.get_ydata().tolist() for line in ax.lines]
        for ax in figure.axes
        if ax.get_visible()
    }
    for title, key in (
        *(("Clustering", "ari/test"), ("Retrieval", "map/test")),
        ("Drift of test queries", "drift_of_two/retrieval/test/after"),
    ):
        values = [one.numbers()[key].value for one in sizes.levels if key in one.numbers()]
        assert values in drawn[title]
    words = Ablation(FACTORS["calibration"], sizes.levels, {})
    assert ablation_figure(words) is None


def invoke(*arguments):
    return CliRunner().invoke(main, ["ablate", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(database, tmp_path_factory) -> Run:
    return database.saved(tmp_path_factory.mktemp("runs") / "run")


def test_the_verb_prints_the_tables_and_writes_them(run):
    done = invoke(run.directory, "calibration", "--values", "none,full")
    assert done.exit_code == 0, done.output
    files = run.directory / "ablations"
    assert {path.name for path in files.iterdir()} >= {
        f"calibration.{ending}" for ending in ("md", "csv", "json")
    }
    assert (files / "calibration.md").read_text() in done.stdout


def test_its_document_is_the_file_and_an_ordered_factor_has_a_figure(run):
    done = invoke(run.directory, "gallery-size", "--values", "4", "--draws", "1", "--json")
    answer, files = json.loads(done.stdout), run.directory / "ablations"
    written = json.loads((files / "gallery-size.json").read_text())
    assert answer["levels"] == written["levels"]
    for ending in ("png", "svg"):
        path = files / f"gallery-size.{ending}"
        assert str(path) in answer["files"]
        assert path.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("colour",), 2, "is not one of"),
        (("rank", "--draws", "2"), 2, "--draws is of gallery-size"),
        (("sub-networks", "--subnetwork", "full"), 2, "name them with --values"),
        (("components", "--values", "many"), 2, "'many' is no value of components"),
        (("components", "--values", "500"), 2, "the largest style space has 7"),
        (("components", "--subnetwork", "up"), 1, "names none of the 3 modules"),
        (("images", "--values", "40"), 2, "exceeds reserved_val=4"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(run, arguments, status, said):
    done = invoke(run.directory, *arguments)
    assert done.exit_code == status
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_of_a_run_in_a_bucket_the_files_are_in_the_bucket(database, machines):
    machines("a")
    request = Request(FACTORS["calibration"], ("none",))
    database.saved("s3://team/runs/ablated")
    machines("b")
    done = invoke("s3://team/runs/ablated", request.factor.name, "--values", "none")
    assert done.exit_code == 0, done.output
    place = Run.open("s3://team/runs/ablated").place
    for ending in ("md", "csv", "json"):
        assert place.read(f"ablations/calibration.{ending}")
