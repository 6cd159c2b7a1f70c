"""The explorer in a real browser, opened from disk: what it does, not only that it loads."""

import json
import time
from itertools import combinations, count, pairwise
from urllib.parse import quote

import numpy as np
import pytest

from lorastyle.explorer.columns import MARKS
from lorastyle.explorer.writing import write_explorer
from lorastyle.report.palette import PAPER
from tests.explorer.conftest import HOSTILE, N_COMPARED

SHOWN_ROLES = ("train", "val", "test", "ingested")
COUNTER = count()
ADAPTERS = "[...document.querySelectorAll('{} [data-adapter]')].map(b => b.dataset.adapter)"
STATE = (
    "JSON.stringify({...lorastyle.view.state, hidden: Object.entries(lorastyle.view.state.hidden)"
    ".map(([key, set]) => [key, [...set].sort()])})"
)


@pytest.fixture(scope="module")
def page(content, tmp_path_factory):
    """The address of an explorer in one file, in a folder with an awkward name."""
    folder = tmp_path_factory.mktemp("an explorer #1 ü")
    written = write_explorer(content, folder / "page.html")
    assert not written.is_folder
    return written.page.as_uri()


@pytest.fixture
def tab(browser, page):
    """The browser with a page open as `tab(fragment)`; at the end nothing may have gone wrong."""

    def show(fragment="", *, anew=False):
        browser.move(0, 0)  # or what an earlier test pointed at covers marks
        if anew or not browser.evaluate("location.href").startswith(page):
            browser.open(f"{page}#{fragment}")
            browser.wait("document.getElementById('loading').hidden")
        else:
            # Loading the library again would be most of the time.
            go = f"location.hash = {json.dumps(f'{fragment}&once={next(COUNTER)}')}"
            after(browser, lambda: browser.evaluate(go))
        return browser

    yield show
    assert browser.complaints() == []
    asked = {address for address in browser.requests() if not address.startswith("data:")}
    assert asked <= {page, "about:blank"}
    assert browser.evaluate("window.stolen") is None


def after(browser, action):
    """Do something and wait until the page has drawn what follows from it."""
    before = browser.evaluate("lorastyle.ready")
    action()
    browser.wait(f"lorastyle.ready > {before}")


def choose(browser, field, value):
    after(
        browser,
        lambda: browser.evaluate(
            f"(() => {{ const f = document.getElementById('{field}');"
            f" f.value = {json.dumps(value)}; f.dispatchEvent(new Event('change')); }})()"
        ),
    )


def press_button(browser, selector):
    after(
        browser, lambda: browser.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
    )


def shown_rows(content, roles=SHOWN_ROLES):
    return np.flatnonzero(content.adapters["role"].isin(roles))


def drawn(browser, rows, axes):
    """What Plotly was given for these rows: (m, dims)."""
    values = browser.evaluate(
        "lorastyle.drawn.filter(t => t.rows).flatMap(t => t.rows.map((row, i) => "
        "[row, t.x[i], t.y[i], t.z ? t.z[i] : 0]))"
    )
    table = {row: place for row, *place in values}
    assert sorted(table) == sorted(rows.tolist())
    return np.array([table[row][: len(axes)] for row in rows])


def painted(browser):
    """How many pixels of the plot have a colour: WebGL may fail without a word."""
    corner = "(() => { const b = document.getElementById('plot').getBoundingClientRect();"
    box = browser.evaluate(corner + "return [b.left, b.top, b.right, b.bottom]; })()")
    picture = np.asarray(browser.picture().crop(tuple(map(round, box))).convert("HSV"))
    return int((picture[..., 1] > 90).sum())


def pixel(browser, row):
    """Where a row's mark lies in the window, in 2D."""
    return browser.evaluate(
        "(() => { const p = document.getElementById('plot'), l = p._fullLayout;"
        "const { state: { axes: [x, y] }, space: s } = lorastyle.view;"
        "const box = p.getBoundingClientRect();"
        f"return [box.left + l.xaxis._offset + l.xaxis.d2p(s.scores[{row} * s.k + x]),"
        f" box.top + l.yaxis._offset + l.yaxis.d2p(s.scores[{row} * s.k + y])]; }})()"
    )


def alone(content, rows, axes=(0, 1)):
    """The row whose mark is farthest from any other's: a click cannot mean another."""
    places = content.spaces[0].scores[rows][:, axes].astype(float)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return int(rows[apart.min(axis=1).argmax()])


