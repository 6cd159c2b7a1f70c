"""The page in a real browser."""

from collections.abc import Iterator

import pytest
from safetensors.numpy import load_file, save_file

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.embedding.stage import embed
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.labels import Label
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.runs import Run
from lorastyle.serving.app import make_app
from lorastyle.serving.settings import ServingSettings
from tests.explorer.browser import Browser, executable
from tests.serving.conftest import listening

HOSTILE = "<img src=x onerror=window.stolen=1><script>window.stolen=2</script>"
TOKEN = "f" * 32


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("there is no Chromium on this machine; install one to test the page in it")
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory, painter) -> Iterator[str]:
    """A run of two artists, one of whom has an attack for a name; it asks for a token."""
    folder = tmp_path_factory.mktemp("page")
    for number in range(8):
        artist = ("anna", "bela")[number % 2]
        adapter = painter.adapter(artist, number, 4, "a")
        write_adapter(adapter, folder / "in" / f"{artist}-{number}.safetensors", "kohya")
    run = Run.create(folder / "run", experiment_for_adapters(HOSTILE[:60], "miniature"))
    candidates = find_candidates([folder / "in"])
    names = {"anna": "anna", "bela": HOSTILE}
    ingest(run, candidates, {one.name: Label(names[one.name[:4]]) for one in candidates})
    embed(run)
    with listening(make_app(run, ServingSettings(token=TOKEN))) as where:
        yield where


def choose(browser: Browser, path) -> None:
    """As a person chooses a file."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def text(browser: Browser, selector: str) -> str:
    return browser.evaluate(f"document.querySelector({selector!r}).textContent")


def test_the_page_takes_a_file_and_says_whose_style_it_has(browser, address, painter, tmp_path):
    """First the token, then a file of the artist with the hostile name, which has metadata
    and a name of the same kind; then one that is no LoRA."""
    browser.open(address)
    assert browser.evaluate("!document.getElementById('access').hidden")
    browser.events.clear()  # of the refusal without a token
    browser.evaluate("document.getElementById('token').focus()")
    browser.type(TOKEN)
    browser.evaluate("document.querySelector('#access button').click()")
    browser.wait("document.getElementById('access').hidden")
    assert HOSTILE[:20] in text(browser, "#run")

    path = tmp_path / "<img src=x onerror=window.stolen=3>.safetensors"
    write_adapter(painter.adapter("bela", 1000, 8, "q"), path, "kohya")
    save_file(load_file(path), path, {"ss_output_name": HOSTILE, "ss_network_dim": HOSTILE})
    choose(browser, path)
    browser.wait("window.lorastyle.shown")
    assert text(browser, "#verdict") == f"In the style of {HOSTILE.replace('_', ' ')}"
    assert text(browser, "#name") == path.name
    facts = text(browser, "#facts")
    assert "kohya" in facts and "Rank8" in facts
    assert browser.evaluate("document.querySelectorAll('#adapters li').length") == 8
    assert browser.evaluate("document.querySelectorAll('#stage circle').length") == 8
    assert browser.evaluate("document.querySelectorAll('#stage .query').length") == 1
    first = browser.evaluate("document.querySelector('#artists i').style.width")
    assert float(first.rstrip("%")) > 90
    assert browser.evaluate("window.stolen") is None
    assert browser.evaluate("document.images.length") == 0
    assert browser.evaluate("document.activeElement.id") == "result"
    assert browser.complaints() == []
    assert all(one.startswith((address, "data:")) for one in browser.requests())

    # On a phone nothing is wider than the window.
    browser.resize(390, 800, mobile=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390

    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing")
    choose(browser, bad)
    browser.wait("document.getElementById('problem').textContent")
    assert text(browser, "#problem").startswith("bad.safetensors is text, not weights")
    assert browser.evaluate("document.getElementById('result').hidden")
