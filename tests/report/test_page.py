"""The page: offline, escaped, and true to the metrics it was made from."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from lorastyle.errors import StageError
from lorastyle.report.canvas import styled
from lorastyle.report.figures import style_map
from lorastyle.report.markup import raw
from lorastyle.report.page import make_page
from lorastyle.report.source import read_source
from lorastyle.report.stage import report
from lorastyle.report.thumbnails import thumbnail, works_of_artists
from lorastyle.runs import write_json


@pytest.fixture(scope="module")
def written(evaluated_run):
    outcome = report(evaluated_run)
    return outcome, (evaluated_run.report_path / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def soup(written):
    return BeautifulSoup(written[1], "html.parser")


def page_of(run):
    source = read_source(run, None)
    works = works_of_artists(run, source.catalogue)
    return BeautifulSoup(make_page(source, works, raw("")), "html.parser")


def cells(soup, section, method):
    (row,) = [
        row
        for row in soup.select(f"#{section} tbody tr")
        if row.th.find(string=True, recursive=False) == method
    ]
    return [cell.get_text() for cell in row.find_all("td")]


def test_the_page_asks_the_network_for_nothing(soup, written):
    assert "default-src 'none'" in soup.find("meta", attrs={"http-equiv": True})["content"]
    assert not soup.find_all(["link", "iframe", "object", "embed", "base"])
    for element in soup.find_all(src=True):
        assert element["src"].startswith("data:image/jpeg;base64,")
    for element in soup.find_all(href=True):
        assert element["href"].startswith("#")
    assert not re.findall(r"url\((?!#)[^)]*\)|@import|fetch\(|XMLHttp", written[1])
    # Names of XML namespaces are the only addresses.
    assert set(re.findall(r"https?://[^\"'\s<>)]+", written[1])) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_every_heading_of_a_table_says_something(soup):
    headings = soup.select("th")
    assert headings and all(heading.get_text(strip=True) for heading in headings)


def test_ids_are_unique_and_links_lead_somewhere(soup):
    ids = [element["id"] for element in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for link in soup.select("nav a"):
        assert link["href"].removeprefix("#") in ids


def test_figures_lie_beside_the_page_as_png_and_svg(written, evaluated_run):
    outcome, _ = written
    files = sorted(path.name for path in (evaluated_run.report_path / "figures").iterdir())
    names = ("calibration", "component_pairs", "components", "methods", "style_map")
    assert files == sorted(f"{name}.{suffix}" for name in names for suffix in ("png", "svg"))
    assert sorted(outcome.outputs["figures"]) == files


def test_tables_hold_the_metrics_in_percent(soup):
    assert cells(soup, "clustering", "ΔW · feed-forward")[:4] == [
        "12",
        "93.0 ± 2.4",
        "68.0 ± 2.4",
        "66.0 ± 2.4",
    ]
    assert cells(soup, "clustering", "without calibration")[2:4] == ["47.0 ± 2.4", "44.0 ± 2.4"]
    assert cells(soup, "retrieval", "pixel mean")[1:3] == ["45.0", "42.0"]


def test_the_chosen_space_is_the_best_on_validation_not_on_test(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    metrics = json.loads(run.metrics_path.read_text())
    metrics["clustering"]["factors/cross_attention"]["test"]["ari"]["mean"] = 0.99
    write_json(run.metrics_path, metrics)
    chosen = page_of(run).select("#clustering tr.chosen th")
    assert [row.find(string=True, recursive=False) for row in chosen] == ["ΔW · feed-forward"]


def test_the_page_says_so_when_images_are_ahead(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    metrics = json.loads(run.metrics_path.read_text())
    for split in ("val", "test"):
        metrics["features"]["pixel_mean"]["clustering"][split]["ari"]["mean"] = 0.9
    write_json(run.metrics_path, metrics)
    lead = page_of(run).select_one(".lead").get_text()
    assert "test ARI of 66.0 ± 2.4 %, behind the 90.0 % of the images themselves" in lead
    assert "test mAP of 57.0 %, ahead of the 42.0 % of the images" in lead


def test_numbers_that_are_absent_stay_absent_with_their_reason(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    metrics = json.loads(run.metrics_path.read_text())
    entry = metrics["clustering"]["factors/full"]
    del entry["test"], entry["uncalibrated"]
    entry["test_reason"] = "there is no usable 'test' adapter"
    metrics["reasons"] = {
        "retrieval/delta/full": "2 queries are too few",
        "factors/mid": "the adapters have no mid layers",
    }
    del metrics["retrieval"]["delta/full"]
    for entry in list(metrics["retrieval"].values())[:5]:
        entry["uncalibrated_reason"] = "not to be"
    write_json(run.metrics_path, metrics)
    soup = page_of(run)
    assert cells(soup, "clustering", "factors · full network")[3] == "–"
    assert "test: there is no usable 'test' adapter" in soup.select_one("#clustering").get_text()
    assert "ΔW · full network: 2 queries are too few" in soup.select_one("#retrieval").get_text()
    assert "too few" not in soup.select_one("#clustering").get_text()
    assert "5 style spaces, uncalibrated: not to be" in soup.select_one("#retrieval").get_text()
    for section in ("#clustering", "#retrieval"):
        assert "middle block: the adapters have no mid" in soup.select_one(section).get_text()


HOSTILE = "<script>alert(1)</script>\"'& $\\frac{$ 葛飾北斎"


def test_names_of_artists_are_text_wherever_they_stand(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    for path in (
        run.catalogue_path,
        run.evaluation_path / "scores.parquet",
        run.evaluation_path / "queries.parquet",
    ):
        table = pd.read_parquet(path)
        first = sorted(table["artist"].unique())[0]
        pd.DataFrame(table.replace({"artist": {first: HOSTILE}})).to_parquet(path)
    report(run)
    page = (run.report_path / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    soup = BeautifulSoup(page, "html.parser")
    assert [script.get("type") for script in soup.find_all("script")] == [
        "application/json",
        None,
        None,
    ]
    shown = [article.h3.get_text() for article in soup.select("article")]
    assert HOSTILE in shown
    names = [
        artist["name"] for artist in json.loads(soup.select_one("#map-data").string)["artists"]
    ]
    assert HOSTILE in names


def test_the_map_places_every_adapter_in_proportion(soup, evaluated_run):
    data = json.loads(soup.select_one("#map-data").string)
    source = read_source(evaluated_run, None)
    assert len(data["adapters"]) == 12 * (8 + 2 + 2)
    for shown, (key, space) in zip(data["spaces"], source.spaces.items(), strict=True):
        assert shown["chosen"] == (key == "delta/feed_forward")
        position = {name: row for row, name in enumerate(space.adapters["adapter_id"])}
        order = [position[adapter[0]] for adapter in data["adapters"]]
        drawn, true = np.array(shown["scores"]), space.calibrated[order]
        scale = np.linalg.norm(drawn) / np.linalg.norm(true)
        np.testing.assert_allclose(drawn, scale * true, atol=1.0)
        for number, before in shown["before"].items():
            np.testing.assert_allclose(
                before, scale * space.uncalibrated[order[int(number)]], atol=1.0
            )


def test_calibration_adapters_are_not_shown_as_fitted(soup):
    data = json.loads(soup.select_one("#map-data").string)
    kinds = [kind["name"] for kind in data["kinds"]]
    assert kinds == ["train", "calibration", "validation", "test"]
    counts = [sum(adapter[2] == number for adapter in data["adapters"]) for number in range(4)]
    assert counts == [12 * 6, 12 * 2, 12 * 2, 12 * 2]
    assert [kind["name"] for kind in data["kinds"] if kind["fit"]] == ["train"]


def test_each_artist_has_its_works_and_its_score(soup, evaluated_run):
    queries = pd.read_parquet(evaluated_run.evaluation_path / "queries.parquet")
    named = queries[["representation", "sub_network", "role"]]
    keep = named == ["delta", "feed_forward", "query_test"]
    means = queries[keep.all(axis=1) & queries["calibrated"]].groupby("artist")
    expected = means["average_precision"].mean()
    for article in soup.select("article"):
        assert len(article.find_all("img")) == 4
        artist = article.h3.get_text().replace(" ", "_")
        assert f"mAP {100 * expected[artist]:.1f} %" in article.get_text()


def test_adapters_that_were_left_out_are_counted_and_named(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    left_out = {"left_out": {"zero": 2}, "left_out_adapters": {"a-train-00": "zero"}}
    run.finish("embed", {}, {"n_adapters": 70, **left_out}, 6.3)
    text = page_of(run).select_one("#run").get_text()
    assert "2 adapters were left out of every fit: 2 zero" in text
    assert "a-train-00: zero" in text


def test_a_finished_report_is_not_made_again(written, evaluated_run):
    assert report(evaluated_run).skipped


def test_the_same_run_makes_the_same_page(written, evaluated_run):
    again = report(evaluated_run, force=True)
    assert again.outputs["sha256"] == written[0].outputs["sha256"]


def test_a_run_that_is_not_evaluated_is_refused_with_the_next_step(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    run.manifest_path("evaluate").unlink()
    with pytest.raises(StageError, match=r"run `lorastyle evaluate .*` first"):
        report(run)


def test_a_page_is_made_from_metrics_alone(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    for name in ("scores", "curves", "queries"):
        pd.DataFrame().to_parquet(run.evaluation_path / f"{name}.parquet")
    metrics = json.loads(run.metrics_path.read_text())
    metrics["features"] = {}
    write_json(run.metrics_path, metrics)
    outcome = report(run)
    assert outcome.outputs["figures"] == ["methods.png", "methods.svg"]
    soup = BeautifulSoup((run.report_path / "index.html").read_text(), "html.parser")
    assert soup.select_one("#map") is None and soup.select_one("#calibration") is None
    assert len(soup.select("article")) == 4


def test_a_space_of_one_component_is_drawn(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", 4, 2)
    path = run.evaluation_path / "scores.parquet"
    table = pd.read_parquet(path)
    table[[f"component_{k}" for k in range(2, 11)]] = np.nan
    table.to_parquet(path)
    source = read_source(run, None)
    with styled():
        style_map(source.spaces[source.shown_space].points(), source.palette)
    data = json.loads(page_of(run).select_one("#map-data").string)
    assert {space["n_components"] for space in data["spaces"]} == {1}


def test_an_image_that_cannot_be_read_is_passed_over(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    assert thumbnail(tmp_path / "broken.png") is None
    assert thumbnail(tmp_path / "gone.png") is None


def test_it_leads_to_the_explorer_where_there_is_one(make_evaluated_run, tmp_path):
    run = make_evaluated_run(tmp_path / "run", n_artists=2, n_genres=1)
    assert not page_of(run).select("nav a[href='explorer.html']")
    run.report_path.mkdir()
    (run.report_path / "explorer.html").write_text("an explorer")
    assert page_of(run).select_one("nav a[href='explorer.html']").get_text() == "Explorer"
    (run.report_path / "explorer.html").rename(run.report_path / "index.html")
    (run.report_path / "explorer").mkdir()
    (run.report_path / "index.html").rename(run.report_path / "explorer" / "index.html")
    assert page_of(run).select_one("nav a[href='explorer/index.html']")
