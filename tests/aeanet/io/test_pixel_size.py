"""Pixel sizes, from files that tifffile and rosettasciio write with the tags of the makers, and as
OME-XML.
"""

from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rsciio.tiff
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from aeanet.io.makers import Header, stated_by_maker
from aeanet.io.mosaics import open_mosaic
from aeanet.io.pixel_size import PixelSize, ome_metadata, tiff_resolution

IMAGE = np.zeros((6, 8), np.uint8)
FEI = (
    "[Image]\r\nResolutionX=8\r\nResolutionY=6\r\n"
    "[Scan]\r\nPixelWidth=1.35e-09\r\nPixelHeight=1.4e-09\r\n"
)
ZEISS = "0\r\n0\r\n0\r\n{screen}\r\nAP_PIXEL_SIZE\r\nPixel Size = 24.65 nm\r\n{more}"


def pixel_size_of_tiff(file: tifffile.TiffFile) -> PixelSize | None:
    return stated_by_maker(Header.of_page(file, file.pages.first), "TIFF")[1].pixel_size


def read(**options: Any) -> PixelSize | None:
    """The pixel size of an image that tifffile writes with these options."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, IMAGE, photometric="minisblack", **options)
    with tifffile.TiffFile(BytesIO(buffer.getvalue())) as file:
        return pixel_size_of_tiff(file)


def maker_tag(code: int, text: str) -> dict[str, Any]:
    return {"extratags": [(code, 2, None, text.encode("cp1252"), True)], "metadata": None}


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ((2.5, 3.5, "nm"), PixelSize(2.5, 3.5, "nm")),
        ((0.25, -0.25, "um"), PixelSize(0.25, 0.25, "µm")),  # a flipped axis has a negative scale
        ((0.25, 0.25, "μm"), PixelSize(0.25, 0.25, "µm")),  # the Greek letter, not the micro sign
        (("1.6e-9", "1.7e-9", "m"), PixelSize(1.6, 1.7, "nm")),
        ((2e-5, 3e-5, "m"), PixelSize(20, 30, "µm")),
        ((5e-10, 4e-10, "m"), PixelSize(0.5, 0.4, "nm")),
        ((0.9, 0.9, "Angstrom"), PixelSize(0.9, 0.9, "Å")),
        ((0.2, 0.2, "1/nm"), None),
        ((1, 1, ""), None),
        ((1, 1, None), None),
        ((0, 1, "nm"), None),
        ((float("nan"), 1, "nm"), None),
        (("", "", "m"), None),
    ],
)
def test_only_lengths_count(written: tuple[Any, Any, Any], size: PixelSize | None) -> None:
    assert PixelSize.of(*written) == size


LENGTHS = {
    "nm": 1e-9,
    "µm": 1e-6,
    "um": 1e-6,
    "Å": 1e-10,
    "pm": 1e-12,
    "mm": 1e-3,
    "cm": 0.01,
    "m": 1,
}
LENGTHS |= {"nanometer": 1e-9, "micrometer": 1e-6, "angstrom": 1e-10, "in": 0.0254, "km": 1000}


@given(
    x=st.floats(1e-12, 1e-3),
    y=st.floats(1e-12, 1e-3),
    units=st.tuples(st.sampled_from(sorted(LENGTHS)), st.sampled_from(sorted(LENGTHS))),
)
def test_every_pair_of_units(x: float, y: float, units: tuple[str, str]) -> None:
    """Sides in metres, each stated in a unit of its own."""
    stated = [side / LENGTHS[unit] for side, unit in zip((x, y), units, strict=True)]
    size = PixelSize.of(*stated, *units)
    assert size is not None
    assert size.x * LENGTHS[size.unit] == pytest.approx(x, rel=1e-10)
    assert size.y * LENGTHS[size.unit] == pytest.approx(y, rel=1e-10)
    square = PixelSize.of(stated[0], None, units[0])
    assert square == PixelSize.of(None, stated[0], units[0])
    assert square is not None
    assert square.x == square.y
    assert PixelSize.of(*stated, units[0], "1/nm") is PixelSize.of(*stated, "px", units[1]) is None


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ({"X": 5.1, "XUnit": "nm", "Y": 0.0051, "YUnit": "µm"}, PixelSize(5.1, 5.1, "nm")),
        ({"X": 5, "XUnit": "nm", "Y": 0.004}, PixelSize(5, 4, "nm")),  # µm by the schema
        ({"X": 5, "XUnit": "nm"}, PixelSize(5, 5, "nm")),
        ({"Y": 5, "YUnit": "nm"}, PixelSize(5, 5, "nm")),
        ({"X": 10, "XUnit": "Å", "Y": 1, "YUnit": "nm"}, PixelSize(10, 10, "Å")),
        ({"X": 1, "XUnit": "pixel", "Y": 1, "YUnit": "pixel"}, None),
        ({"X": 1, "XUnit": "nm", "Y": 1, "YUnit": "pixel"}, None),
    ],
)
def test_what_ome_states_of_each_axis(stated: dict[str, Any], size: PixelSize | None) -> None:
    metadata = {f"PhysicalSize{name}": value for name, value in stated.items()}
    assert read(ome=True, metadata={"axes": "YX", **metadata}) == size


@pytest.mark.parametrize(
    ("units", "size"),
    [
        (("micrometer", "nanometer"), PixelSize(5, 4, "nm")),
        (("nanometer", "nanometer"), PixelSize(5, 0.004, "nm")),
        ((None, "nanometer"), PixelSize(5, 0.004, "nm")),
        (("nanometer", None), PixelSize(5, 0.004, "nm")),
        ((None, None), None),
        (("second", "nanometer"), None),
    ],
)
def test_what_ome_zarr_states_of_each_axis(
    tmp_path: Path, units: tuple[str | None, str | None], size: PixelSize | None
) -> None:
    axes = [
        {"name": name, "type": "space", "unit": unit}
        for name, unit in zip("yx", units, strict=True)
    ]
    scale = {"type": "scale", "scale": [0.004, 5.0]}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=IMAGE)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
    with open_mosaic(tmp_path / "a.zarr") as mosaic:
        assert mosaic.pixel_size == size


def test_magnified_and_said() -> None:
    size = PixelSize(5, 6, "nm").magnified(2)
    assert size == PixelSize(2.5, 3, "nm")
    assert str(size) == "2.5 x 3 nm"
    assert str(PixelSize(10 / 3, 10 / 3, "µm")) == "3.33333 µm"


@pytest.mark.parametrize(
    "size", [PixelSize(1.35, 1.4, "nm"), PixelSize(0.1, 0.1, "µm"), PixelSize(2, 2, "Å"), None]
)
def test_ome_holds_it_as_the_schema_says(size: PixelSize | None) -> None:
    buffer = BytesIO()
    tifffile.imwrite(buffer, IMAGE, photometric="minisblack", ome=True, metadata=ome_metadata(size))
    with tifffile.TiffFile(BytesIO(buffer.getvalue())) as file:
        assert pixel_size_of_tiff(file) == size
        pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
    assert pixels is not None
    found = [
        pixels.get(name)
        for name in ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit")
    ]
    assert found == (
        [None] * 4 if size is None else [str(size.x), str(size.y), size.unit, size.unit]
    )


@pytest.mark.parametrize(
    ("size", "micrometres"),
    [
        (PixelSize(1.35, 1.4, "nm"), (0.00135, 0.0014)),
        (PixelSize(0.1, 0.1, "µm"), (0.1, 0.1)),
        (PixelSize(1, 1, "mm"), (1000, 1000)),
        (PixelSize(3, 3, "pm"), (3e-6, 3e-6)),
    ],
)
def test_resolution_for_programs_without_ome(
    tmp_path: Path, size: PixelSize, micrometres: tuple[float, float]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None, **tiff_resolution(size))
    (signal,) = rsciio.tiff.file_reader(tmp_path / "a.tif", force_read_resolution=True)
    assert {axis["units"] for axis in signal["axes"]} == {"µm"}
    assert [axis["scale"] for axis in reversed(signal["axes"])] == pytest.approx(
        micrometres, rel=1e-6
    )


def test_resolution_is_left_out_where_tiff_cannot_hold_it() -> None:
    assert tiff_resolution(PixelSize(2, 2, "pm")) == tiff_resolution(None) == {}


def test_ome_without_a_unit_means_micrometres() -> None:
    assert read(ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5}) == PixelSize(
        0.5, 0.5, "µm"
    )


@pytest.mark.parametrize(
    ("unit", "known"), [("micron", "µm"), (r"\u00B5m", "µm"), ("nm", "nm"), ("inch", "in")]
)
def test_imagej(unit: str, known: str) -> None:
    size = read(imagej=True, resolution=(1 / 0.25, 1 / 0.5), metadata={"unit": unit})
    assert size == PixelSize(0.25, 0.5, known)


def test_imagej_without_calibration() -> None:
    assert read(imagej=True, resolution=(300, 300), resolutionunit="INCH") is None
    assert read(imagej=True, resolution=(1, 1), metadata={"unit": "pixel"}) is None


def test_dots_per_inch_are_not_the_specimen() -> None:
    assert read(resolution=(300, 300), resolutionunit="INCH") is None


@pytest.mark.parametrize("code", [34680, 34682])
def test_fei(code: int) -> None:
    assert read(**maker_tag(code, FEI)) == PixelSize(1.35, 1.4, "nm")
    assert read(**maker_tag(code, FEI.replace("1.35e-09", ""))) is None
    assert read(**maker_tag(code, "[Image]\r\nResolutionX=8\r\n")) is None


def test_zeiss_states_the_pixel_of_the_screen_too() -> None:
    image = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 12.33 nm\r\n"
    assert read(**maker_tag(34118, ZEISS.format(screen=2.465e-8, more=image))) == PixelSize(
        12.33, 12.33, "nm"
    )
    image = image.replace("nm", "µm")
    assert read(**maker_tag(34118, ZEISS.format(screen=2.465e-8, more=image))) == PixelSize(
        12.33, 12.33, "µm"
    )
    # 8 px in the place of 1024
    older = read(**maker_tag(34118, ZEISS.format(screen=2.465e-8, more="")))
    assert older == PixelSize(3.1552, 3.1552, "µm")


def test_rosettasciio_writes_for_imagej_and_for_digital_micrograph(tmp_path: Path) -> None:
    axes = [
        {
            "size": size,
            "name": name,
            "scale": scale,
            "offset": 0.0,
            "units": "nm",
            "navigate": False,
        }
        for size, name, scale in ((6, "y", 0.5), (8, "x", 0.25))
    ]
    rsciio.tiff.file_writer(tmp_path / "a.tif", {"data": IMAGE, "axes": axes, "metadata": {}})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert pixel_size_of_tiff(file) == PixelSize(0.25, 0.5, "nm")
        own = [file.pages.first.tags[code] for code in (65003, 65009, 65010)]  # DigitalMicrograph's
    tags = [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in own]
    assert read(extratags=tags, metadata=None) == PixelSize(0.25, 0.5, "nm")


def test_damaged_metadata_count_as_absent() -> None:
    assert read(description="<OME><Pixels", metadata=None) is None
    assert (
        read(description='<?xml version="1.0"?><OME><Pixels PhysicalSizeX="1"</OME>', metadata=None)
        is None
    )
    assert read(**maker_tag(34118, "AP_IMAGE_PIXEL_SIZE\r\nnonsense\r\n")) is None
    assert read(**maker_tag(34682, "\0\1\2")) is None
