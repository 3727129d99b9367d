"""Micrographs in and out, against Pillow and tifffile as independent writers and readers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from aeanet.data.pairs import load_pairs
from aeanet.data.synthetic import SimulatedPair, simulate_pair
from aeanet.errors import PairError
from aeanet.io.images import ImageError, Micrograph, PixelSize, read_image, result_name, write_image
from aeanet.io.images.micrograph import value_range

RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)


def one_sentence(error: pytest.ExceptionInfo[ImageError], path: Path) -> None:
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_eight_bit_files_are_divided_by_255(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.pixels.dtype == np.float32
    assert (image.dtype, image.low, image.high) == (np.uint8, 0, 255)
    np.testing.assert_allclose(image.pixels, RAMP / 255, atol=1e-7)


def test_jpeg_is_read(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").pixels, RAMP / 255, atol=0.05)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_their_depth(tmp_path: Path, suffix: str) -> None:
    raw = np.arange(12 * 20, dtype=np.uint16).reshape(12, 20) * 257 + 3
    if suffix == ".tif":
        tifffile.imwrite(tmp_path / "a.tif", raw)
    else:
        Image.fromarray(raw).save(tmp_path / "a.png")
    image = read_image(tmp_path / f"a{suffix}")
    assert (image.dtype, image.high) == (np.uint16, 65535)
    np.testing.assert_allclose(image.pixels, raw / 65535, atol=1e-7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_becomes_luma(tmp_path: Path, mode: str) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[:, :2], colours[:, 2:4], colours[:, 4:] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    Image.fromarray(colours).convert(mode).save(tmp_path / "a.png")
    # A palette may round the colours.
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"), float)
    found = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(found.pixels, shown @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    assert found.colour


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_sixteen_bit_colour_tiff(tmp_path: Path, planar: str) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (10, 8, 3), dtype=np.uint16)
    raw = colours if planar == "contig" else np.moveaxis(colours, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", raw, photometric="rgb", planarconfig=planar)
    expected = colours @ np.array([0.299, 0.587, 0.114]) / 65535
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixels, expected, atol=1e-6)


def test_grey_stored_as_colour_stays_what_it_was(tmp_path: Path) -> None:
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / "rgb.png")
    table = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    tifffile.imwrite(tmp_path / "table.tif", RAMP, photometric="palette", colormap=table)
    tifffile.imwrite(tmp_path / "inverted.tif", 255 - RAMP, photometric="miniswhite")
    for name in ("rgb.png", "table.tif", "inverted.tif"):
        found = read_image(tmp_path / name)
        np.testing.assert_array_equal(found.pixels, (RAMP / 255).astype(np.float32))
        assert not found.colour


def test_floats_beyond_one_are_brought_to_the_unit_range(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RAMP.astype(np.float32) * 10 - 50)
    image = read_image(tmp_path / "a.tif")
    assert (image.low, image.high) == (-50, 2340)
    np.testing.assert_allclose(image.pixels, RAMP / 239, atol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", np.linspace(0.2, 0.4, 20, dtype=np.float32).reshape(4, 5))
    assert read_image(tmp_path / "b.tif").pixels[0, 0] == np.float32(0.2)


@pytest.mark.parametrize(
    ("dtype", "values", "black_and_white"),
    [
        (np.bool_, (0, 1), (0, 1)),
        (np.uint8, (3, 9), (0, 255)),
        (np.int8, (-3, 9), (-128, 127)),
        (np.int8, (3, 9), (0, 127)),
        (np.uint16, (0, 4096), (0, 65535)),
        (np.uint16, (0, 4095), (0, 4095)),  # a detector of 12 bits
        (np.int16, (0, 4096), (0, 32767)),
        (np.int16, (0, 4095), (0, 4095)),
        (np.int16, (-1, 9), (-32768, 32767)),
        (np.uint32, (29407, 36106), (29407, 36106)),  # counts
        (np.int64, (-5, 36106), (-5, 36106)),
        (np.float32, (0.2, 0.4), (0, 1)),
        (np.float32, (0.2, 1.5), (0.2, 1.5)),
        (np.float64, (7, 7), (7, 8)),
    ],
)
def test_each_type_has_its_black_and_white(
    dtype: type, values: tuple[float, float], black_and_white: tuple[float, float]
) -> None:
    assert value_range(np.dtype(dtype), *values) == black_and_white


def test_twelve_bits_in_sixteen_are_as_bright_as_eight(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RAMP.astype(np.uint16) * 16)
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(image.pixels, RAMP / 255, atol=1 / 255)
    again = tifffile.imread(write_image(tmp_path / "b.tif", image.pixels, like=image))
    np.testing.assert_array_equal(again, RAMP.astype(np.uint16) * 16)


@given(
    raw=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 9), st.integers(1, 9))
    )
)
def test_what_is_read_is_written_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, raw: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("round")
    for suffix in (".png", ".tif"):
        source = folder / f"a{suffix}"
        tifffile.imwrite(source, raw) if suffix == ".tif" else Image.fromarray(raw).save(source)
        image = read_image(source)
        again = read_image(write_image(folder / f"b{suffix}", image.pixels, like=image))
        assert again.dtype == raw.dtype
        np.testing.assert_array_equal(np.rint(again.pixels * np.float64(again.high)), raw)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "f2", "u8", "i8"]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_keeps_every_type(tmp_path: Path, dtype: str, order: str) -> None:
    """But for half floats and 64-bit integers, which OME does not know and which become wider
    floats.
    """
    raw = np.arange(0 if dtype[0] == "u" else -60, 120, dtype=dtype).reshape(-1, 12)
    tifffile.imwrite(tmp_path / "a.tif", raw, byteorder=order, photometric="minisblack")
    image = read_image(tmp_path / "a.tif")
    again = tifffile.imread(write_image(tmp_path / "b.tif", image.pixels, like=image))
    assert image.dtype == again.dtype == {"f2": "f4", "u8": "f8", "i8": "f8"}.get(dtype, dtype)
    np.testing.assert_allclose(again, raw, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_imagej_in_ome_out(tmp_path: Path, dtype: type) -> None:
    raw = np.random.default_rng(0).integers(0, np.iinfo(np.uint16).max, (30, 20)).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        raw,
        imagej=True,
        resolution=(1 / 0.25, 1 / 0.5),
        metadata={"unit": "micron"},
    )
    image = read_image(tmp_path / "a.tif")
    assert (image.kind, image.pixel_size) == ("ImageJ TIFF", PixelSize(0.25, 0.5, "µm"))
    target = write_image(tmp_path / result_name("a.tif"), image.pixels, like=image, magnification=2)
    again = read_image(target)
    assert (again.kind, again.pixel_size, again.dtype) == (
        "OME-TIFF",
        PixelSize(0.125, 0.25, "µm"),
        dtype,
    )
    np.testing.assert_allclose(tifffile.imread(target), raw, rtol=1e-6, atol=0.01)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    raw = np.arange(12 * 20, dtype=np.uint16).reshape(12, 20) * 257
    Image.fromarray(raw).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif").pixels, (raw / 65535).astype(np.float32)
    )


def test_a_preview_beside_the_image_is_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RAMP, photometric="minisblack", metadata=None)
        file.write(RAMP[::4, ::4], photometric="minisblack", subfiletype=1, metadata=None)
    assert read_image(tmp_path / "a.tif").pixels.shape == RAMP.shape


def test_results_are_named_after_what_they_can_hold() -> None:
    for name in ("a.tif", "b/a.TIFF", "a.dm3", "a.emd", "a.mrc"):
        assert result_name(name) == "a.tif"
    for name in ("a.png", "a.bmp", "b/a.JPG", "a.jpeg"):
        assert result_name(name) == "a.png"
    assert result_name("a.ome.tif") == "a.ome.tif"


def test_values_outside_the_range_are_clipped(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.array([[-0.5, 0.5, 1.5]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_images_are_refused(tmp_path: Path, bad: float) -> None:
    raw = np.ones((5, 5), np.float32)
    raw[2, 3] = bad
    tifffile.imwrite(tmp_path / "a.tif", raw)
    with pytest.raises(ImageError, match="NaN or infinite") as error:
        read_image(tmp_path / "a.tif")
    one_sentence(error, tmp_path / "a.tif")
    with pytest.raises(ImageError, match="finite"):
        write_image(tmp_path / "b.tif", raw)
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_damaged_files_are_refused_quietly(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for content in (b"", b"not an image at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ImageError) as error:
            read_image(path)
        one_sentence(error, path)
    assert capfd.readouterr() == ("", "")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack"
    )
    tifffile.imwrite(
        tmp_path / "imagej.tif",
        RAMP,
        description="ImageJ=1.53t\nimages=40\nslices=40\n",
        metadata=None,
    )
    tifffile.imwrite(tmp_path / "complex.tif", np.zeros((8, 8), np.complex64))
    for name, reason in {
        "missing.png": "No such file",
        "notes.txt": "known kind",
        "folder.png": "directory",
        "stack.tif": "holds 3 images",
        "imagej.tif": "holds 40 images",  # more than 4 GB of them are described once
        "complex.tif": "complex64 values",
    }.items():
        with pytest.raises(ImageError, match=reason) as error:
            read_image(tmp_path / name)
        one_sentence(error, tmp_path / name)


def test_a_kind_that_cannot_hold_the_type_is_refused(tmp_path: Path) -> None:
    like = Micrograph(np.zeros((2, 2), np.float32), np.dtype(np.uint16), 0, 65535)
    with pytest.raises(ImageError, match="cannot hold uint16") as error:
        write_image(tmp_path / "a.jpg", np.zeros((2, 2)), like=like)
    assert "use .tif" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as error:
        write_image(tmp_path / "none" / "a.png", np.zeros((2, 2)))
    one_sentence(error, tmp_path / "none" / "a.png")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = write_image(tmp_path / "a.png", np.zeros((4, 4)))
    before = target.read_bytes()
    script = """