def brute_force(scores, rows, row, n_compared):
    """The nearest of `rows` to one of them by numpy, and their distances."""
    others = rows[rows != row]
    differences = scores[others, :n_compared].astype(float) - scores[row, :n_compared].astype(float)
    distances = np.sqrt((differences**2).sum(axis=1))
    order = np.argsort(distances, kind="stable")[:12]
    return others[order], distances[order]


def listed_neighbours(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('#neighbours button')].map(b => "
        "[b.dataset.adapter, Number(b.querySelector('data').value)])"
    )


def test_it_draws_every_adapter_that_is_shown_where_its_scores_say(tab, content):
    browser, rows = tab(), shown_rows(content)
    np.testing.assert_array_equal(
        drawn(browser, rows, (0, 1)), content.spaces[0].scores[rows][:, [0, 1]]
    )
    assert browser.evaluate("lorastyle.drawn[0].type") == "scattergl"
    assert painted(browser) > 500
    total = len(content.adapters)
    text = browser.evaluate("document.getElementById('count').textContent")
    assert text == f"{len(rows)} of {total} adapters shown"


def test_other_axes_and_the_third_dimension_show_those_components(tab, content):
    browser, rows = tab(), shown_rows(content)
    choose(browser, "x", "3")
    np.testing.assert_array_equal(
        drawn(browser, rows, (3, 1)), content.spaces[0].scores[rows][:, [3, 1]]
    )
    press_button(browser, "#dims-3")
    assert browser.evaluate("lorastyle.drawn[0].type") == "scatter3d"
    np.testing.assert_array_equal(
        drawn(browser, rows, (3, 1, 2)), content.spaces[0].scores[rows][:, [3, 1, 2]]
    )
    assert painted(browser) > 500
    press_button(browser, "#dims-2")
    assert browser.evaluate("lorastyle.drawn[0].type") == "scattergl"


def test_another_space_leaves_out_who_has_no_place_in_it(tab, content):
    browser = tab()
    choose(browser, "space", "1")
    rows = shown_rows(content, ("train", "val", "test"))
    np.testing.assert_array_equal(
        drawn(browser, rows, (0, 1)), content.spaces[1].scores[rows][:, [0, 1]]
    )


def test_pointing_shows_picture_artist_and_name(tab, content):
    browser = tab("centroids=0")
    row = alone(content, shown_rows(content, ("train",)))
    browser.move(*pixel(browser, row))
    browser.wait("!document.getElementById('tip').hidden")
    tip = browser.evaluate("document.getElementById('tip').textContent")
    assert content.adapters["artist"][row].replace("_", " ") in tip
    assert content.adapters["adapter_id"][row] in tip
    assert browser.evaluate(
        "(async () => { const i = document.querySelector('#tip img'); await i.decode();"
        " return i.naturalWidth; })()"
    )


def test_a_click_lists_the_nearest_by_true_distances_and_its_training_images(tab, content):
    browser = tab("centroids=0")
    rows = shown_rows(content)
    row = alone(content, rows)
    after(browser, lambda: browser.click(*pixel(browser, row)))
    assert browser.evaluate("lorastyle.view.pick") == row
    found = listed_neighbours(browser)
    nearest, distances = brute_force(content.spaces[0].scores, rows, row, N_COMPARED)
    assert [name for name, _ in found] == content.adapters["adapter_id"][nearest].tolist()
    np.testing.assert_allclose([distance for _, distance in found], distances, rtol=1e-6)
    assert browser.evaluate("document.querySelectorAll('#picked .works img').length") == 1
    # From neighbour to neighbour.
    press_button(browser, "#neighbours button")
    assert browser.evaluate("lorastyle.view.pick") == int(nearest[0])


