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

from aeanet.images import ImageError, Micrograph, read_image, write_image

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
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"), float)  # a palette may round the colours
    np.testing.assert_allclose(read_image(tmp_path / "a.png").pixels, shown @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


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
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, (RAMP / 255).astype(np.float32))


def test_floats_beyond_one_are_brought_to_the_unit_range(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RAMP.astype(np.float32) * 10 - 50)
    image = read_image(tmp_path / "a.tif")
    assert (image.low, image.high) == (-50, 2340)
    np.testing.assert_allclose(image.pixels, RAMP / 239, atol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", np.linspace(0.2, 0.4, 20, dtype=np.float32).reshape(4, 5))
    assert read_image(tmp_path / "b.tif").pixels[0, 0] == np.float32(0.2)


@given(raw=hnp.arrays(st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_what_is_read_is_written_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, raw: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("round")
    for suffix in (".png", ".tif"):
        source = folder / f"a{suffix}"
        tifffile.imwrite(source, raw) if suffix == ".tif" else Image.fromarray(raw).save(source)
        image = read_image(source)
        again = read_image(write_image(folder / f"b{suffix}", image.pixels, like=image))
        assert again.dtype == raw.dtype
        np.testing.assert_array_equal(np.rint(again.pixels * np.float64(again.high)), raw)


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
def test_damaged_files_are_refused_quietly(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
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
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    for name, reason in {
        "missing.png": "No such file",
        "notes.txt": "known kind",
        "folder.png": "directory",
        "stack.tif": "holds 3 images",
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
from aeanet.images import ImageError, write_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # every file larger than 1000 bytes fails, as on a full disk
try:
    write_image(sys.argv[1], np.random.default_rng(0).random((100, 100)))
except ImageError as error:
    sys.exit(str(error))
"""
    result = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]