import resource, signal, sys
import numpy as np
from aeanet.io.images import ImageError, write_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
# every file larger than 1000 bytes fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_image(sys.argv[1], np.random.default_rng(0).random((100, 100)))
except ImageError as error:
    sys.exit(str(error))
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def folder_of_a_pair(folder: Path, bits: int) -> SimulatedPair:
    """A pair whose LR has 8 bits, and whose HR has `bits` of 16."""
    scene = simulate_pair(3, shape=(240, 320))
    for kind, pixels, white in (("lr", scene.lr, 255), ("hr", scene.hr, 2**bits - 1)):
        (folder / kind).mkdir()
        raw = np.rint(pixels * white).astype(np.uint8 if white == 255 else np.uint16)
        tifffile.imwrite(folder / kind / "a.tif", raw)
    return scene


@pytest.mark.parametrize("bits", [12, 16])
def test_a_pair_of_8_bits_with_16_or_12_of_16(tmp_path: Path, bits: int) -> None:
    """12 of 16 bits are as bright as 8."""
    scene = folder_of_a_pair(tmp_path, bits)
    (pair,) = load_pairs(tmp_path).pairs
    assert pair.hr.mean() == pytest.approx(scene.hr.mean(), rel=1e-3)


@pytest.mark.parametrize(("bits", "white"), [(14, 65535), (10, 4095)])
def test_a_pair_that_would_teach_a_network_to_darken_is_refused(
    tmp_path: Path, bits: int, white: int
) -> None:
    folder_of_a_pair(tmp_path, bits)
    with pytest.raises(
        PairError, match=r"LR is uint8 with a mean of \d+\.\d% of its range from 0 to 255"
    ) as error:
        load_pairs(tmp_path)
    assert f"of its range from 0 to {white}, so they differ " in str(error.value)
    assert str(error.value).endswith("bring both to the same bit depth and range first.")