def test_in_three_dimensions_a_mark_tells_whose_it_is_and_can_be_clicked(tab, content):
    browser = tab("dims=3&centroids=0&only=role:train")
    # One artist's marks are found by their colour alone, which no other artist has.
    colour = browser.evaluate(
        "lorastyle.view.column.values.find(v => v.value === 'rembrandt').colour[0]"
    )
    rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    left = browser.evaluate("document.getElementById('plot').getBoundingClientRect().left")
    picture = np.asarray(browser.picture().convert("RGB"), int)
    is_mark = (np.abs(picture - rgb).max(axis=2) <= 3) & (np.arange(picture.shape[1]) > left)
    rows, columns = np.nonzero(_inner(is_mark))
    place = float(columns[len(columns) // 2]), float(rows[len(rows) // 2])
    browser.move(place[0] + 1, place[1])
    browser.move(*place)
    browser.wait("!document.getElementById('tip').hidden")
    name = browser.evaluate("document.querySelector('#tip code').textContent")
    assert name.startswith("rembrandt-train-")
    after(browser, lambda: browser.click(*place))
    assert browser.evaluate("document.querySelector('#picked code').textContent") == name


def test_turning_the_plot_chooses_nobody(tab):
    # One mark, which stays under the pointer all the while.
    browser = tab("dims=3&centroids=0&only=artist:rembrandt&only=role:val", anew=True)
    before, marks = eye(browser), _coloured(browser, "rembrandt")
    held = {"button": "left", "buttons": 1, "clickCount": 1}
    # The first that the plot hears of the pointer is that its button is down.
    browser.send("Input.dispatchMouseEvent", type="mousePressed", x=marks[0], y=marks[1], **held)
    for step in range(1, 9):
        x = marks[0] + step
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=marks[1], **held)
        browser.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=marks[1], **held)
    browser.evaluate("new Promise(r => setTimeout(r, 200))")
    assert np.linalg.norm(eye(browser) - before) > 0.01
    assert browser.evaluate("lorastyle.view.pick") == -1


def _inner(mask):
    """Pixels all of whose neighbours belong to it as well."""
    kept = mask.copy()
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            kept &= np.roll(mask, step, axis)
    return kept


def test_neighbours_are_among_those_shown_only(tab, content):
    browser = tab("only=role:train&pick=stranger")
    rows = shown_rows(content, ("train",))
    stranger = int(np.flatnonzero(content.adapters["adapter_id"] == "stranger")[0])
    nearest, _ = brute_force(content.spaces[0].scores, rows, stranger, N_COMPARED)
    names = [name for name, _ in listed_neighbours(browser)]
    assert names == content.adapters["adapter_id"][nearest].tolist()


def test_search_finds_by_name_and_enter_picks_the_first(tab, content):
    browser = tab()
    browser.evaluate("document.getElementById('search').focus()")
    after(browser, lambda: browser.type("monet test"))
    found = browser.evaluate(
        "[...document.querySelectorAll('#found [data-adapter]')].map(b => b.dataset.adapter)"
    )
    assert found == ["claude_monet-test-5"]
    after(browser, lambda: browser.press("Enter"))
    picked = browser.evaluate("document.querySelector('#picked code').textContent")
    assert picked == "claude_monet-test-5"


def test_a_legend_entry_hides_its_adapters_and_only_leaves_them_alone(tab, content):
    browser = tab()
    press_button(browser, "#legend [data-value='rembrandt']")
    rows = shown_rows(content)
    others = rows[content.adapters["artist"].to_numpy()[rows] != "rembrandt"]
    drawn(browser, others, (0, 1))
    pressed = "document.querySelector(`#legend [data-value='rembrandt']`).ariaPressed"
    assert browser.evaluate(pressed) == "false"
    press_button(browser, "#kinds [data-value='query_test'] ~ .only")
    queries = shown_rows(content, ("query_test",))
    drawn(browser, queries[content.adapters["artist"].to_numpy()[queries] != "rembrandt"], (0, 1))


def test_colours_follow_the_column_and_kinds_keep_their_own_symbols(tab, content):
    browser = tab("colour=genre")
    colours = browser.evaluate(
        "lorastyle.drawn.filter(t => t.rows).flatMap(t => "
        "t.rows.map((row, i) => [row, t.marker.color[i]]))"
    )
    by_genre = {}
    for row, colour in colours:
        by_genre.setdefault(content.adapters["genre"][row], set()).add(colour)
    assert all(len(found) == 1 for found in by_genre.values())
    assert len(set.union(*by_genre.values())) == len(by_genre) == 4
    for dims in (2, 3):
        browser = tab(f"dims={dims}")
        symbols = browser.evaluate("lorastyle.drawn.filter(t => t.rows).map(t => t.marker.symbol)")
        assert len(set(symbols)) == len(symbols) == len(SHOWN_ROLES)
        # The legend draws what the plot has: an open mark empty, and no two alike.
        legend = browser.evaluate(
            "[...document.querySelectorAll('#kinds button[data-value]')].map(b =>"
            " [b.dataset.value, b.querySelector('path').getAttribute('d'),"
            " getComputedStyle(b.querySelector('path')).fill === 'none'])"
        )
        assert len({(outline, is_open) for _, outline, is_open in legend}) == len(legend) == 5
        for role, outline, is_open in legend:
            mark = MARKS[role]
            assert outline == (mark.outline, mark.solid_outline)[dims - 2]
            assert is_open == (mark.flat, mark.solid)[dims - 2].endswith("-open")


