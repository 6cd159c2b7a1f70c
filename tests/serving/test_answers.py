"""Answers of the API are the documents of the command line, and the map is the gallery's scores."""

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from lorastyle.search.gallery import open_gallery
from lorastyle.serving.app import make_app
from lorastyle.serving.settings import ServingSettings
from tests.serving.conftest import form


def said(lorastyle, *arguments):
    result = lorastyle(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def lorastyle():
    from click.testing import CliRunner

    from lorastyle.cli.main import main

    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments])


def test_search_answers_as_the_command_line_does(lorastyle, client, wild_run, stranger):
    wish = {"top_k": 7, "sub_network": "full", "representation": "delta", "components": 5}
    answer = client.post("/search", params=wish, files=form(stranger))
    assert answer.status_code == 200
    options = ["--top-k", 7, "--subnetwork", "full", "--representation", "delta"]
    expected = said(lorastyle, "search", wild_run.directory, stranger, *options, "--components", 5)
    # Where the run lies is not told, nor where the upload was; the file's name is the sender's.
    expected |= {"run": "wild", "file": stranger.name, "query": stranger.name}
    assert answer.json() == expected


def test_inspect_answers_as_the_command_line_does(lorastyle, client, stranger):
    answer = client.post("/inspect", files=form(stranger))
    assert answer.json() == {**said(lorastyle, "inspect", stranger), "path": stranger.name}


def test_compare_answers_as_the_command_line_does(lorastyle, client, wild, stranger):
    other = wild / "bela-01.safetensors"
    both = {"first": form(stranger)["file"], "second": form(other)["file"]}
    expected = said(lorastyle, "compare", stranger, other)
    answer = client.post("/compare", files=both).json()
    assert answer == {**expected, "first": stranger.name, "second": other.name}
    assert answer["scores"]["cosine"] == pytest.approx(expected["scores"]["cosine"])


def test_details_say_what_the_file_is_and_where_it_lies_on_the_map(client, wild_run, wild):
    """Of a file of the run: where the gallery has it."""
    known = wild / "anna-00.safetensors"
    wish = {"details": True, "representation": "delta", "sub_network": "full"}
    found = client.post("/search", params=wish, files=form(known)).json()
    assert found["inspect"]["format"] == "kohya"
    gallery = open_gallery(wild_run, "delta", "full")
    row = gallery.table["adapter_id"].tolist().index("anna-00")
    place = found["place"]
    np.testing.assert_allclose([place["x"], place["y"]], gallery.scores[row, :2], atol=1e-4)
    assert found["duplicates"][0]["verdict"] == "identical_bytes"

    drawn = client.get("/map", params={"space": place["space"]}).json()
    points = {
        name: (x, y, drawn["artists"][artist]["name"]) for x, y, artist, name in drawn["points"]
    }
    for adapter_id, artist, scores in zip(
        gallery.table["adapter_id"], gallery.table["artist"], gallery.scores, strict=True
    ):
        x, y, name = points.pop(adapter_id)
        assert name == artist
        np.testing.assert_allclose([x, y], scores[:2], atol=1e-5)
    assert not points


def test_a_space_that_nobody_searched_has_a_map_and_one_that_is_not_there_has_none(wild_run):
    """The next request may go to another process than the search did."""
    client = TestClient(make_app(wild_run, ServingSettings()))
    space = "delta/feed_forward"
    gallery = open_gallery(wild_run, *space.split("/"))
    points = client.get("/map", params={"space": space}).json()["points"]
    places = {str(name): (x, y) for x, y, _, name in points}
    for adapter_id, scores in zip(gallery.table["adapter_id"], gallery.scores, strict=True):
        np.testing.assert_allclose(places[adapter_id], scores[:2], atol=1e-5)
    for other in ("delta/nothing", "nothing/full", "delta", ""):
        answer = client.get("/map", params={"space": other})
        assert answer.status_code == 404
        assert "no style space of this name" in answer.json()["error"]["message"]


def test_pictures_are_of_the_images_trained_on(trained_run):
    """The miniature's run has no style space yet: pictures need none."""
    from io import BytesIO

    import pandas as pd
    from PIL import Image

    from lorastyle.corpus.stage import corpus_root
    from lorastyle.serving.pictures import Pictures

    pictures = Pictures(trained_run)
    plan = pd.read_parquet(trained_run.plan_path)
    catalogue = pd.read_parquet(trained_run.catalogue_path).set_index("image_id")
    line = plan.iloc[-1]
    with Image.open(BytesIO(pictures.jpeg(int(line["row"])))) as ours:
        path = corpus_root(trained_run) / catalogue.loc[line["image_ids"][0], "path"]
        with Image.open(path) as original:
            small = original.convert("RGB").resize(ours.size)
            difference = np.abs(np.asarray(ours, float) - np.asarray(small, float))
    assert difference.mean() < 12
    assert pictures.jpeg(10**6) is None


def test_large_runs_are_searched_by_sketches_from_memory(wild_run, stranger):
    app = make_app(wild_run, ServingSettings(exact_bytes=0))
    found = TestClient(app).post("/search", files=form(stranger)).json()
    assert (found["method"], found["artists"][0]["artist"]) == ("sketch", "bela")


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_a_file_of_the_run_is_known_by_its_bytes_wherever_it_is(wild_run, wild, memory_bytes):
    """Bytes are hashed only where weights are alike: with `exact_bytes` of 0 by their sketches."""
    settings = ServingSettings(exact_bytes=0, memory_bytes=memory_bytes)
    client = TestClient(make_app(wild_run, settings))
    known = wild / "anna-00.safetensors"
    same = client.post("/search", files=form(known)).json()["duplicates"][0]
    assert (same["adapter_id"], same["verdict"]) == ("anna-00", "identical_bytes")
    content = bytearray(known.read_bytes())
    length = int.from_bytes(content[:8], "little")
    content[8 + length : 8 + length] = 16 * b" "  # a header may end so: other bytes, no other file
    content[:8] = (length + 16).to_bytes(8, "little")
    again = client.post("/search", files={"file": ("x", bytes(content))}).json()["duplicates"][0]
    assert (again["adapter_id"], again["verdict"]) == ("anna-00", "same_weights")


def test_counts_are_what_happened(wild_run, stranger):
    client = TestClient(make_app(wild_run, ServingSettings()))
    for files in (form(stranger), form(stranger), {"file": ("x", b"nothing")}):
        client.post("/search", files=files)
    client.get("/no/such/page")
    text = client.get("/metrics").text
    assert 'lorastyle_requests_total{method="POST",route="/search",status="200"} 2.0' in text
    assert 'lorastyle_requests_total{method="POST",route="/search",status="422"} 1.0' in text
    assert 'lorastyle_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert 'lorastyle_request_seconds_count{route="/search"} 3.0' in text
    assert "lorastyle_uploads_at_once 0.0" in text
    assert "lorastyle_gallery_adapters 18.0" in text
