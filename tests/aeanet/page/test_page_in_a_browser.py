"""Pages in a browser: what moves, and that nothing is asked of the network.

They need Chromium and the packages of the extra `browser`.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pages import micrograph, restored_of
from PIL import Image

from aeanet.page import Cell, Facts, Frame, Mark, Page, Section, Table, Text, View, write_page
from aeanet.page.plots import plotted
from aeanet.page.views import compared, views_of
from aeanet.trust import estimate_noise

# an extra, beside Chromium, which pip does not install: the pages are written without either
driver = pytest.importorskip("playwright.sync_api", reason="the package playwright is not there")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page. At the end nothing was asked of the network or said on the console."""
    asked: list[str] = []
    said: list[str] = []
    contexts = []

    def open_page(page: Page, width: int = 900, **settings: Any) -> Any:
        file = tmp_path / "page.html"
        write_page(file, page)
        context = browser.new_context(viewport={"width": width, "height": 800}, **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    own = (tmp_path / "page.html").as_uri()
    assert [url for url in asked if url != own and not url.startswith("data:")] == []
    assert said == []


@pytest.fixture(scope="module")
def page() -> Page:
    image, result = micrograph((100, 160))
    views = views_of(restored_of(image, result), image, result, estimate_noise(image))
    cells = [
        [Cell(name, link="a"), Cell(f"{n}%", n)] for name, n in (("b", 10), ("a", 9), ("c", 5))
    ]
    table = Table(["image", "noise"], [*cells, [Cell("d"), Cell("unknown")]], sortable=True)
    lead = [Text(["It is unlike others."], look="warning"), table]
    return Page("Restored", lead, [Section("a.png", views, "a")])


def blocks() -> View:
    """A view whose two pictures are one image, at one size and at twice the size."""
    small = np.random.default_rng(0).integers(0, 2, (40, 60)).astype(np.float32)
    small = small.repeat(2, 0).repeat(2, 1)
    large = small.repeat(2, 0).repeat(2, 1)
    frames = []
    for number, image in enumerate((large, 1 - large)):
        layers = compared("blocks", small if number == 0 else 1 - small, image, (0.0, 1.0))
        marks = [Mark("Look here.", 0.75, 0.75, 0.1, 0.1)] if number == 0 else []
        frames.append(Frame(layers, f"plane {number + 1}", marks))
    return View("blocks", frames, large.shape[1], large.shape[0])


def picture(tab: Any, selector: str = ".window") -> NDArray[np.int32]:
    """What an element looks like, without the border and the words above it."""
    tab.add_style_tag(content=".border, .tag, .mark { visibility: hidden }")
    taken = tab.locator(selector).first.screenshot()
    return np.asarray(Image.open(BytesIO(taken)).convert("L")).astype(np.int32)


def place_at(tab: Any, value: float) -> None:
    tab.locator(".place").evaluate(
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }", value
    )


def test_the_border_moves_by_mouse_and_by_keyboard(opened: Open, page: Page) -> None:
    tab = opened(page)
    border, place = tab.locator(".border"), tab.get_by_label("Border")
    box = tab.locator(".holder").bounding_box()

    def at() -> float:
        found = border.bounding_box()
        return (found["x"] + found["width"] / 2 - box["x"]) / box["width"]

    assert at() == pytest.approx(0.5, abs=0.01)
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 60, steps=3)
    tab.mouse.up()
    assert at() == pytest.approx(0.2, abs=0.01)
    assert float(place.input_value()) == pytest.approx(20, abs=1)
    clip = tab.locator(".layer").first.evaluate("one => getComputedStyle(one).clipPath")
    (shown,) = re.findall(r"100% - ([\d.]+)px", clip)
    assert float(shown) == pytest.approx(0.2 * box["width"], abs=3)

    place.focus()
    for key, value in (("ArrowRight", 20.5), ("End", 100), ("Home", 0)):
        tab.keyboard.press(key)
        assert float(place.input_value()) == pytest.approx(value, abs=0.6)
        assert at() == pytest.approx(value / 100, abs=0.01)


@pytest.mark.parametrize("zoom", ["1×", "2×", "4×"])
def test_both_pictures_are_at_the_same_place_to_the_pixel(opened: Open, zoom: str) -> None:
    tab = opened(Page("blocks", [blocks()]), width=1000)
    tab.get_by_role("radio", name=zoom).check()
    shown = []
    for value in (0, 100):
        place_at(tab, value)
        tab.locator(".window").evaluate("one => one.scrollTo(33, 17)")
        shown.append(picture(tab))
    assert np.ptp(shown[0]) > 200
    if zoom == "1×":  # the coarser one is smoothed there
        assert np.median(abs(shown[0] - shown[1])) < 30
        assert np.corrcoef(shown[0].ravel(), shown[1].ravel())[0, 1] > 0.8
    else:
        np.testing.assert_array_equal(shown[0], shown[1])
    boxes = [tab.locator(".layer img").nth(n).bounding_box() for n in (0, 1)]
    assert boxes[0] == boxes[1]


