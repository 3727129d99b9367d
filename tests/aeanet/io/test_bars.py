"""Information bars: drawn as several makers draw them they are cut off exactly; what is no bar
stays whole.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aeanet.data.synthetic import simulate_pair
from aeanet.io.images import PixelSize, read_image
from aeanet.io.images.bars import find_bar

BARS: dict[str, dict[str, Any]] = {
    "dark, white text": {"rows": 40, "paper": 0, "ink": 255},
    "dark, framed, in fields": {"rows": 59, "paper": 0, "ink": 255, "frame": True, "fields": True},
    "dark, line above": {"rows": 48, "paper": 0, "ink": 255, "line": 255},
    "dark grey, line above, logo": {"rows": 50, "paper": 30, "ink": 220, "line": 128, "logo": 90},
    "white, framed, logo": {"rows": 77, "paper": 255, "ink": 0, "frame": True, "logo": 70},
    "white, black line above, in fields": {
        "rows": 64,
        "paper": 255,
        "ink": 0,
        "line": 0,
        "fields": True,
    },
}


def draw(
    width: int,
    *,
    rows: int,
    paper: int,
    ink: int,
    line: int | None = None,
    frame: bool = False,
    fields: bool = False,
    logo: int | None = None,
) -> NDArray[np.uint8]:
    """A bar (rows, width) with two lines of smooth letters and a scale bar."""
    picture = Image.new("L", (width, rows), paper)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(0.3 * rows)
    pen.text(
        (8, 0.2 * rows), "HV 5.00 kV  mag 20 000 x  WD 4.1 mm"[: width // 10], fill=ink, font=font
    )
    pen.text((8, 0.55 * rows), "500 nm  12/03/2021"[: width // 10], fill=ink, font=font)
    pen.rectangle((0.7 * width, 0.5 * rows, 0.9 * width, 0.6 * rows), fill=ink)
    if logo is not None:
        pen.rectangle((0.92 * width, 0.15 * rows, 0.99 * width, 0.85 * rows), fill=logo)
    if frame:
        pen.rectangle((0, 0, width - 1, rows - 1), outline=ink)
    for x in range(width // 6, width, width // 6) if fields else ():
        pen.line((x, 0, x, rows), fill=ink)
    if line is not None:
        pen.rectangle((0, 0, width, 1), fill=line)
    return np.asarray(picture)


def as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.fixture(scope="module")
def specimens() -> list[NDArray[np.uint8]]:
    pairs = [simulate_pair(seed, shape=(354, 480)) for seed in range(3)]
    return [np.rint(image * 255).astype(np.uint8) for pair in pairs for image in (pair.lr, pair.hr)]


@pytest.mark.parametrize("look", BARS)
def test_bars_are_found_to_the_row(look: str, specimens: list[NDArray[np.uint8]]) -> None:
    for specimen in specimens:
        image = np.vstack([specimen, draw(specimen.shape[1], **BARS[look])])
        for same in (image, image.astype(np.uint16) * 257, image.astype(np.float32) * 3.5 - 100):
            assert find_bar(same) == BARS[look]["rows"]


@pytest.mark.parametrize("look", ["dark, white text", "dark, line above"])
def test_bars_are_found_in_jpeg(look: str, specimens: list[NDArray[np.uint8]]) -> None:
    for specimen in specimens:
        image = np.vstack([specimen, draw(specimen.shape[1], **BARS[look])])
        assert find_bar(as_jpeg(image, quality=90)) == BARS[look]["rows"]


def test_a_stray_row_below_belongs_to_the_bar(specimens: list[NDArray[np.uint8]]) -> None:
    bar = draw(480, **BARS["white, framed, logo"])
    assert find_bar(np.vstack([specimens[0], bar, specimens[0][:1]])) == len(bar) + 1


def adversaries(image: NDArray[np.uint8]) -> dict[str, NDArray]:
    """The image, and what resembles one with a bar but is none."""
    height, width = image.shape
    crisp = np.clip(image.astype(int) * 3 - 200, 0, 255).astype(np.uint8)
    blank = np.zeros((height // 8, width), np.uint8)
    return {
        "as it is": image,
        "upside down": image[::-1],
        "on its side": image.T,
        "saturated": crisp,
        "binary": (image > np.median(image)) * np.uint8(255),
        "bright spots": (image > np.percentile(image, 95)) * np.uint8(255),
        "blank strip below": np.vstack([image, blank]),
        "white strip below": np.vstack([image, blank + 255]),
        "darker strip below": np.vstack([image, image[: height // 8] // 16]),
        "one hot pixel": np.where(
            np.arange(image.size).reshape(image.shape) == 7, 60000, image.astype(np.uint16)
        ),
        "letters on the image": np.where(
            np.vstack(
                [np.zeros((height - 40, width), bool), draw(width, rows=40, paper=0, ink=255) > 0]
            ),
            255,
            image,
        ),
    }


def test_no_bar_is_seen_in_simulated_images(specimens: list[NDArray[np.uint8]]) -> None:
    for specimen in specimens:
        assert {
            name: find_bar(image)
            for name, image in adversaries(specimen).items()
            if find_bar(image)
        } == {}


@pytest.mark.real_data
def test_no_bar_is_seen_in_real_images(real_pairs: Path) -> None:
    files = sorted(real_pairs.glob("?r/*.png"))
    assert len(files) >= 2
    for file in files:
        image = np.asarray(Image.open(file))
        assert {
            name: find_bar(other) for name, other in adversaries(image).items() if find_bar(other)
        } == {}
        assert find_bar(as_jpeg(image, quality=75)) == 0


def test_no_bar_is_seen_where_there_is_no_specimen() -> None:
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (400, 300), dtype=np.uint8)
    for image in (
        np.zeros((400, 300), np.uint8),
        np.full((400, 300), 0.3, np.float32),
        np.tile(ramp, (300, 1)),
        np.tile(ramp, (300, 1)).T,
        np.add.outer(ramp // 2, ramp // 2),
        np.where(np.arange(400)[:, None] < 340, noise, 0),
        noise,
        noise[:1],
        noise[:30, :3],
        noise[:, :1],
    ):
        assert find_bar(image) == 0


def test_the_bar_is_cut_off_unless_it_is_to_be_kept(
    tmp_path: Path, specimens: list[NDArray[np.uint8]]
) -> None:
    # The letters, far brighter, must not set the range of values.
    specimen = specimens[0].astype(np.float32) + 1000
    bar = draw(480, **BARS["dark, white text"]).astype(np.float32) * 100
    size = {
        "PhysicalSizeX": 1.5,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 1.5,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(
        tmp_path / "a.tif", np.vstack([specimen, bar]), ome=True, metadata={"axes": "YX"} | size
    )
    cut, whole = read_image(tmp_path / "a.tif"), read_image(tmp_path / "a.tif", keep_bar=True)
    assert (cut.bar, whole.bar) == (40, 0)
    assert (cut.low, cut.high) == (specimen.min(), specimen.max())
    np.testing.assert_array_equal(cut.to_raw(cut.pixels), specimen)
    assert len(whole.pixels) == len(specimen) + 40
    assert cut.pixel_size == whole.pixel_size == PixelSize(1.5, 1.5, "nm")


@pytest.mark.parametrize(
    ("columns", "rows", "bar"),
    [(480, 354, 30), (480, 384, 0), (240, 177, 0), (480, 400, 0), (480, "", 0)],
)
def test_fei_states_the_height_of_the_specimen(
    tmp_path: Path, columns: int, rows: int | str, bar: int
) -> None:
    """Also of a specimen as black as the bar; not where the image was resized since."""
    image = np.vstack([np.zeros((354, 480), np.uint8), draw(480, rows=30, paper=0, ink=255)])
    size = f"[Image]\r\nResolutionX={columns}\r\nResolutionY={rows}\r\n"
    text = size + "[Scan]\r\nPixelWidth=2e-9\r\nPixelHeight=2e-9\r\n"
    tag = (34682, 2, None, text.encode(), True)
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="minisblack", extratags=[tag], metadata=None
    )
    found = read_image(tmp_path / "a.tif")
    assert (found.bar, found.kind, found.pixel_size) == (
        bar,
        "FEI / Thermo TIFF",
        PixelSize(2, 2, "nm"),
    )
    assert read_image(tmp_path / "a.tif", keep_bar=True).bar == 0
