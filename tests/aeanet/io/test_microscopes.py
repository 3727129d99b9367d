"""Formats of microscope makers in, OME-TIFF out."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import tifffile
from microscope_files import bcf, dm3, dm4, emd, mrc, ser
from toys import aeanet

from aeanet.io.images import SUFFIXES, ImageError, PixelSize, read_image, result_name, write_image
from aeanet.io.pixel_size import ome_metadata
from aeanet.networks.registry import build_model, save_model

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 65536, (20, 30)).astype(np.uint16)


BCF_TREE = 0x138 + 4096  # where that of `microscope_files.bcf` begins


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("build", "size", "unit", "known"),
    [
        (dm3, (0.5, 0.25), "nm", PixelSize(0.5, 0.25, "nm")),
        (dm3, (0.5, 0.5), "µm", PixelSize(0.5, 0.5, "µm")),
        (dm4, (0.5, 0.25), "nm", PixelSize(0.5, 0.25, "nm")),
        (bcf, (0.5, 0.25), "µm", PixelSize(0.5, 0.25, "µm")),
        (mrc, (5.0, 2.5), "Å", PixelSize(0.5, 0.25, "nm")),
        (ser, (2e-9, 4e-9), "m", PixelSize(2, 4, "nm")),
    ],
)
def test_pixels_and_their_size_reach_the_ome_tiff(
    tmp_path: Path,
    build: Callable[..., bytes],
    size: tuple[float, float],
    unit: str,
    known: PixelSize,
) -> None:
    source = tmp_path / f"a.b.{build.__name__}"
    source.write_bytes(build(DEEP, size, unit))
    image = read_image(source)
    assert image.pixel_size is not None
    assert (image.pixel_size.x, image.pixel_size.y) == (
        pytest.approx(known.x),
        pytest.approx(known.y),
    )
    assert (image.pixel_size.unit, image.dtype, image.bar) == (known.unit, np.uint16, 0)
    assert image.kind
    np.testing.assert_array_equal(image.to_raw(image.pixels), DEEP)

    assert result_name(source) == "a.b.tif"
    target = write_image(
        tmp_path / "a.tif", image.pixels.repeat(2, 0).repeat(2, 1), like=image, magnification=2
    )
    with tifffile.TiffFile(target) as file:
        np.testing.assert_array_equal(file.asarray(), DEEP.repeat(2, 0).repeat(2, 1))
        written = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
    assert written is not None
    assert float(written.attrib["PhysicalSizeX"]) == pytest.approx(known.x / 2)
    assert float(written.attrib["PhysicalSizeY"]) == pytest.approx(known.y / 2)
    assert written.attrib["PhysicalSizeXUnit"] == written.attrib["PhysicalSizeYUnit"] == known.unit


def test_emd(tmp_path: Path) -> None:
    image = read_image(emd(tmp_path / "a.emd", DEEP))
    assert image.pixel_size == PixelSize(0.5, 0.5, "nm")
    np.testing.assert_array_equal(image.to_raw(image.pixels), DEEP)


def test_emd_with_a_unit_for_each_axis(tmp_path: Path) -> None:
    image = read_image(emd(tmp_path / "a.emd", DEEP, unit="nm", last_unit="Å"))
    assert image.pixel_size == PixelSize(0.5, 5, "Å")


def test_one_real_image_among_other_signals_is_the_one_meant(tmp_path: Path) -> None:
    spectrum, transform = np.zeros(64, np.float32), np.zeros((20, 11), np.complex64)
    image = read_image(emd(tmp_path / "a.emd", spectrum, DEEP, transform))
    np.testing.assert_array_equal(image.to_raw(image.pixels), DEEP)


def test_a_stack_of_one_is_an_image(tmp_path: Path) -> None:
    image = read_image(emd(tmp_path / "a.emd", DEEP[None]))
    np.testing.assert_array_equal(image.to_raw(image.pixels), DEEP)


def test_other_numbers_of_images_are_refused(tmp_path: Path) -> None:
    stack = refusal(emd(tmp_path / "stack.emd", np.zeros((3, 20, 30), np.uint8)))
    assert "one 2-D image is wanted, it holds signal0 (3 x 20 x 30 uint8)" in stack
    several = refusal(emd(tmp_path / "several.emd", DEEP, DEEP))
    assert "it holds signal0 (20 x 30 uint16), signal1 (20 x 30 uint16)" in several
    assert "signal0 (50 float32)" in refusal(
        emd(tmp_path / "spectrum.emd", np.zeros(50, np.float32))
    )


def test_complex_and_not_finite_values_are_refused(tmp_path: Path) -> None:
    assert "complex64 values" in refusal(
        emd(tmp_path / "transform.emd", np.zeros((20, 30), np.complex64))
    )
    assert "NaN" in refusal(emd(tmp_path / "nan.emd", np.full((20, 30), np.nan, np.float32)))


@pytest.mark.parametrize("unit", ["1/nm", "", "s"])
def test_what_is_no_length_is_no_pixel_size(tmp_path: Path, unit: str) -> None:
    (tmp_path / "a.dm3").write_bytes(dm3(DEEP, (0.5, 0.5), unit))
    image = read_image(tmp_path / "a.dm3")
    assert image.pixel_size is None
    written = read_image(write_image(tmp_path / "a.tif", image.pixels, like=image, magnification=2))
    assert (written.pixel_size, written.kind) == (None, "OME-TIFF")


@pytest.mark.parametrize(
    ("cell", "samples"), [((0.0, 0.0), 1), ((-10.0, -10.0), 1), ((0.0, 0.0), 0)]
)
def test_mrc_without_calibration(tmp_path: Path, cell: tuple[float, float], samples: int) -> None:
    (tmp_path / "a.mrc").write_bytes(mrc(DEEP, cell, samples=samples))
    assert read_image(tmp_path / "a.mrc").pixel_size is None


@pytest.mark.parametrize("build", [dm3, dm4, mrc, ser, bcf, emd])
def test_damaged_files_are_refused(
    tmp_path: Path, build: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{build.__name__}"
    whole = emd(path, DEEP).read_bytes() if build is emd else build(DEEP, (0.5, 0.5), "nm")
    for content in (
        b"",
        b"no image at all",
        whole[:40],
        whole[: len(whole) // 2],
        whole[: -len(whole) // 8],
    ):
        path.write_bytes(content)
        refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("place", "pack", "number", "reason"),
    [
        (0x144, "<I", 2**31, "the tree of the files in it is damaged"),
        (0x128, "<I", 33, "the tree of the files in it is damaged"),
        (0x140, "<I", 2**31, "the tree of the files in it is cut short"),
        (BCF_TREE + 40, "<i", 0, "folders in it lie in one another"),
        (BCF_TREE + 512 + 40, "<i", -2, "folders in it lie in one another or nowhere"),
        (BCF_TREE + 512 + 4, "<Q", 2**30, "it states files that are longer than itself"),
    ],
)
def test_a_bruker_file_that_would_never_be_read_to_its_end(
    tmp_path: Path, place: int, pack: str, number: int, reason: str
) -> None:
    content = bytearray(bcf(DEEP, (0.5, 0.5)))
    struct.pack_into(pack, content, place, number)
    (tmp_path / "a.bcf").write_bytes(content)
    assert reason in refusal(tmp_path / "a.bcf")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    for suffix in (*SUFFIXES, ".npy", ".npz", ".pkl", ".hspy", ".nc", ".py"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(pickle.dumps(Trap()))
        refusal(path)
    objects = tmp_path / "objects.emd"
    with h5py.File(emd(objects, DEEP), "r+") as file:
        del file["signals/signal0/data"]
        file["signals/signal0/data"] = np.frombuffer(pickle.dumps(Trap()), np.uint8)
    refusal(objects)
    assert not (tmp_path / "sprung").exists()


def test_predict_halves_the_pixels(tmp_path: Path) -> None:
    """DigitalMicrograph, OME-TIFF and FEI's TIFF in, OME-TIFF out; the last with a bar of which its
    tags tell.
    """
    model = build_model("gvtnet")
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    (tmp_path / "dm.dm3").write_bytes(dm3(DEEP, (0.5, 0.25), "nm"))
    size = ome_metadata(PixelSize(0.5, 0.25, "nm"))
    tifffile.imwrite(tmp_path / "ome.tif", DEEP, photometric="minisblack", ome=True, metadata=size)
    text = (
        b"[Image]\nResolutionX=30\nResolutionY=16\n[Scan]\nPixelWidth=5e-10\nPixelHeight=2.5e-10\n"
    )
    tags = [(34682, 2, None, text, True)]
    tifffile.imwrite(
        tmp_path / "fei.tif", DEEP, photometric="minisblack", extratags=tags, metadata=None
    )
    images = [str(tmp_path / name) for name in ("dm.dm3", "ome.tif", "fei.tif")]
    result = aeanet("predict", tmp_path / "run", *images, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for name, height in (("dm", 20), ("ome", 20), ("fei", 16)):
        restored = read_image(tmp_path / "out" / f"{name}.tif")
        assert (restored.kind, restored.dtype) == ("OME-TIFF", np.uint16)
        assert restored.pixels.shape == (2 * height, 60)
        assert restored.pixel_size is not None
        assert (restored.pixel_size.x, restored.pixel_size.y) == pytest.approx((0.25, 0.125))
        assert restored.pixel_size.unit == "nm"