def test_hulls_go_round_every_adapter_of_a_group_and_centroids_are_means(tab, content):
    scores, artists = content.spaces[0].scores, content.adapters["artist"].to_numpy()
    browser = tab("hulls=1")
    rows = shown_rows(content)
    shapes = browser.evaluate("document.getElementById('plot').layout.shapes.map(s => s.path)")
    assert len(shapes) == 4
    paths = [
        np.array([[float(v) for v in c.split(",")] for c in path[1:-1].split("L")])
        for path in shapes
    ]
    for artist in set(artists[rows]) - {"unlabelled"}:
        points = scores[rows[artists[rows] == artist]][:, [0, 1]].astype(float)
        # All lie on the left of every side, and every corner is one of them.
        own = [path for path in paths if set(map(tuple, path)) <= set(map(tuple, points))]
        assert len(own) == 1 and encloses(own[0], points)
    stars = browser.evaluate(
        "[lorastyle.drawn.find(t => t.part === 'centroids')].map(t => [t.x, t.y])[0]"
    )
    train = shown_rows(content, ("train",))
    means = {
        tuple(np.round(scores[train[artists[train] == a]].astype(float).mean(axis=0)[:2], 4))
        for a in set(artists[train])
    }
    assert {tuple(np.round(star, 4)) for star in zip(*stars, strict=True)} == means


def encloses(corners, points):
    edges = np.roll(corners, -1, axis=0) - corners
    offsets = points[:, None, :] - corners[None]
    turns = edges[None, :, 0] * offsets[..., 1] - edges[None, :, 1] * offsets[..., 0]
    return bool((turns >= -1e-9).all())


@pytest.mark.parametrize("tool", ["select", "lasso"])
def test_a_drawn_area_is_listed(tab, content, tool):
    browser = tab("centroids=0")
    press_button(browser, f"#tool-{tool}")
    rows = shown_rows(content)
    places = np.array([pixel(browser, row) for row in rows[:6]])
    low, high = places.min(axis=0) - 12, places.max(axis=0) + 12
    if tool == "select":
        after(browser, lambda: browser.drag(tuple(low), tuple(high)))
    else:
        corners = [tuple(low), (high[0], low[1]), tuple(high), (low[0], high[1]), tuple(low)]
        after(browser, lambda: browser.draw(corners))
    everywhere = np.array([pixel(browser, row) for row in rows])
    inside = ((everywhere > low) & (everywhere < high)).all(axis=1)
    listed = browser.evaluate(ADAPTERS.format("#area-list"))
    assert listed == content.adapters["adapter_id"][rows[inside]].tolist()
    # The address holds it too.
    fragment = browser.evaluate("location.hash.slice(1)")
    press_button(browser, "#area .close")
    assert browser.evaluate(ADAPTERS.format("#area-list")) == []
    assert tab(fragment).evaluate(ADAPTERS.format("#area-list")) == listed
    press_button(browser, "#tool-pan")


def test_the_address_holds_what_is_seen(tab, content):
    browser = tab()
    choose(browser, "space", "1")
    choose(browser, "y", "4")
    choose(browser, "colour", "rank")
    press_button(browser, "#hulls")
    press_button(browser, "#dims-3")
    press_button(browser, "#kinds [data-value='val']")
    press_button(browser, "#theme")
    before, fragment = browser.evaluate(STATE), browser.evaluate("location.hash.slice(1)")
    browser = tab(fragment, anew=True)
    assert browser.evaluate(STATE) == before
    assert browser.evaluate("lorastyle.view.space.key") == "clustering/factors/feed_forward"


def test_an_address_of_nonsense_opens_as_if_it_were_none(tab, content):
    nonsense = (
        f"space={quote(HOSTILE)}&x=-3&y=1e9&z=two&dims=4&colour=__proto__&hide=constructor:a"
        f"&area=1_2_x&pick={quote('no one')}"
    )
    browser = tab(nonsense)
    np.testing.assert_array_equal(
        drawn(browser, shown_rows(content), (0, 1)),
        content.spaces[0].scores[shown_rows(content)][:, [0, 1]],
    )


