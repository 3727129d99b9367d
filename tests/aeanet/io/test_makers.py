"""Each maker's size of a pixel and bar, from files put together as the maker writes them."""

import os
from collections.abc import Callable
from pathlib import Path

import maker_files as makers
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from maker_files import ASCII, GREY, HEIGHT, WIDTH, hitachi_text, jeol_text, tescan_text, tiff
from PIL import Image

from aeanet.io.images import PixelSize, read_image, write_image
from aeanet.io.mosaics import open_mosaic

WHOLE = slice(None), slice(None)
BAR = np.vstack([GREY, np.where(np.indices((8, WIDTH)).sum(0) % 3, 0, 255).astype(np.uint8)])


def size_of(path: Path) -> tuple[float, float, str] | None:
    size = read_image(path).pixel_size
    return size and (size.x, size.y, size.unit)


@pytest.mark.parametrize(
    ("write", "kind", "size"),
    [
        (makers.fei_camera, "FEI / Thermo TIFF", (264, 265, "µm")),
        (makers.thermo_xml, "FEI / Thermo TIFF", (2.5, 2.6, "nm")),
        (
            lambda path: makers.thermo_xml(path, below=True),
            "FEI / Thermo TIFF",
            (2.5, 2.6, "nm"),
        ),
        (makers.phenom, "Phenom TIFF", (25.5, 25.5, "nm")),
        (makers.tescan, "TESCAN TIFF", (4, 5, "nm")),
        (makers.sight_x, "JEOL TIFF", (0.0254e9 / 93 / 150000,) * 2 + ("nm",)),
        (makers.analysis_center, "JEOL TIFF", (0.31, 0.31, "nm")),
        (makers.olympus, "Olympus SIS TIFF", (0.2, 0.25, "nm")),
        (lambda path: makers.zeiss(path, 12.33), "Zeiss TIFF", (12.33, 12.33, "nm")),
    ],
)
def test_the_tiff_of_a_maker(
    tmp_path: Path, write: Callable[[Path], Path], kind: str, size: tuple[float, float, str]
) -> None:
    path = write(tmp_path / "a.tif")
    image = read_image(path)
    assert image.kind == kind
    assert size_of(path) == (pytest.approx(size[0]), pytest.approx(size[1]), size[2])
    written = write_image(tmp_path / "b.tif", image.pixels, like=image)
    assert size_of(written) == size_of(path)
    with open_mosaic(path) as mosaic:
        assert mosaic.pixel_size == image.pixel_size


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp", ".jpg"])
@pytest.mark.parametrize(
    ("ending", "text", "maker", "size"),
    [
        (".txt", hitachi_text(), "Hitachi", (24.8, 24.8, "nm")),
        (".TXT", hitachi_text(), "Hitachi", (24.8, 24.8, "nm")),
        (".txt", jeol_text("$CM_FIELD_OF_VIEW 0.04mm 0.03mm"), "JEOL", (0.001, 0.001, "mm")),
        (".txt", jeol_text("$CM_FIELD_OF_VIEW 0.04 0.03mm"), "JEOL", (0.001, 0.001, "mm")),
        (
            ".txt",
            jeol_text("$$SM_MICRON_BAR 160", "$$SM_MICRON_MARKER 5um"),
            "JEOL",
            (5 / 160, 5 / 160, "µm"),
        ),
        (".hdr", "[MAIN]\n" + makers.TESCAN.format(bar=0), "TESCAN", (4, 5, "nm")),
        ("-{}.hdr", "[MAIN]\n" + makers.TESCAN.format(bar=0), "TESCAN", (4, 5, "nm")),
    ],
)
def test_a_text_file_beside_the_image(
    tmp_path: Path,
    suffix: str,
    ending: str,
    text: str,
    maker: str,
    size: tuple[float, float, str],
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY).save(path)
    beside = path.with_name(path.stem + ending.format(suffix[1:]))
    for encoding in ("utf-8", "utf-16", "cp1252"):
        beside.write_text(text + "\r\nComment=10 µm\r\n", encoding=encoding)
        image = read_image(path)
        assert size_of(path) == (pytest.approx(size[0]), pytest.approx(size[1]), size[2])
        assert image.kind.startswith(f"{maker} ")


@pytest.mark.parametrize("code", [270, 37888])
def test_hitachi_in_a_tag(tmp_path: Path, code: int) -> None:
    path = tiff(tmp_path / "a.tif", (code, ASCII, hitachi_text().encode()))
    assert size_of(path) == (24.8, 24.8, "nm")


def test_phenom_in_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(GREY).save(path, comment=makers.PHENOM.format(bar=0))
    assert (size_of(path), read_image(path).kind) == ((25.5, 25.5, "nm"), "Phenom JPG")


def test_diffraction_patterns_have_no_length(tmp_path: Path) -> None:
    for path in (
        makers.sight_x(tmp_path / "a.tif", "DIFF", "400", "mm"),
        makers.analysis_center(tmp_path / "b.tif", "Diffraction"),
    ):
        assert (size_of(path), read_image(path).kind) == (None, "JEOL TIFF")


@pytest.mark.parametrize(
    "text", [hitachi_text(width=80), jeol_text("$CM_FIELD_OF_VIEW 4mm 3mm", width=80)]
)
def test_a_size_of_another_width_does_not_count(tmp_path: Path, text: str) -> None:
    path = tiff(tmp_path / "a.tif")
    path.with_suffix(".txt").write_text(text)
    assert size_of(path) is None
    assert read_image(path).bar == 0


