"""The operator's guide: its commands exist, its files are there, its sums are right."""

from __future__ import annotations

import importlib.util
import re
import shlex

import click
import pytest

from cluster.validate import HERE
from lorastyle.cli.main import main as lorastyle
from lorastyle.config import load_experiment
from lorastyle.distributed.metrics import GAUGES
from lorastyle.training.settings import samples_a_step

ROOT = HERE.parent
GUIDES = [HERE / "README.md", ROOT / "docs" / "security.md", ROOT / "docs" / "cluster-at-scale.md"]
README = GUIDES[0].read_text()
TEXT = "\n".join(guide.read_text() for guide in GUIDES)
# A command may go on in the next line, and a remark or a second command may follow it.
COMMANDS = re.findall(
    r"(?<!--namespace )(?<![\w/.-])lorastyle (?=[a-z])([^`\n#|]+)", TEXT.replace("\\\n", " ")
)


def _named(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that is meant, and what is given to it."""
    command: click.Command = lorastyle
    while isinstance(command, click.Group):
        with click.Context(command) as context:
            found = command.get_command(context, arguments[0])
        assert found is not None, f"no verb {arguments[0]!r}"
        command, arguments = found, arguments[1:]
    return command, arguments


@pytest.mark.parametrize("text", sorted({text.strip() for text in COMMANDS}))
def test_a_command_of_ours_has_its_verb_and_its_options(text: str) -> None:
    words = shlex.split(text)
    command, arguments = _named(words)
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.split("=")[0] for word in arguments if word.startswith("--")}
    assert given <= known


def test_there_are_commands_to_look_at() -> None:
    verbs = {text.split()[0] for text in COMMANDS}
    assert {"plan", "submit", "store", "cluster"} <= verbs


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+[a-z_])", TEXT))))
def test_a_module_that_is_named_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("metric", sorted(set(re.findall(r"`(lorastyle_\w+)`", README))))
def test_a_metric_that_is_named_is_exported(metric: str) -> None:
    assert metric in GAUGES


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_and_files_lead_somewhere(guide) -> None:
    text = guide.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert all((guide.parent / link).exists() for link in links)
    files = re.findall(r"(?<![\w/])((?:cluster|configs)/[\w./-]+\.(?:yaml|py))", text)
    assert all((ROOT / file).exists() for file in files)


def test_every_file_of_the_folder_is_explained() -> None:
    names = [path.name for path in HERE.rglob("*.yaml") if path.name != "fields.yaml"]
    assert [name for name in names if name not in README] == []


@pytest.mark.parametrize(("n_adapters", "column"), [(1_890, 1), (100_000, 2)])
def test_the_worked_example_follows_the_formula(n_adapters: int, column: int) -> None:
    cells = [line.split("|")[1:-1] for line in README.splitlines() if line.startswith("| ")]
    table = {row[0].strip(): row[column].strip() for row in cells if len(row) == 3}
    training = load_experiment(ROOT / "configs" / "paper.yaml").training
    samples = training.n_steps * samples_a_step(training)
    n_gpus, per_s, start_and_idle_h = 16, 100, 0.25
    training_h = n_adapters * samples / (3600 * per_s)
    hours = training_h / n_gpus + start_and_idle_h
    gib = n_adapters * 5_984_256 * 4 / 2**30
    expected = {
        "training, GPU-hours": training_h,
        "start and idle, GPU-hours": n_gpus * start_and_idle_h,
        "hours on 16 GPUs": hours,
        "GPUs": (training_h + n_gpus * start_and_idle_h) * 1.00,
        "head": hours * 0.20,
        "requests to the bucket": n_adapters * (3 * 0.005 + 13 * 0.0004) / 1000,
        "storage, a month": gib * 0.023,
    }
    for row, value in expected.items():
        assert float(table[row]) == pytest.approx(value, rel=0.03, abs=0.006), row
