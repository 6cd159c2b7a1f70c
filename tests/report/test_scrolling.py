"""What scrolls within the page can be reached without a mouse."""

import pytest

from lorastyle.report.pages import asset
from tests.explorer.browser import Browser, executable


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if executable() is None:
        pytest.skip("there is no Chromium on this machine; install one to test the page in it")
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def test_figures_wider_than_the_window_are_reached_by_tab(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><button id=theme></button><section><h2>Clusters</h2>"
        '<div class=pairs style="overflow-x:auto"><div style="width:600px">figure</div></div>'
        f"</section><script>window.lorastyle={{ready:1}};{asset('theme.js')}</script>"
    )
    state = (
        "(() => { const box = document.querySelector('.pairs');"
        " return [box.tabIndex, box.getAttribute('role'), box.ariaLabel]; })()"
    )
    browser.resize(390, 600)
    browser.open(page.as_uri())
    browser.wait("document.querySelector('.pairs').tabIndex === 0")
    assert browser.evaluate(state) == [0, "region", "Clusters, scrolls sideways"]
    browser.resize(900, 600)
    browser.wait("document.querySelector('.pairs').tabIndex === -1")
    assert browser.evaluate(state) == [-1, None, None]
