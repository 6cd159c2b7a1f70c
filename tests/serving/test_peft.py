"""A PEFT folder is two files: together they answer as the folder does on the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from lorastyle.adapters.formats.opening import FileInMemory
from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.cli.main import main
from lorastyle.errors import AdapterFileError
from lorastyle.serving.app import make_app
from lorastyle.serving.settings import ServingSettings

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def folder(painter, tmp_path) -> Path:
    """Alphas are half the rank, those of every third module four times that: read without its
    config it is of another style.
    """
    adapter = painter.adapter("bela", 1000, 8, "folder")
    updates = [
        replace(update, scaling=2.0) if number % 3 == 0 else update
        for number, update in enumerate(adapter.updates.values())
    ]
    write_adapter(Adapter.of("folder", updates), tmp_path / "folder", "peft")
    return tmp_path / "folder"


def said(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def form(folder: Path, name: str = "file", config: str = "config"):
    """Both files of a folder, as an upload of httpx."""
    return {
        name: ("folder", (folder / WEIGHTS).read_bytes()),
        config: (CONFIG, (folder / CONFIG).read_bytes()),
    }


@pytest.fixture(params=["in memory", "on disk", "config on disk"])
def client(request, wild_run, folder) -> TestClient:
    """However large the files are for it."""
    n_bytes = (folder / WEIGHTS).stat().st_size
    memory = {"in memory": 1 << 20, "on disk": 0, "config on disk": n_bytes}[request.param]
    return TestClient(make_app(wild_run, ServingSettings(memory_bytes=memory)))


def test_search_and_inspect_answer_as_the_command_line_does_for_the_folder(
    client, wild_run, folder
):
    found = client.post("/search", params={"details": True}, files=form(folder)).json()
    inspected = found.pop("inspect")
    found.pop("place")
    assert found == {**said("search", wild_run.directory, folder), "run": "wild", "file": "folder"}
    expected = {**said("inspect", folder), "path": "folder"}
    assert inspected == client.post("/inspect", files=form(folder)).json() == expected
    assert (inspected["alpha_source"], set(inspected["alpha"])) == ("config", {"4", "16"})

    weights_alone = {"file": form(folder)["file"]}
    other = client.post("/search", files=weights_alone).json()
    assert other["nearest_distance"] != pytest.approx(found["nearest_distance"], rel=1e-3)
    assert client.post("/inspect", files=weights_alone).json()["alpha_source"] == "absent"


def test_compare_takes_a_config_for_each(client, wild, folder):
    other = wild / "bela-01.safetensors"
    file = (other.name, other.read_bytes())
    expected = said("compare", folder, other)
    first = client.post("/compare", files={**form(folder, "first", "first_config"), "second": file})
    assert first.json() == {**expected, "first": "folder", "second": other.name}
    second = {"first": file, **form(folder, "second", "second_config")}
    expected = said("compare", other, folder)
    assert client.post("/compare", files=second).json() == {
        **expected,
        "first": other.name,
        "second": "folder",
    }


def test_the_order_of_the_parts_does_not_matter(client, folder):
    files = form(folder)
    backwards = {name: files[name] for name in reversed(files)}
    answers = [client.post("/inspect", files=one).json() for one in (files, backwards)]
    assert answers[0] == answers[1] and answers[0]["alpha_source"] == "config"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (b"{", "is not JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"r": 8, "lora_alpha": 1e99}', "no finite number"),
        (b'{"peft_type": "VERA"}', "of type VERA"),
        (b" " * (5 << 20), "5,242,880 bytes, more than the limit of 4,194,304"),
    ],
)
def test_a_config_that_is_none_is_refused_in_one_sentence(client, folder, text, because):
    files = form(folder) | {"config": (CONFIG, text)}
    answer = client.post("/search", files=files)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["kind"] == "AdapterFileError" and because in error["message"]
    assert "folder" in error["message"] and "lorastyle-upload" not in error["message"]


def test_a_config_without_its_file_and_one_that_nobody_asked_for_are_refused(client, folder):
    config = form(folder)["config"]
    alone = client.post("/inspect", files={"config": config})
    stray = client.post("/inspect", files={**form(folder), "first_config": config})
    twice = client.post("/inspect", files=[*form(folder).items(), ("config", config)])
    assert [one.status_code for one in (alone, stray, twice)] == [400, 400, 400]
    assert alone.json()["error"]["message"].endswith("it must have file and may have config")


def test_both_files_read_from_memory_as_the_folder_does(folder):
    both = [(folder / name).read_bytes() for name in (WEIGHTS, CONFIG)]
    assert read_adapter(FileInMemory("folder", *both)).facts == read_adapter(folder).facts
    with pytest.raises(AdapterFileError, match=r"adapter_config\.json of folder is not JSON"):
        read_adapter(FileInMemory("folder", both[0], memoryview(b"{]")))
