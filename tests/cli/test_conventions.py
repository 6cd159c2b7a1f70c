"""What every verb promises: one answer on stdout, one sentence for an error, a status."""

import json
import subprocess
import sys
from importlib import import_module

import click
import pytest

from lorastyle import __version__
from lorastyle.cli.answer import Answer, respond
from lorastyle.cli.main import VERBS
from lorastyle.errors import ConfigError, StageError


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_the_common_options(lorastyle, verb):
    result = lorastyle(verb, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--debug"):
        assert option in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_listed_verb_is_a_module_with_a_command(verb):
    command = import_module(f"lorastyle.cli.{verb}").command
    assert isinstance(command, click.Command)
    assert command.name == verb


def test_help_lists_the_verbs_and_loads_nothing_heavy():
    code = (
        "import sys; from lorastyle.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'diffusers', 'pandas', 'numpy', 'matplotlib', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = python(code)
    assert result.stderr.strip() == "[]"
    for verb, words in VERBS.items():
        assert f"{verb} " in result.stdout and words in result.stdout


def test_version_is_the_package_version(lorastyle):
    assert lorastyle("--version").stdout.split()[-1] == __version__


def test_an_unknown_verb_is_wrong_use(lorastyle):
    result = lorastyle("paint")
    assert result.exit_code == 2
    assert "paint" in result.stderr


def test_json_stands_alone_on_stdout_whatever_libraries_print():
    code = (
        "import os, subprocess, sys\n"
        "from lorastyle.cli.answer import Answer, respond\n"
        "def body():\n"
        "    print('printed'); os.write(1, b'written\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"a child\")'])\n"
        "    return Answer({'n': 1}, 'one')\n"
        "respond(body, as_json='json' in sys.argv, debug=False)"
    )
    as_json, as_text = python(code, "json"), python(code)
    assert json.loads(as_json.stdout) == {"n": 1}
    assert as_text.stdout == "one\n"
    for result in (as_json, as_text):
        assert result.returncode == 0
        assert all(word in result.stderr for word in ("printed", "written", "a child"))


def failing(error: BaseException):
    def body() -> Answer:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status"),
    [(StageError("no manifest"), 1), (ConfigError("no such key"), 2), (ZeroDivisionError("0"), 1)],
)
def test_an_error_is_one_sentence_and_a_status(capsys, error, status):
    with pytest.raises(SystemExit) as caught:
        respond(failing(error), as_json=False, debug=False)
    out, err = capsys.readouterr()
    assert caught.value.code == status
    assert out == ""
    assert len(err.splitlines()) == 1 and str(error) in err
    assert "Traceback" not in err


def test_an_error_is_json_too_where_json_was_asked_for(capsys):
    with pytest.raises(SystemExit):
        respond(failing(StageError("no manifest")), as_json=True, debug=False)
    document = json.loads(capsys.readouterr().out)
    assert document == {"error": {"kind": "StageError", "message": "no manifest"}}


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(SystemExit):
        respond(failing(StageError("no manifest")), as_json=False, debug=True)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as caught:
        respond(failing(KeyboardInterrupt()), as_json=False, debug=False)
    assert caught.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_an_answer_without_a_number_is_an_error_not_nan(capsys):
    with pytest.raises(ValueError, match="JSON"):
        respond(lambda: Answer({"x": float("nan")}, ""), as_json=True, debug=False)
