"""The page in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.embedding.stage import embed
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.labels import Label
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.runs import Run
from lorastyle.search.verdicts import compare_adapters
from lorastyle.search.words import VERDICT_WORDS
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


def choose(browser: Browser, *paths, by: str = "#file") -> None:
    """As a person chooses files."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector=by)["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)


def drop(browser: Browser, path, onto: str) -> None:
    """As a person drops a file or a folder."""
    box = browser.evaluate(f"document.querySelector({onto!r}).getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    held = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=held)


def text(browser: Browser, selector: str) -> str:
    return browser.evaluate(f"document.querySelector({selector!r}).textContent")


def test_the_page_takes_a_file_and_says_whose_style_it_has(browser, address, painter, tmp_path):
    """First the token, then a file of the artist with the hostile name, which has metadata
    and a name of the same kind; then one that is no LoRA."""
    browser.open(address)
    assert browser.evaluate("!document.getElementById('access').hidden")
    assert text(browser, "#problem") == ""
    browser.type("another")
    browser.events.clear()  # of the refusal without a token
    browser.evaluate("document.querySelector('#access button').click()")
    browser.evaluate(
        "new Promise((there) => { const look = () => document.getElementById('problem').textContent"
        " ? there() : setTimeout(look, 20); look(); })"
    )
    assert text(browser, "#problem") == "This is not the server's token."
    browser.events.clear()
    browser.evaluate("document.getElementById('token').select()")
    browser.type(TOKEN)
    browser.evaluate("document.querySelector('#access button').click()")
    browser.wait("document.getElementById('access').hidden")
    assert text(browser, "#problem") == ""
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


@pytest.fixture
def signed_in(browser, address) -> Browser:
    """The page of somebody who has given the token, on a desk."""
    browser.resize(1200, 800)
    browser.open(address)
    browser.evaluate(f"sessionStorage.setItem('token', {TOKEN!r})")
    browser.open(address)
    return browser


def test_two_files_are_compared_by_keyboard(signed_in, painter, tmp_path):
    """What is said of them is what `compare` says; names and metadata stay text."""
    browser = signed_in
    paths = [tmp_path / "one.pt", tmp_path / "<img src=x onerror=window.stolen=4>.safetensors"]
    for number, path in enumerate(paths):
        write_adapter(painter.adapter("anna", 2000 + number, 4, "q"), path, "kohya")
    assert browser.evaluate("document.getElementById('other-drop').hidden")
    choose(browser, paths[0])
    browser.wait("window.lorastyle.shown")

    # Back from the result, which has the focus, is the one before it that takes files.
    browser.send("Page.setInterceptFileChooserDialog", enabled=True)
    tab = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9, "modifiers": 8}
    for kind in ("rawKeyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, **tab)
    assert browser.evaluate("document.activeElement.id") == "other"
    browser.press("Enter")
    browser.evaluate("new Promise(requestAnimationFrame)")
    (asked,) = [one for one in browser.events if one.get("method") == "Page.fileChooserOpened"]
    browser.send("Page.setInterceptFileChooserDialog", enabled=False)
    chosen = asked["params"]["backendNodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(paths[1])], backendNodeId=chosen)
    browser.wait("window.lorastyle.compared")

    expected = compare_adapters(*(read_adapter(path) for path in paths))
    assert text(browser, "#pair") == f"{paths[0].name} and {paths[1].name}"
    words = VERDICT_WORDS[expected.verdict]
    assert text(browser, "#pair-verdict").lower() == words
    for sentence in expected.evidence:
        assert sentence[1:] in text(browser, "#evidence")
    for name in ("cosine", "aligned_cosine", "factor_cosine"):
        assert f"{expected.scores[name]:.3f}".replace("-0.000", "0.000") in text(browser, "#whole")
    assert f"{expected.scores['parts']['self_attention']:.3f}" in text(browser, "#parts")
    assert "40 modules that both change: 100\u00a0% of the first" in text(browser, "#covered")
    assert browser.evaluate("document.activeElement.id") == "comparison"
    assert browser.evaluate("!document.getElementById('result').hidden")
    browser.resize(390, 800, mobile=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert browser.evaluate("window.stolen") is None
    assert browser.complaints() == []


@pytest.fixture
def folder(painter, tmp_path) -> Path:
    """A PEFT folder whose alpha is half its rank, with files beside that are not wanted."""
    path = tmp_path / "<b>my adapter"
    write_adapter(painter.adapter("anna", 3000, 8, "q"), path, "peft")
    (path / "README.md").write_text("It is mine.")
    (path / "optimizer.pt").write_bytes(b"no adapter")
    return path


@pytest.mark.parametrize("how", ["chosen", "dropped"])
def test_a_peft_folder_is_read_with_its_config(signed_in, folder, how):
    browser = signed_in
    if how == "dropped":
        drop(browser, folder, "#drop")
    else:
        choose(browser, folder / "adapter_config.json", folder / "adapter_model.safetensors")
    browser.wait("window.lorastyle.shown")
    name = folder.name if how == "dropped" else "adapter_model.safetensors"
    assert text(browser, "#name") == name
    assert "Alpha4, by adapter_config.json" in text(browser, "#facts")

    # With itself, read without the config: the same updates, twice as large.
    choose(browser, folder / "adapter_model.safetensors", by="#other")
    browser.wait("window.lorastyle.compared")
    assert text(browser, "#pair-verdict") == "The same file"
    assert "Norm, second to first2.00" in text(browser, "#whole")
    assert browser.complaints() == []


def test_files_that_belong_to_no_one_adapter_are_refused_by_the_page(signed_in, folder, tmp_path):
    browser, bare = signed_in, tmp_path / "bare"
    bare.mkdir()
    (bare / "notes.txt").write_text("nothing")

    def problem() -> str:
        return browser.wait("document.getElementById('problem').textContent")

    choose(browser, folder / "adapter_config.json")
    assert problem() == (
        "adapter_config.json holds no weights; give adapter_model.safetensors together with it."
    )
    browser.evaluate("document.getElementById('problem').textContent = ''")
    choose(browser, folder / "README.md", folder / "optimizer.pt")
    assert problem().startswith("These are 2 files; give one LoRA at a time")
    browser.evaluate("document.getElementById('problem').textContent = ''")
    drop(browser, bare, "#drop")
    assert problem().startswith("bare is a folder without adapter_model.safetensors")
    assert not [one for one in browser.requests() if "search" in one]


def test_every_control_has_a_name(signed_in, painter, tmp_path):
    """As the browser tells it to a screen reader."""
    browser, path = signed_in, tmp_path / "one.safetensors"
    write_adapter(painter.adapter("anna", 2000, 4, "q"), path, "kohya")
    choose(browser, path)
    browser.wait("window.lorastyle.shown")
    choose(browser, path, by="#other")
    browser.wait("window.lorastyle.compared")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        properties = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
        if not node.get("ignored") and properties.get("focusable"):
            named.setdefault(node["role"]["value"], []).append(node["name"]["value"])
    controls = {name for role, names in named.items() if role != "RootWebArea" for name in names}
    assert "" not in controls
    expected = {
        "Light or dark",
        "Drop a LoRA file here or choose one",
        "Compare it with another file",
    }
    assert expected <= {" ".join(name.replace(": No file chosen", "").split()) for name in controls}