def test_zoom_layers_planes_and_places(opened: Open, page: Page) -> None:
    tab = opened(Page("blocks", [blocks()]))
    stage = tab.locator(".stage")
    for zoom in (1, 4):
        tab.get_by_role("radio", name=f"{zoom}×").check()
        assert stage.evaluate("one => one.offsetWidth") == zoom * 240
    tab.get_by_role("button", name="Place 1").click()
    assert stage.evaluate("one => one.offsetWidth") == 480
    mark = tab.locator(".frame:not(.off) .layer:not(.off) .mark").first.bounding_box()
    window = tab.locator(".window").bounding_box()
    assert window["x"] <= mark["x"] <= window["x"] + window["width"] - mark["width"]

    tab.get_by_label("Plane").focus()
    place_at(tab, 0)
    first = picture(tab, ".stage")[:300]
    tab.keyboard.press("ArrowRight")
    assert tab.get_by_label("Plane").get_attribute("aria-valuetext") == "plane 2"
    np.testing.assert_allclose(picture(tab, ".stage")[:300], 255 - first, atol=1)

    tab = opened(page)
    tab.get_by_role("radio", name="restored").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".tag.after").inner_text() == "taken away"
    assert "Mid-grey is 0" in tab.locator(".legend").inner_text()
    assert abs(picture(tab)[:, -100:].mean() - 128) < 8


def test_a_table_is_sorted_by_numbers_and_by_names(opened: Open, page: Page) -> None:
    tab = opened(page)

    def order() -> str:
        return "".join(tab.locator("tbody td:first-child").all_inner_texts())

    assert order() == "bacd"
    for name, orders in (("noise", ("cabd", "bacd")), ("image", ("abcd", "dcba"))):
        for wanted in orders:
            tab.get_by_role("button", name=name).press("Enter")
            assert order() == wanted


@pytest.fixture(scope="module")
def everything(page: Page) -> Page:
    """A page with each kind of part."""
    facts, listed = Facts([("width", "5 px")]), Text(["one", "two"], look="list")
    plot = plotted("A line", "It is straight.", _line)
    more = Section("blocks", [Text(["It is so."], look="soft"), listed, blocks(), plot, facts], "b")
    return Page(page.title, page.lead, [*page.sections, more])


def _line() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    return figure


@pytest.mark.parametrize("width", [375, 900, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everyone_at_every_width(
    opened: Open, everything: Page, width: int, scheme: str
) -> None:
    """The rules of axe-core: contrast, labels, roles. And nothing is wider than the screen."""
    # of the same extra, but the other tests here need the driver alone
    rules = pytest.importorskip("axe_playwright_python", reason="the rules of axe-core are absent")
    tab = opened(everything, width=width, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate((files(rules) / "axe.min.js").read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run()")
    broken = {one["id"]: one["nodes"][0]["html"] for one in found["violations"]}
    assert broken == {}
    assert len(found["passes"]) > 15


def test_paper_and_a_browser_without_scripts_show_both_side_by_side(
    opened: Open, page: Page
) -> None:
    printed = opened(page)
    printed.emulate_media(media="print")
    for tab in (printed, opened(page, java_script_enabled=False)):
        before, after = (tab.locator(".layer .field").nth(n).bounding_box() for n in (0, 1))
        assert before["y"] == after["y"]
        assert before["width"] == after["width"] > 300
        assert after["x"] >= before["x"] + before["width"]
        assert tab.locator("figcaption").first.is_visible()
        assert not tab.locator(".sliders").is_visible()


def test_touch_moves_the_border(opened: Open, page: Page) -> None:
    tab = opened(page, width=375, has_touch=True, is_mobile=True, device_scale_factor=3)
    border = tab.locator(".border").bounding_box()
    x, y = border["x"] + border["width"] / 2, border["y"] + 20
    session = tab.context.new_cdp_session(tab)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x + 60, "y": y}]),
        ("touchEnd", []),
    ):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    moved = tab.locator(".border").bounding_box()["x"] - border["x"]
    assert moved == pytest.approx(60, abs=4)