def test_hostile_names_are_text_wherever_they_show(tab, content):
    browser = tab(f"hulls=1&pick={quote(HOSTILE)}&q=script&colour=source")
    assert browser.evaluate("document.querySelector('#picked code').textContent") == HOSTILE
    assert HOSTILE.replace("_", " ") in browser.evaluate(
        "document.getElementById('picked').textContent"
    )
    browser = tab("colour=artist")
    names = "[...document.querySelectorAll('#names span')].map(t => t.textContent)"
    assert HOSTILE.replace("_", " ")[:39] + "…" in browser.evaluate(names)
    browser = tab("colour=artist&dims=3&hulls=1")
    # Only the page's own pictures: none that a name brought along.
    assert browser.evaluate("[...document.images].every(i => i.src.startsWith('data:image/jpeg'))")
    assert browser.evaluate("document.querySelectorAll('script:not([type])').length") == 11


def test_the_keyboard_goes_from_adapter_to_adapter(tab, content):
    browser = tab()
    browser.evaluate("document.getElementById('plot').focus()")
    after(browser, lambda: browser.press("ArrowRight"))
    first = browser.evaluate("lorastyle.view.pick")
    scores = content.spaces[0].scores
    after(browser, lambda: browser.press("ArrowLeft"))
    second = browser.evaluate("lorastyle.view.pick")
    assert scores[second, 0] < scores[first, 0]
    said = browser.evaluate("document.getElementById('said').textContent")
    assert said.startswith(content.adapters["adapter_id"][second])
    after(browser, lambda: browser.press("Escape"))
    assert browser.evaluate("document.getElementById('picked').hidden")


def shown_names(browser):
    """Names on the plot and their boxes in the window: left, top, right, bottom."""
    return browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#names span:not([hidden])')].map(s => {"
        " const b = s.getBoundingClientRect();"
        " return [s.textContent, [b.left, b.top, b.right, b.bottom]]; }))"
    )


def box_of(browser, part):
    """Left, top, right and bottom of an element in the window."""
    return browser.evaluate(
        f"(() => {{ const b = document.getElementById('{part}').getBoundingClientRect();"
        " return [b.left, b.top, b.right, b.bottom]; })()"
    )


def eye(browser):
    """Where the reader of a 3D plot stands."""
    found = browser.evaluate(
        "document.getElementById('plot')._fullLayout.scene._scene.getCamera().eye"
    )
    return np.array([found[axis] for axis in "xyz"])


def apart(boxes):
    """No two of these boxes overlap."""
    return all(
        one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        for one, other in combinations(boxes, 2)
    )


def on_plot(browser, key, **held):
    """Press a key on the plot and wait for two frames: what a frame changes is then there."""
    browser.evaluate("document.getElementById('plot').focus()")
    browser.press(key, **held)
    browser.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")


@pytest.mark.parametrize("dims", [2, 3])
def test_names_of_centres_never_overlap_and_more_find_room_from_nearer(
    browser, make_content, tmp_path, dims
):
    content = make_content(60)
    browser.open(f"{write_explorer(content, tmp_path / 'page.html').page.as_uri()}#dims={dims}")
    browser.wait("Boolean(document.querySelector('#names span:not([hidden])'))")
    named = set()
    for key, shift in (("", False), *[("ArrowRight", dims == 3)] * 3, ("+", False), ("+", False)):
        if key:
            on_plot(browser, key, shift=shift)
        plot, names = box_of(browser, "plot"), shown_names(browser)
        assert len(names) > 3 and apart(names.values())
        for left, top, right, bottom in names.values():
            assert left >= plot[0] and top >= plot[1] and right <= plot[2] and bottom <= plot[3]
        named |= names.keys()
        # Who was chosen by an arrow key has a name whatever lies there.
        pick = browser.evaluate("lorastyle.view.pick")
        assert pick < 0 or content.adapters["adapter_id"][pick] in names
    # Some had no room at first, and none is a stranger's.
    artists = {name.replace("_", " ") for name in content.adapters["artist"]} - {"unlabelled"}
    labels = {name if len(name) <= 40 else f"{name[:39]}…" for name in artists}
    ids = set(content.adapters["adapter_id"])
    assert named - ids <= labels and len(names) < len(labels)
    assert browser.complaints() == []


def test_a_name_goes_with_its_mark_when_the_plot_is_turned(tab, content):
    # One adapter alone, which is its own centre: its pixels are where the name belongs.
    browser = tab("dims=3&only=artist:rembrandt&only=role:val&hulls=0")
    before = eye(browser)
    for step in range(4):
        if step:
            on_plot(browser, "ArrowLeft", shift=True)
        (box,) = shown_names(browser).values()
        mark = _coloured(browser, "rembrandt")
        assert abs((box[0] + box[2]) / 2 - mark[0]) < 3
        assert 10 < mark[1] - (box[1] + box[3]) / 2 < 24
    assert np.linalg.norm(eye(browser)) == pytest.approx(np.linalg.norm(before))
    assert np.linalg.norm(eye(browser) - before) > 1