def test_each_page_of_zeiss_has_its_own_size(tmp_path: Path) -> None:
    path = makers.zeiss(tmp_path / "a.tif", 12.33, 5.0)
    for number, side in (("1", 12.33), ("2", 5.0)):
        image = read_image(path, image=number)
        assert image.pixel_size == PixelSize(side, side, "nm")
        with open_mosaic(path, number) as mosaic:
            assert mosaic.pixel_size == image.pixel_size


def test_one_page_of_zeiss_may_speak_for_all(tmp_path: Path) -> None:
    path = makers.zeiss(tmp_path / "a.tif", 12.33, 0)
    assert read_image(path, image="2").pixel_size == PixelSize(12.33, 12.33, "nm")


@pytest.mark.parametrize("write", [makers.phenom, makers.tescan])
def test_a_stated_bar_is_cut_off_unless_it_was_before(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "a.tif", image=BAR, bar=8)
    assert (read_image(path).bar, read_image(path, keep_bar=True).bar) == (8, 0)
    with open_mosaic(path) as mosaic:
        assert mosaic.shape == GREY.shape
    with open_mosaic(path, keep_bar=True) as mosaic:
        assert mosaic.shape == BAR.shape
        np.testing.assert_array_equal(np.rint(mosaic.read(*WHOLE) * 255), BAR)
    for rows in (8, 0, HEIGHT, 1000):
        cropped = write(tmp_path / "b.tif", image=GREY, bar=rows)
        assert read_image(cropped).pixels.shape == GREY.shape


@pytest.mark.parametrize("text", [hitachi_text(), jeol_text()])
def test_rows_below_the_stated_picture_are_a_bar(tmp_path: Path, text: str) -> None:
    path = tiff(tmp_path / "a.tif", image=BAR)
    path.with_suffix(".txt").write_text(text)
    assert read_image(path).bar == 8


@pytest.mark.parametrize("text", [hitachi_text(height=3), jeol_text(height=3)])
def test_a_bar_that_would_be_most_of_the_image_is_none(tmp_path: Path, text: str) -> None:
    path = tiff(tmp_path / "a.tif")
    path.with_suffix(".txt").write_text(text)
    assert read_image(path).bar == 0


def test_the_bar_that_a_file_beside_the_image_states(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(BAR).save(path)
    tescan_text(path, bar=8, ending="-png.hdr")
    assert (read_image(path).bar, read_image(path).kind) == (8, "TESCAN PNG")


def test_other_files_beside_an_image_do_no_harm(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif")
    plain = read_image(path)
    beside = path.with_suffix(".txt")
    for content in (b"", b"notes", b"\0\xff" * 900, b"[SemImageFile]", b"$CM_FORMAT x"):
        beside.write_bytes(content)
        image = read_image(path)
        assert (image.pixel_size, image.bar) == (None, 0)
        np.testing.assert_array_equal(image.pixels, plain.pixels)
    for broken in ("PixelSize=x", "DataSize=40", "DataSize=40x30\nPixelSize="):
        beside.write_text("[SemImageFile]\n" + broken)
        assert read_image(path).pixel_size is None
    beside.unlink()
    beside.mkdir()
    os.mkfifo(path.with_suffix(".hdr"))  # to open it would wait for ever
    assert read_image(path).pixel_size is None


NAMES = (
    *("[SemImageFile]", "DataSize=", "PixelSize=", "PixelSizeX=", "PixelSizeY=", "ImageStripSize="),
    *("$CM_FORMAT ", "$CM_FULL_SIZE ", "$CM_FIELD_OF_VIEW ", "$$SM_MICRON_BAR "),
    *("$$SM_MICRON_MARKER ", "<TemReporter>", "<TemReporter2>", "<FeiImage>", "<Metadata>"),
)
VALUES = st.sampled_from(
    ("", "0", "-1", "1e400", "nan", "40x30", "40 30", "9" * 5000, "5um", "é\0")
)


@given(lines=st.lists(st.tuples(st.sampled_from(NAMES), VALUES | st.text(max_size=9)), max_size=6))
@settings(max_examples=40)
def test_whatever_is_stated_the_image_is_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]]
) -> None:
    """In a tag of each maker, and in a file beside the image."""
    text = "\n".join(name + value for name, value in lines).encode("utf-8", "replace")
    path = tmp_path_factory.mktemp("stated") / "a.tif"
    tags = [(code, ASCII, text or b" ") for code in (270, 34118, 34682, 34683, 37888)]
    tiff(path, *tags, (50431, makers.BYTE, text or b" "))
    for ending in (".txt", ".hdr"):
        path.with_suffix(ending).write_bytes(text)
    image = read_image(path)
    assert len(image.pixels) + image.bar == HEIGHT
    np.testing.assert_array_equal(image.to_raw(image.pixels), GREY[: len(image.pixels)])


def test_the_image_itself_speaks_before_a_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    size = {"axes": "YX", "PhysicalSizeX": 3.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(path, GREY, ome=True, metadata=size)
    path.with_suffix(".txt").write_text(hitachi_text())
    assert (size_of(path), read_image(path).kind) == ((3, 3, "nm"), "OME-TIFF")
