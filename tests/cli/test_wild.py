"""The verbs for adapters in the wild, as a user types them."""

import json
from hashlib import sha256

import numpy as np
import pytest

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.runs import Run
from lorastyle.search.verdicts import compare_adapters


@pytest.fixture
def answer(lorastyle):
    """`answer(...)` with --json: the document, after checking the status."""

    def ask(*arguments, status=0):
        result = lorastyle(*arguments, "--json")
        assert result.exit_code == status, result.stderr
        return json.loads(result.stdout)

    return ask


def test_inspect_a_file(lorastyle, answer, wild, painter):
    path = wild / "anna-00.safetensors"
    document = answer("inspect", path)
    adapter = read_adapter(path)
    assert document["kind"] == "adapter" and document["format"] == "kohya"
    assert document["ranks"] == {"2": 40} and document["alpha_source"] == "tensor"
    assert document["d"] == adapter.n_parameters
    for name, part in document["parts"].items():
        members = [one for one in adapter.updates.values() if one.part == name]
        assert part["n_modules"] == len(members)
        norm = np.sqrt(sum((one.delta() ** 2).sum() for one in members))
        assert part["norm"] == pytest.approx(norm)
    blocks = document["blocks"]
    assert next(iter(blocks)).startswith("down") and list(blocks)[-1].startswith("up")
    total = sum(part["norm"] ** 2 for part in document["parts"].values())
    assert sum(part["norm"] ** 2 for part in blocks.values()) == pytest.approx(total)
    text = lorastyle("inspect", path).stdout
    assert "kohya" in text and "feed-forward" in text


def test_a_file_that_is_no_adapter_fails_in_one_sentence(lorastyle, answer, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text("<html>")
    document = answer("inspect", path, status=1)
    assert document["error"]["kind"] == "AdapterFileError"
    for verb in (("inspect", path), ("compare", path, path), ("inspect", tmp_path / "gone")):
        result = lorastyle(*verb)
        assert result.exit_code == 1 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.stderr


def test_compare_says_what_the_library_says(lorastyle, answer, wild):
    paths = wild / "anna-00.safetensors", wild / "bela-01.safetensors"
    document = answer("compare", *paths)
    expected = compare_adapters(*(read_adapter(path) for path in paths)).to_dict()
    assert {key: document[key] for key in expected} == expected
    assert lorastyle("compare", paths[0], paths[0]).stdout.startswith("identical_bytes: the same")


def test_the_way_of_a_site(lorastyle, answer, wild, painter, tmp_path):
    """A folder with a bad file, labels, an embedding, a search, an export."""
    labels = tmp_path / "labels.csv"
    names = sorted(path.name for path in wild.iterdir())
    lines = [f"{name},{name.partition('-')[0]}" for name in names]
    labels.write_text("\n".join(["file,artist", *lines]) + "\n")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no")
    document = answer("ingest", "run", wild, bad, "--labels", labels, "--base", "miniature")
    assert len(document["added"]) == 18
    assert [refused["file"] for refused in document["refused"]] == ["bad.safetensors"]
    again = lorastyle("ingest", "run", wild, bad)
    assert "0 added, 18 there already, 1 refused" in again.stdout
    assert "bad.safetensors" in again.stdout
    Run.open(tmp_path / "run")
    assert lorastyle("embed", "run").exit_code == 0

    query = tmp_path / "query.safetensors"
    write_adapter(painter.adapter("chen", 500, 16, "query"), query, "diffusers")
    found = answer("search", "run", query, "--top-k", "6")
    assert found["artists"][0]["artist"] == "chen" and len(found["neighbours"]) == 6
    text = lorastyle("search", "run", query).stdout
    assert "nearest artists" in text and "chen" in text

    written = answer("export", "run", "chen-02", "--out", "files", "--format", "kohya")
    exported = read_adapter(tmp_path / written["written"][0]["path"])
    original = read_adapter(wild / "chen-02.safetensors")
    assert compare_adapters(exported, original).verdict == "same_weights"
    assert "18 adapters from elsewhere" in lorastyle("inspect", "run").stdout
    assert answer("inspect", "run")["ingested"]["by_format"] == {
        "kohya": 6,
        "diffusers": 6,
        "peft": 6,
    }


def test_wrong_use(lorastyle, wild_run, wild, tmp_path):
    run = wild_run.directory
    for arguments, status, words in [
        (("ingest", run, wild, "--base", "sdxl"), 2, "--base and --set are for a new run"),
        (("ingest", "new", wild), 1, "name the base model with --base"),
        (("ingest", run, tmp_path / "gone"), 1, "there is no"),
        (("search", run, tmp_path / "gone"), 1, "gone"),
        (("search", tmp_path, wild / "anna-00.safetensors"), 1, "is not a run"),
        (("export", run, "--out", "x"), 2, "name adapters, or give --all"),
        (("export", run, "nobody", "--out", "x"), 1, "none named 'nobody'"),
        (("train", run), 1, "its adapters come from elsewhere"),
    ]:
        result = lorastyle(*arguments)
        assert result.exit_code == status, (arguments, result.stderr)
        assert words in result.stderr


def test_names_of_strangers_lead_nowhere(lorastyle, answer, painter, tmp_path):
    folder = tmp_path / "in"
    adapters = {"a..%2f..;evil": "anna", "<script>alert(1)": "bela"}
    for number, (name, artist) in enumerate(adapters.items()):
        adapter: Adapter = painter.adapter(artist, number)
        write_adapter(adapter, folder / f"{name}.safetensors", "kohya")
    answer("ingest", "run", folder, "--base", "miniature")
    answer("export", "run", "--all", "--out", "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{changed}-{sha256(name.encode()).hexdigest()[:8]}.safetensors"
        for name, changed in (
            ("<script>alert(1)", "_script_alert_1_"),
            ("a..%2f..;evil", "a.._2f.._evil"),
        )
    ]