def _coloured(browser, artist):
    """The middle, in the window, of the plot's pixels of an artist's colour."""
    colour = browser.evaluate(
        f"lorastyle.view.column.values.find(v => v.value === '{artist}').colour[0]"
    )
    rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    left = browser.evaluate("document.getElementById('plot').getBoundingClientRect().left")
    picture = np.asarray(browser.picture().convert("RGB"), int)
    rows, columns = np.nonzero(np.abs(picture - rgb).max(axis=2) <= 6)
    on_the_plot = columns > left
    assert on_the_plot.sum() > 20
    return np.median(columns[on_the_plot]), np.median(rows[on_the_plot])


def test_what_was_turned_or_zoomed_stays_when_it_is_drawn_anew(tab):
    browser = tab("dims=3")
    on_plot(browser, "ArrowUp", shift=True)
    on_plot(browser, "+")
    turned = eye(browser)
    press_button(browser, "#hulls")
    np.testing.assert_allclose(eye(browser), turned, atol=1e-6)
    press_button(browser, "#fit")
    assert np.linalg.norm(eye(browser) - turned) > 0.1
    press_button(browser, "#hulls")


def test_shift_and_arrows_list_an_area_that_begins_at_the_adapter(tab, content):
    browser = tab("pick=rembrandt-train-0")
    browser.evaluate("document.getElementById('plot').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        after(browser, lambda key=key: browser.press(key, shift=True))
    corners = np.array(browser.evaluate("lorastyle.view.state.area"))
    low, high = corners.min(axis=0), corners.max(axis=0)
    rows = shown_rows(content)
    places = content.spaces[0].scores[rows][:, [0, 1]]
    inside = rows[((places > low) & (places < high)).all(axis=1)]
    assert browser.evaluate(ADAPTERS.format("#area-list")) == [
        content.adapters["adapter_id"][row] for row in inside
    ]
    start = content.spaces[0].scores[content.adapters["adapter_id"] == "rembrandt-train-0"][0, :2]
    # It grew to the right and up, by twice as much to the right.
    assert (high - start > start - low).all()
    spans = browser.evaluate(
        "['xaxis', 'yaxis'].map(name => document.getElementById('plot')._fullLayout[name].range)"
    )
    grown = (high - start) - (start - low)
    np.testing.assert_allclose(
        grown, [(b - a) * n / 20 for (a, b), n in zip(spans, (2, 1), strict=True)], 1e-4
    )
    said = browser.evaluate("document.getElementById('said').textContent")
    number = f"{len(inside)} adapter" + ("" if len(inside) == 1 else "s")
    assert said.startswith(f"{number} in the area; rembrandt-train-0")
    # Escape lets go of the area, then of the adapter.
    after(browser, lambda: browser.press("Escape"))
    assert browser.evaluate("lorastyle.view.area") is None
    assert browser.evaluate("lorastyle.view.pick") >= 0
    after(browser, lambda: browser.press("Escape"))
    assert browser.evaluate("lorastyle.view.pick") == -1


def test_keys_lead_from_the_top_to_the_plot_to_an_adapter_and_back(tab, content):
    browser = tab(anew=True)
    focused = "document.activeElement.id"
    browser.press("Tab")
    assert browser.evaluate(focused) == "skip"
    browser.press("Enter")
    assert browser.evaluate(focused) == "plot"
    after(browser, lambda: browser.press("ArrowRight"))
    browser.press("Enter")
    assert browser.evaluate(focused) == "picked"
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "close"
    after(browser, lambda: browser.press("Escape"))
    assert browser.evaluate(focused) == "plot"
    assert browser.evaluate("document.getElementById('picked').hidden")
    # On the plot's own buttons arrow keys choose nothing.
    browser.evaluate("document.getElementById('tool-pan').focus()")
    browser.press("ArrowRight")
    assert browser.evaluate("lorastyle.view.pick") == -1


def test_reading_order_is_that_of_the_page(tab, browser):
    order = "[...document.querySelectorAll('main > *')].map(part => part.id)"
    try:
        for width, wanted in (
            (1280, ["controls", "stage", "details"]),
            (900, ["stage", "controls", "details"]),
            (390, ["stage", "details", "controls"]),
        ):
            browser.resize(width, 800)
            assert tab(anew=True).evaluate(order) == wanted
            # From above down, and in a row from left to right.
            places = browser.evaluate(
                "[...document.querySelectorAll('main > *')].map(part => {"
                " const b = part.getBoundingClientRect(); return [Math.round(b.top), b.left]; })"
            )
            assert places == sorted(places)
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def test_search_says_how_many_it_does_not_show(tab):
    note = "document.getElementById('found-count').textContent"
    assert tab("q=stranger").evaluate(note) == "1 adapter matches"
    text = tab("q=stranger&space=clustering/factors/feed_forward").evaluate(note)
    assert text == "0 adapters match; 1 more is hidden or without a place here"


def test_a_space_that_lacks_adapters_leads_to_one_that_has_them(tab, content):
    browser = tab("space=clustering/factors/feed_forward&pick=stranger")
    said = browser.evaluate("document.getElementById('said').textContent")
    assert said == "stranger, which has no place in this space"
    button = "document.getElementById('space-other')"
    assert browser.evaluate(f"{button}.textContent") == f"See them in {content.spaces[0].name}"
    press_button(browser, "#space-other")
    assert browser.evaluate("lorastyle.view.space.key") == content.spaces[0].key
    assert browser.evaluate("lorastyle.view.placed") and browser.evaluate(f"{button}.hidden")


def test_what_does_not_match_fades_towards_the_page_in_three_dimensions(tab, content):
    browser = tab("dims=3&q=rembrandt")
    colours = browser.evaluate(
        "lorastyle.drawn.filter(t => t.rows).flatMap(t => t.rows.map((row, i) =>"
        " [row, t.marker.color[i]]))"
    )
    paper = np.array([int(PAPER["light"][place : place + 2], 16) for place in (1, 3, 5)])
    for row, colour in colours:
        # Opaque: marks in 3D that others shine through are drawn in any order.
        assert len(colour) == 7
        away = np.abs([int(colour[p : p + 2], 16) for p in (1, 3, 5)] - paper).max()
        assert (away > 60) == (content.adapters["artist"][row] == "rembrandt")


def test_pointing_at_a_centre_names_its_group(tab, content):
    browser = tab("only=role:train")
    artists = content.adapters["artist"].to_numpy()
    rows = np.flatnonzero((content.adapters["role"] == "train") & (artists == "rembrandt"))
    x, y = content.spaces[0].scores[rows][:, :2].astype(float).mean(axis=0)
    at = browser.evaluate(
        "(() => { const p = document.getElementById('plot'), l = p._fullLayout;"
        " const b = p.getBoundingClientRect();"
        f" return [b.left + l.xaxis._offset + l.xaxis.d2p({x}),"
        f" b.top + l.yaxis._offset + l.yaxis.d2p({y})]; }})()"
    )
    browser.move(at[0] + 30, at[1])
    browser.move(*at)
    browser.wait("document.getElementById('tip').textContent === 'rembrandtcentre of 4 adapters'")


def test_headings_go_down_step_by_step_and_names_hold_what_is_read(tab):
    browser = tab("pick=stranger&q=monet")
    levels = browser.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].filter(h => h.checkVisibility())"
        ".map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and len(levels) > 4
    assert all(lower - upper <= 1 for upper, lower in pairwise(levels))
    # Who speaks to a page says what it shows; signs have a word of their own.
    named = browser.evaluate(
        "[...document.querySelectorAll('button[aria-label]')]"
        ".map(b => [b.ariaLabel.toLowerCase(), b.textContent.toLowerCase()])"
    )
    assert len(named) > 10
    assert all(text in label for label, text in named if text not in "+−×")


