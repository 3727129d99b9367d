"""Pages without a browser: what they hold, their size, and that they need nothing else."""

import re
from dataclasses import replace

import numpy as np
import pytest
from pages import Read, micrograph, restored_of

from aeanet.io.pixel_size import PixelSize
from aeanet.page import (
    Cell,
    Facts,
    Page,
    Plot,
    Section,
    Table,
    Text,
    fitting,
    grey,
    page_html,
    reduced,
)
from aeanet.page.plots import plotted
from aeanet.page.scale import scale_bar
from aeanet.page.views import views_of
from aeanet.trust import estimate_noise


def test_a_restoration_fits_into_its_size_and_keeps_its_grey_levels() -> None:
    image, result = micrograph((944, 1280))
    views = views_of(restored_of(image, result), image, result, estimate_noise(image))
    text = page_html(Page("a.png", views))
    assert len(text.encode()) <= 6_000_000

    read = Read(text)
    assert [alt for alt, _ in read.images] == [
        "a.png as it was recorded",
        "a.png restored",
        "What was taken away from a.png",
        "What was taken away from a.png, in multiples of its noise",
    ]
    before, after = (np.asarray(read.picture(number).convert("L")) for number in (0, 1))
    limits = np.percentile(result, (0.1, 99.9))
    for shown, truth, error in ((before, image, 0.6), (after, result, 2)):
        assert shown.shape == truth.shape
        wanted = 255 * ((truth - limits[0]) / (limits[1] - limits[0])).clip(0, 1)
        assert np.sqrt(np.mean((shown - wanted) ** 2)) < error
    assert read.picture(2).size == (1280, 944)


@pytest.mark.parametrize(
    ("size", "width", "share", "text"),
    [
        (PixelSize(4.0, 4.0, "nm"), 1000, 0.25, "1 µm"),
        (PixelSize(4.0, 4.0, "nm"), 999, 500 / 3996, "500 nm"),
        (PixelSize(0.05, 0.05, "µm"), 1600, 20 / 80, "20 µm"),
        (PixelSize(1.0, 1.0, "in"), 10, 50 / 254, "50 mm"),
        (PixelSize(0.2, 0.3, "Å"), 128, 0.5 / 2.56, "500 pm"),
    ],
)
def test_a_scale_bar_is_a_round_length(
    size: PixelSize, width: int, share: float, text: str
) -> None:
    bar = scale_bar(size, width)
    assert bar is not None
    assert bar.share == pytest.approx(share)
    assert bar.text == text
    image, result = micrograph((80, 96))
    restored = restored_of(image, result)
    assert restored.source is not None
    source = replace(restored.source, pixel_size=PixelSize(20.0, 20.0, "nm"))
    restored = replace(restored, source=source)
    page = page_html(Page("a", views_of(restored, image, result, estimate_noise(image))))
    assert page.count(">200 nm</span>") == 4  # 96 px are 1,920 nm; a bar in each picture
    assert scale_bar(None, width) is None


def test_a_page_needs_nothing_else_and_names_its_controls() -> None:
    image, result = micrograph((80, 96))
    view = views_of(restored_of(image, result), image, result, estimate_noise(image))
    hostile = "<script>alert(1)</script> & \x07"
    cells = [[Cell(hostile, link="s"), Cell("5", value=5.0)]]
    table = Table(["name", hostile], cells, sortable=True, files={"a.csv": "name\n"})
    figure = plotted("A line", hostile, _line)
    parts = [Text([hostile], look="warning"), *view, table, Facts([(hostile, hostile)]), figure]
    text = page_html(Page(hostile, [], [Section(hostile, parts, "s")]))

    read = Read(text)
    assert read.open == []
    assert all(address.startswith(("data:", "#s")) for address in read.addresses)
    assert not re.search(r"@import|url\(|https?:", text)
    assert "default-src 'none'" in text
    assert text.count("<script>") == 1
    assert read.text.count("alert(1)") == text.count("&lt;script&gt;")
    assert "\x07" not in text
    assert read.bare == []
    assert all(alt is not None for alt, _ in read.images)


def _line() -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    return figure


def test_a_page_without_views_has_no_script() -> None:
    plain = Table(["a"], [[Cell("1")]])
    assert "<script" not in page_html(Page("a", [plain]))
    assert "<script" in page_html(Page("a", [Table(["a"], [[Cell("1")]], sortable=True)]))


@pytest.mark.parametrize("most", [200_000, 70_000, 3_000])
def test_a_picture_keeps_to_its_size(most: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)
    picture = fitting(noise, most)
    assert len(picture.content) <= most
    assert (picture.width == 400) is (most > 10_000)
    assert picture.width / picture.height == pytest.approx(400 / 300, rel=0.1)


def test_an_image_that_is_read_in_strips_is_reduced_without_a_shift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aeanet.page.pictures._STRIP", 500)
    rows, columns = np.mgrid[:123, :101]
    image = (3 * rows + 2 * columns).astype(np.float32)
    small = reduced(lambda y, x: image[y, x], image.shape, 1500)
    assert small.size <= 1500
    # Each pixel is cut into as many parts as the result has pixels.
    height, width = small.shape
    parts = image.repeat(height, 0).reshape(height, 123, 101).mean(1)
    wanted = parts.repeat(width, 1).reshape(height, width, 101).mean(2)
    np.testing.assert_allclose(small, wanted, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(reduced(lambda y, x: image[y, x], image.shape), image)


def test_a_large_image_is_shown_reduced_with_its_middle_at_full_resolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aeanet.page.views.LARGEST", 20_000)
    monkeypatch.setattr("aeanet.page.views._OVERVIEW", 5_000)
    monkeypatch.setattr("aeanet.page.views._DETAIL", 70)
    image, result = micrograph((100, 120))
    whole, detail = views_of(restored_of(image, result), image, result, estimate_noise(image))
    assert "reduced from 240 x 200 to" in whole.note
    assert (whole.width, whole.height) == (240, 200)
    assert (detail.width, detail.height) == (140, 140)
    assert [layer.name for layer in detail.frames[0].layers] == [
        *("before", "restored", "taken away", "against noise")
    ]
    read = Read(page_html(Page("a", [detail])))
    middle = result[30:170, 50:190]
    low, high = np.percentile(middle, (0.1, 99.9))
    shown = np.asarray(read.picture(1).convert("L")).astype(int)
    assert np.abs(shown - grey(middle, (float(low), float(high)))).max() <= 1


def test_a_plot_is_drawn_for_both_grounds() -> None:
    figure = plotted("A line", "", _line)
    assert isinstance(figure, Plot)
    assert (figure.light.width, figure.light.height) == (400, 200)
    assert figure.light.content != figure.dark.content
