"""From a run to its explorer: the adapters, spaces and pictures that the run holds."""

import base64
import json
import shutil
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from PIL import Image

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.cli.main import main
from lorastyle.corpus.stage import corpus_root, read_plan
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.spaces import load_space
from lorastyle.embedding.stage import embed
from lorastyle.errors import StageError
from lorastyle.explorer.columns import codes_of, columns_of
from lorastyle.explorer.explore import explore
from lorastyle.explorer.pictures import wanted_images
from lorastyle.explorer.writing import write_explorer
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.runs import Run
from lorastyle.search.search import search
from lorastyle.store.members import read_member


def parts(page):
    """The data in a page by name, and the scores of each space as numbers."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    data = {
        element["id"].removeprefix("file-"): json.loads(element.string)
        for element in soup.find_all("script", type="application/json")
    }
    scores = []
    for number, space in enumerate(data["adapters"]["spaces"]):
        numbers = np.frombuffer(base64.b64decode(data[f"space-{number}"]), "<f4")
        scores.append(numbers.reshape(-1, space["k"]))
    return data, scores


def labels(data, key):
    (column,) = [one for one in data["adapters"]["columns"] if one["key"] == key]
    return [column["values"][code]["value"] for code in data["adapters"]["adapters"][key]]


@pytest.fixture(scope="module")
def trained_and_strangers(trained, tmp_path_factory):
    """A trained run to which two of its own adapters were added again, as files, and its page."""
    folder = tmp_path_factory.mktemp("explored")
    run = Run.open(shutil.copytree(trained, folder / "run"))
    embed(run)
    for row in (0, 5):
        write_adapter(
            read_member(run, row), folder / "files" / f"stranger-{row}.safetensors", "kohya"
        )
    ingest(run, find_candidates([folder / "files"]), {})
    return run, explore(run)


def test_trained_adapters_have_their_labels_and_training_images(trained_and_strangers):
    run, written = trained_and_strangers
    data, _ = parts(written.page)
    specs = read_plan(run)
    shown = data["adapters"]["adapters"]
    assert shown["id"][: len(specs)] == [spec.adapter_id for spec in specs]
    assert labels(data, "artist")[: len(specs)] == [spec.artist for spec in specs]
    assert labels(data, "role")[: len(specs)] == [spec.role.value for spec in specs]
    assert labels(data, "rank")[: len(specs)] == ["2"] * len(specs)
    spec = specs[3]
    numbers = shown["pictures"][3]
    assert len(numbers) == len(spec.image_ids) == shown["n_images"][3]
    for number, image_id in zip(numbers, spec.image_ids, strict=True):
        small = Image.open(BytesIO(base64.b64decode(data["pictures"][number]))).convert("RGB")
        original = Image.open(corpus_root(run) / image_id).convert("RGB")
        apart = np.abs(np.asarray(small, float) - np.asarray(original, float)).mean()
        assert small.size == original.size and apart < 12  # of 255: JPEG


def test_adapters_from_elsewhere_lie_on_the_adapters_that_they_are(trained_and_strangers):
    run, written = trained_and_strangers
    data, scores = parts(written.page)
    ids, roles = data["adapters"]["adapters"]["id"], labels(data, "role")
    strangers = [place for place, role in enumerate(roles) if role == "ingested"]
    assert [ids[place] for place in strangers] == ["stranger-0", "stranger-5"]
    assert {labels(data, "source")[place] for place in strangers} == {"a file: kohya"}
    assert {labels(data, "artist")[place] for place in strangers} == {"unlabelled"}
    spaces = data["adapters"]["spaces"]
    place = next(i for i, one in enumerate(spaces) if one["key"] == "retrieval/delta/full")
    space = load_space(run.embedding_path, "retrieval", "delta", "full")
    same = space.scores(np.array([0, 5]), calibrated=False)[:, : scores[place].shape[1]]
    k = same.shape[1]
    calibrated = same * space.calibration.scale[:k] + space.calibration.shift[:k]
    np.testing.assert_allclose(scores[place][strangers], calibrated, rtol=1e-3, atol=1e-4)
    for name, own in zip(spaces, scores, strict=True):
        if name["key"].startswith(("clustering", "retrieval/factors")):
            assert np.isnan(own[strangers]).all()


def test_neighbours_by_the_pages_scores_are_those_of_a_search(trained_and_strangers, tmp_path):
    run, written = trained_and_strangers
    data, scores = parts(written.page)
    spaces, ids = data["adapters"]["spaces"], np.array(data["adapters"]["adapters"]["id"])
    place = next(i for i, one in enumerate(spaces) if one["key"] == "retrieval/delta/full")
    ranked = np.isin(labels(data, "role"), ["train", "ingested"])
    own, count = scores[place][:, : spaces[place]["n_compared"]].astype(float), 6
    query = int(np.flatnonzero(ids == "stranger-5")[0])
    distances = np.linalg.norm(own - own[query], axis=1)
    order = [row for row in np.argsort(distances, kind="stable") if ranked[row]][:count]
    file = run.directory.parent / "files" / "stranger-5.safetensors"
    found = search(
        run,
        file,
        top_k=count,
        representation="delta",
        sub_network="full",
        n_components=spaces[place]["n_compared"],
    )
    assert [one.adapter_id for one in found.neighbours] == ids[order].tolist()
    np.testing.assert_allclose(
        [one.distance for one in found.neighbours], distances[order], rtol=1e-4, atol=1e-5
    )


def test_a_run_of_adapters_alone_has_no_pictures(wild_run, tmp_path):
    written = explore(wild_run, tmp_path / "page.html")
    data, scores = parts(written.page)
    table = GramSet.load(wild_run.embedding_path).table
    assert sorted(data["adapters"]["adapters"]["id"]) == sorted(table["adapter_id"])
    assert "pictures" not in data and set(labels(data, "source")) != {"trained here"}
    assert np.isfinite(scores[0]).all() and written.n_bytes == written.page.stat().st_size


def test_it_leads_to_the_report_where_there_is_one(trained_and_strangers):
    run, written = trained_and_strangers

    def links(page):
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        return [link["href"] for link in soup.find_all("a")]

    assert links(written.page) == []
    (run.report_path / "index.html").write_text("a report")
    assert links(explore(run).page) == ["index.html"]


def test_of_too_many_scores_the_spaces_that_come_first_are_kept(wild_run, tmp_path, monkeypatch):
    everything, _ = parts(explore(wild_run, tmp_path / "all.html").page)
    keys = [space["key"] for space in everything["adapters"]["spaces"]]
    n, k = len(everything["adapters"]["adapters"]["id"]), everything["adapters"]["spaces"][0]["k"]
    for most, kept in ((2 * n * k, 2), (1, 1)):
        monkeypatch.setattr("lorastyle.explorer.spaces.MOST_NUMBERS", most)
        data, scores = parts(explore(wild_run, tmp_path / "few.html").page)
        assert [space["key"] for space in data["adapters"]["spaces"]] == keys[:kept]
        assert len(scores) == kept


def test_before_embedding_it_says_what_to_do(planned_run):
    with pytest.raises(StageError, match="lorastyle embed"):
        explore(planned_run())


def test_images_that_are_gone_are_passed_over(trained_run):
    embed(trained_run)
    spec = read_plan(trained_run)[0]
    (corpus_root(trained_run) / spec.image_ids[0]).unlink()
    data, _ = parts(explore(trained_run).page)
    shown = data["adapters"]["adapters"]
    assert len(shown["pictures"][0]) == len(spec.image_ids) - 1 == shown["n_images"][0] - 1


def test_of_too_many_images_every_adapter_keeps_its_first():
    adapters = pd.DataFrame({"images": [("a", "b"), ("c", "d"), ("a", "e"), ()]})
    assert wanted_images(adapters, most=3) == ["a", "c", "b"]
    assert wanted_images(adapters) == ["a", "c", "b", "d", "e"]


def test_a_hundred_and_more_artists_get_colours_and_none_is_no_colour(make_content, tmp_path):
    content = make_content(n_artists_more=160)
    data, _ = parts(write_explorer(content, tmp_path / "page.html").page)
    for column in data["adapters"]["columns"]:
        for value in column["values"]:
            assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in value["colour"])


def test_a_folder_takes_the_place_of_explorers_alone(content, tmp_path):
    (tmp_path / "page" / "data").mkdir(parents=True)
    (tmp_path / "page" / "data" / "mine.csv").write_text("1,2")
    with pytest.raises(StageError, match="something else"):
        write_explorer(content, tmp_path / "page.html", largest=0)
    assert (tmp_path / "page" / "data" / "mine.csv").read_text() == "1,2"
    write_explorer(content, tmp_path / "other.html")
    (tmp_path / "other").mkdir()
    for _ in range(2):
        written = write_explorer(content, tmp_path / "other.html", largest=0)
        assert written.page == tmp_path / "other" / "index.html"
        assert not (tmp_path / "other.html").exists()
    with pytest.raises(StageError, match=r"\.html"):
        write_explorer(content, tmp_path / "page")


def test_an_artist_of_two_genres_is_one_artist_with_both():
    adapters = pd.DataFrame(
        {
            "artist": ["a", "a", "b", "unlabelled"],
            "genre": ["x", "y", "y", "z"],
            "role": "train",
            "rank": ["16", "4", "up to 8", "unknown"],
            "source": "trained here",
        }
    )
    columns = columns_of(adapters)
    names = {column["key"]: [one["value"] for one in column["values"]] for column in columns}
    assert sorted(names["artist"]) == ["a", "b", "unlabelled"]
    assert names["genre"] == ["x", "y", "z"] and names["rank"] == ["unknown", "4", "up to 8", "16"]
    codes = codes_of(adapters, columns)
    for key, values in names.items():
        assert [values[code] for code in codes[key]] == adapters[key].tolist()


def test_the_stated_size_is_that_of_the_file(content, tmp_path):
    written = write_explorer(content, tmp_path / "page.html")
    n_bytes = written.page.stat().st_size
    about = BeautifulSoup(written.page.read_text(encoding="utf-8"), "html.parser").find(id="about")
    stated = float(about.get_text().split("this file of ")[1].split(" MB")[0])
    assert written.n_bytes == n_bytes and stated == pytest.approx(n_bytes / 1e6, abs=0.1)


def test_in_a_bucket_it_is_published_with_the_report(machines, wild):
    machines("a")
    run = Run.create("s3://team/explored", experiment_for_adapters("wild", "miniature"))
    ingest(run, find_candidates([wild]), {})
    embed(run)
    run.report_path.mkdir()
    (run.report_path / "index.html").write_text("a report")
    run.finish("report", {}, {"page": "report/index.html"}, 0.1)
    machines("b")
    written = explore(Run.open("s3://team/explored"))
    machines("c")
    elsewhere = Run.open("s3://team/explored")
    elsewhere.pull("report")
    assert (elsewhere.report_path / "index.html").read_text() == "a report"
    assert (elsewhere.report_path / "explorer.html").read_bytes() == written.page.read_bytes()


def test_the_verb_says_where_the_page_is_and_how_large(wild_run, tmp_path):
    run, out = str(wild_run.directory), tmp_path / "page.html"
    result = CliRunner().invoke(main, ["explore", run, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["page"] == str(out) and answer["bytes"] == out.stat().st_size
    assert not answer["folder"]
    refused = CliRunner().invoke(main, ["explore", run, "--out", str(tmp_path / "x")])
    assert refused.exit_code == 1 and ".html" in refused.stderr
