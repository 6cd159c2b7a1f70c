"""A report says which of the paper's figures it has no data for."""

from __future__ import annotations

import json

import click
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup

from lorastyle.cli.main import main
from lorastyle.config import load_experiment
from lorastyle.report.lacking import FEATURES, FIGURES, lacking_part
from lorastyle.report.source import read_source
from lorastyle.report.stage import report
from lorastyle.runs import write_json

EVERYTHING = {lack.name for lack in FIGURES}


def items(markup) -> list[str]:
    return [item.get_text() for item in BeautifulSoup(markup or "", "html.parser").find_all("li")]


def test_what_was_made_is_not_said_to_lack(evaluated_run) -> None:
    source = read_source(evaluated_run, None)
    assert lacking_part(source, EVERYTHING) is None
    assert lacking_part(source, EVERYTHING - {"components"} | {"sweep_curves"}) is None
    (said,) = items(lacking_part(source, EVERYTHING - {"scenarios"}))
    command = "lorastyle evaluate RUN --force evaluation.generated=true"
    assert "Figure 7" in said and said.endswith(f": {command}")


@pytest.mark.parametrize("lack", [*FIGURES, FEATURES], ids=lambda lack: lack.name)
def test_every_command_and_every_setting_that_is_named_is_one(lack, tmp_path) -> None:
    program, verb, *rest = lack.command.split()
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    options = {option for one in command.params for option in one.opts}
    assert program == "lorastyle" and {part for part in rest if part[:2] == "--"} <= options
    settings = [part for part in rest if "=" in part]
    config = tmp_path / "config.yaml"
    config.write_text("name: x\nevaluation: {features: []}\n")
    found = load_experiment(config, settings).model_dump(mode="json")
    for setting in settings:
        key, _, value = setting.partition("=")
        section, name = key.split(".")
        wanted = yaml.safe_load(value)
        assert found[section][name] == wanted


def test_the_page_of_a_bare_run_names_what_its_files_lack(make_evaluated_run, tmp_path) -> None:
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    for name in ("scores", "curves", "queries"):
        pd.DataFrame().to_parquet(run.evaluation_path / f"{name}.parquet")
    metrics = json.loads(run.metrics_path.read_text())
    write_json(run.metrics_path, metrics | {"features": {}})
    report(run)
    page = BeautifulSoup((run.report_path / "index.html").read_text(), "html.parser")
    said = items(str(page.select_one("#run #lacks")))
    figures = {path.stem for path in (run.report_path / "figures").iterdir()}
    assert figures == {"methods"}
    # Each figure that is not there, and image features.
    assert len(said) == len(FIGURES) - len(figures) + 1
    assert any("evaluation.features" in line for line in said)
