"""Every photometric interpretation of TIFF: read as the grey that it means, or refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from tifffile import PHOTOMETRIC

from aeanet.io.images import ImageError, read_image

LUMA = np.array([0.299, 0.587, 0.114])
UNKNOWN = 77
READ = ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "SEPARATED", "YCBCR", "LINEAR_RAW")


def write(path: Path, values: NDArray, photometric: int, *tags: Any) -> Path:
    """A TIFF with a photometric interpretation that tifffile may not write."""
    shown = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(path, values, photometric=shown, extratags=tags, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[262].overwrite(int(photometric))
    return path


def meant(values: NDArray, photometric: PHOTOMETRIC) -> NDArray[np.float64]:
    """The grey from 0 to 1 that values mean, from the equations of TIFF 6.0 in float64."""
    white = np.iinfo(values.dtype).max
    share = values / white
    if photometric == PHOTOMETRIC.SEPARATED:
        return ((1 - share[..., :3]) * (1 - share[..., 3:])) @ LUMA
    if photometric == PHOTOMETRIC.YCBCR:
        luma, blue, red = np.moveaxis(values.astype(np.float64), -1, 0)
        blue, red = blue - (white + 1) // 2, red - (white + 1) // 2
        green = luma - 0.344136286 * blue - 0.714136286 * red
        rgb = np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], axis=-1)
        return rgb.clip(0, white) @ LUMA / white
    if values.ndim == 3:
        share = share[..., :3] @ LUMA
    return 1 - share if photometric == PHOTOMETRIC.MINISWHITE else share


@given(
    photometric=st.sampled_from([*PHOTOMETRIC, UNKNOWN]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    data=st.data(),
)
@settings(max_examples=150)
def test_every_photometric(
    tmp_path_factory: pytest.TempPathFactory,
    photometric: Any,
    dtype: type,
    data: st.DataObject,
) -> None:
    samples = {"RGB": 3, "YCBCR": 3, "SEPARATED": 4}.get(getattr(photometric, "name", ""), 1)
    shape = (5, 6) if samples == 1 else (5, 6, samples)
    values = data.draw(hnp.arrays(dtype, shape))
    values.flat[0] = np.iinfo(dtype).max  # so that 16 bits are not taken for 12
    path = tmp_path_factory.mktemp("photometric") / "a.tif"
    write(path, values, photometric, (530, "H", 2, (1, 1), True))

    if getattr(photometric, "name", "") not in READ:
        name = getattr(photometric, "name", str(UNKNOWN))
        with pytest.raises(ImageError, match=f"its colours are {name}: save it as grey or RGB"):
            read_image(path)
        return
    image = read_image(path)
    expected = meant(values, photometric)
    scale = image.high / np.iinfo(dtype).max
    np.testing.assert_allclose(image.pixels * scale, expected, atol=1.01 / np.iinfo(dtype).max)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "YCbCr"])
def test_what_pillow_writes(tmp_path: Path, mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    stored = Image.fromarray(colours).convert(mode)
    stored.save(tmp_path / "a.tif")
    shown = np.asarray(stored.convert("RGB"), float)
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(found.pixels, shown @ LUMA / 255, atol=1.5 / 255)
    assert found.colour

    grey = Image.fromarray(colours[..., 0])
    grey.convert("RGB").convert(mode).save(tmp_path / "b.tif")
    found = read_image(tmp_path / "b.tif")
    lost = 1.01 / 255 if mode == "YCbCr" else 1e-6  # Pillow itself rounds the luma down
    np.testing.assert_allclose(found.pixels, np.asarray(grey) / 255, atol=lost)
    assert not found.colour


def test_ycbcr_within_jpeg(tmp_path: Path) -> None:
    ramp = np.linspace(20, 230, 32 * 32).reshape(32, 32)
    colours = np.stack([ramp, ramp[::-1], ramp.T], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", compression="jpeg")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == PHOTOMETRIC.YCBCR
    np.testing.assert_allclose(
        read_image(tmp_path / "a.tif").pixels, colours @ LUMA / 255, atol=0.03
    )


def test_ycbcr_with_head_room_and_other_coefficients(tmp_path: Path) -> None:
    """As of video: 16 is black and 235 white, by the coefficients of ITU-R BT.709."""
    luma = np.tile(np.arange(16, 236, dtype=np.uint8), (4, 1))
    values = np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 128)], axis=-1)
    bounds = [value for bound in (16, 235, 128, 240, 128, 240) for value in (bound, 1)]
    weights = [value for share in (2126, 7152, 722) for value in (share, 10000)]
    tags = (530, "H", 2, (1, 1), True), (532, "2I", 6, bounds, True), (529, "2I", 3, weights, True)
    path = write(tmp_path / "a.tif", values, PHOTOMETRIC.YCBCR, *tags)
    np.testing.assert_allclose(read_image(path).pixels, (luma - 16) / 219, atol=0.6 / 255)


def test_colours_that_are_not_read_are_named(tmp_path: Path) -> None:
    four = np.zeros((5, 6, 4), np.uint8)
    cases = {
        "inks other than CMYK": (four, PHOTOMETRIC.SEPARATED, (332, "H", 1, 2, True)),
        "subsampled YCBCR": (four[..., :3].copy(), PHOTOMETRIC.YCBCR, (530, "H", 2, (2, 2), True)),
        "float32 values of SEPARATED": (four.astype(np.float32), PHOTOMETRIC.SEPARATED),
    }
    for reason, (values, photometric, *tags) in cases.items():
        path = write(tmp_path / "a.tif", values, photometric, *tags)
        with pytest.raises(ImageError, match=reason) as error:
            read_image(path)
        assert "damaged" not in str(error.value)