def test_lists_that_are_made_anew_keep_the_focus(tab, content):
    browser = tab("pick=stranger")
    focused = "document.activeElement"
    browser.evaluate("document.querySelector(\"#legend [data-value='rembrandt']\").focus()")
    after(browser, lambda: browser.press("Enter"))
    assert browser.evaluate(f"{focused}.dataset.value") == "rembrandt"
    assert browser.evaluate(f"{focused}.ariaPressed") == "false"
    # A neighbour that was chosen leaves its own list: reading goes on where it is described.
    browser.evaluate("document.querySelector('#neighbours button').focus()")
    name = browser.evaluate(f"{focused}.dataset.adapter")
    after(browser, lambda: browser.press("Enter"))
    assert browser.evaluate(f"{focused}.id") == "picked"
    assert name in browser.evaluate(f"{focused}.textContent")


def test_every_control_has_a_name(tab):
    tree = tab("pick=stranger").send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "radio", "combobox", "searchbox", "textbox"}
    controls = [
        node
        for node in tree
        if node.get("role", {}).get("value") in roles and not node.get("ignored")
    ]
    assert len(controls) > 25
    assert all(node.get("name", {}).get("value") for node in controls)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_readers_theme_is_followed(tab, browser, theme):
    browser.prefer(theme)
    background = tab().evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert red > 200 if theme == "light" else red < 60
    browser.prefer("light")


@pytest.mark.parametrize("n_promised", [0, 1])
def test_without_webgl_it_draws_in_two_dimensions(browser, page, content, n_promised):
    """None is offered, or what the page was promised fails when it draws."""
    source = (
        f"(() => {{ let left = {n_promised};"
        "const real = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "return kind.includes('webgl') && left-- <= 0 ? null : real.call(this, kind, ...rest); };"
        "})()"
    )
    added = browser.send("Page.addScriptToEvaluateOnNewDocument", source=source)
    try:
        browser.open(f"{page}#dims=3&centroids=0")
        rows = shown_rows(content)
        assert browser.evaluate("lorastyle.drawn[0].type") == "scatter"
        np.testing.assert_array_equal(
            drawn(browser, rows, (0, 1)), content.spaces[0].scores[rows][:, [0, 1]]
        )
        assert painted(browser) > 500
        assert not browser.evaluate("document.getElementById('gl-note').hidden")
        row = alone(content, rows)
        after(browser, lambda: browser.click(*pixel(browser, row)))
        assert browser.evaluate("lorastyle.view.pick") == row
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_however_long_its_name_a_run_leaves_the_plot_its_place(tab):
    opened = tab()
    _, top, _, bottom = box_of(opened, "plot")
    height = opened.evaluate("innerHeight")
    assert top < bottom <= height == opened.evaluate("document.documentElement.scrollHeight")


def test_on_a_phone_nothing_is_wider_than_the_screen(tab, browser):
    browser.resize(390, 844, mobile=True)
    try:
        opened = tab("pick=claude_monet-train-0")
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
        top = "document.getElementById('{}').getBoundingClientRect().top"
        order = [opened.evaluate(top.format(part)) for part in ("stage", "details", "controls")]
        assert order == sorted(order)
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def test_above_the_limit_it_is_a_folder_that_opens_from_disk_as_well(browser, content, tmp_path):
    written = write_explorer(content, tmp_path / "page.html", largest=1_000_000)
    assert written.is_folder and written.page == tmp_path / "page" / "index.html"
    assert not (tmp_path / "page.html").exists()
    sizes = sum(path.stat().st_size for path in written.page.parent.rglob("*") if path.is_file())
    assert written.n_bytes == sizes
    browser.open(f"{written.page.as_uri()}#pick=claude_monet-train-0")
    rows = shown_rows(content)
    np.testing.assert_array_equal(
        drawn(browser, rows, (0, 1)), content.spaces[0].scores[rows][:, [0, 1]]
    )
    choose(browser, "space", "1")
    assert browser.evaluate("lorastyle.view.space.key") == "clustering/factors/feed_forward"
    width = (
        "(async () => { const i = document.querySelector('#picked img'); await i.decode();"
        " return i.naturalWidth; })()"
    )
    assert browser.evaluate(width) == 24
    assert browser.complaints() == []
    folder = written.page.parent.as_uri()
    asked = [
        address for address in browser.requests() if not address.startswith(("data:", "about:"))
    ]
    assert asked and all(address.startswith(folder) for address in asked)


def test_a_file_that_is_missing_from_the_folder_is_named(browser, content, tmp_path):
    written = write_explorer(content, tmp_path / "page.html", largest=0)
    (written.page.parent / "data" / "space-1.js").unlink()
    browser.open(written.page.as_uri())
    browser.evaluate(
        "(() => { const f = document.getElementById('space');"
        " f.value = '1'; f.dispatchEvent(new Event('change')); })()"
    )
    # No more than a moment, and without `wait`, which would take the error for its own.
    for _ in range(100):
        note = browser.evaluate("document.getElementById('loading').textContent")
        if "space-1.js" in note:
            break
        time.sleep(0.05)
    assert "data/space-1.js is missing" in note
    assert not browser.evaluate("document.getElementById('loading').hidden")
