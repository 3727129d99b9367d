"""`aeanet restore --error`: the standard error of each pixel, as a file and on the page."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from toy_stacks import volume, write_volume
from toys import aeanet, assert_one_sentence

import aeanet as package
from aeanet.data.synthetic import simulate_image
from aeanet.inference.stack_errors import StackErrors
from aeanet.io.images import read_image
from aeanet.io.pixel_size import PixelSize, ome_metadata
from aeanet.io.stacks import Stack
from aeanet.networks.error import load_error_network
from aeanet.networks.registry import save_model


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A noisy image of 12 bits, 4 nm a pixel."""
    monkeypatch.chdir(tmp_path)
    lr = simulate_image(11, (64, 80), kind="mixed", magnification=2.0).lr
    size = ome_metadata(PixelSize(4.0, 4.0, "nm"))
    tifffile.imwrite("a.tif", np.rint(lr * 4095).astype(np.uint16), ome=True, metadata=size)
    return "a.tif"


def test_it_is_a_file_in_the_values_of_the_image(image: str) -> None:
    done = aeanet("restore", image, "--error", "--magnification", 1.5)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == ["restored/a.tif"]
    assert "restored/a-error.tif: the standard error of each pixel, median " in done.stderr

    with tifffile.TiffFile("restored/a-error.tif") as file:
        values, described = file.asarray(), file.ome_metadata
    assert values.dtype == np.float32
    expected = package.estimate_error("sem", read_image(image).pixels, magnification=1.5)
    np.testing.assert_allclose(values, 4095 * expected, rtol=1e-3, equal_nan=True)
    assert str(read_image("restored/a-error.tif").pixel_size) == "2.66667 nm"
    assert described is not None
    assert "68 % of the true values lie within it" in described


def test_a_file_that_is_there_is_kept(image: str) -> None:
    Path("restored").mkdir()
    Path("restored/a-error.tif").write_text("mine")
    done = aeanet("restore", image, "--error", "--flips", 1)
    assert done.exit_code == 0
    assert "The standard error is not written: restored/a-error.tif is already there" in done.stderr
    assert Path("restored/a-error.tif").read_text() == "mine"


def test_where_the_image_is_warned_of_it_is_not_known(image: str) -> None:
    """A regular pattern at the limit of resolution in a part of a flat image, which is lost."""
    y, x = np.mgrid[:192, :256]
    noisy = 0.5 + np.random.default_rng(0).normal(0, 0.03, y.shape)
    noisy[60:120, 100:180] += (0.2 * np.sin(2.2 * y) * np.sin(2.3 * x))[60:120, 100:180]
    tifffile.imwrite("lost.tif", (255 * noisy).clip(0, 255).astype(np.uint8))
    done = aeanet("restore", "lost.tif", "--error", "--magnification", 1)
    assert "repeats regularly" in done.stderr
    assert "It is NaN, not known, in " in done.stderr
    assert "This image is warned of: it may not hold here." in done.stderr
    unknown = np.isnan(tifffile.imread("restored/lost-error.tif"))
    assert unknown[80:100, 130:150].all()
    assert not unknown[:30].any()


def test_it_is_on_the_page(image: str) -> None:
    done = aeanet("restore", image, "--error", "--report")
    assert done.exit_code == 0, done.output
    page = Path("restored/a-report.html").read_text()
    assert "The standard error of each pixel: 68 % of the true values lie within it." in page
    assert page.count(">50 nm</span>") == 5  # 320 nm wide; a scale bar in each picture


@pytest.mark.parametrize("name", ["s.tif", "s.ome.zarr", "slices"])
def test_a_stack_has_a_stack_of_them(tmp_path: Path, image: str, name: str) -> None:
    """In the values of the file, with the brightness that all planes share."""
    planes = volume(planes=2, side=48)
    source = write_volume(tmp_path, name, planes)
    options = ["--magnification", 1, "--flips", 1, "--error", "--out", "out"]
    axes = ["--axes", "ZYX"] if name == "slices" else []
    done = aeanet("restore", source, *options, *axes)
    assert done.exit_code == 0, done.output
    file = {"s.ome.zarr": "s-error.ome.zarr", "slices": "slices-error.tif"}.get(name, "s-error.tif")
    assert f"out/{file}: the standard error of each pixel of each plane." in done.stderr

    network = load_error_network("sem")
    expected = StackErrors(network, Stack.of_array(planes, "ZYX"), magnification=1.0)
    with package.open_stack(Path("out") / file) as found:
        assert found.axes == "ZYX"
        assert found.dtype == np.float32
        for number in range(2):
            np.testing.assert_allclose(found.plane(number), expected.values(number), rtol=1e-3)
        before = np.asarray(found).copy()

    done = aeanet("restore", source, *options, *axes, "--overwrite")
    assert done.exit_code == 0, done.output
    with package.open_stack(Path("out") / file) as found:
        np.testing.assert_array_equal(np.asarray(found), before)


def test_standard_errors_of_a_stack_that_are_there_are_kept(tmp_path: Path, image: str) -> None:
    write_volume(tmp_path, "s.tif", volume(planes=2, side=48))
    Path("out").mkdir()
    Path("out/s-error.tif").write_text("mine")
    done = aeanet("restore", "s.tif", "--axes", "ZYX", "--error", "--flips", 1, "--out", "out")
    assert "out/s-error.tif is already there" in done.stderr
    assert Path("out/s-error.tif").read_text() == "mine"
    assert Path("out/s.tif").exists()


def test_standard_errors_of_a_stack_do_not_replace_an_input(tmp_path: Path, image: str) -> None:
    """Which --overwrite does not help with, so another place is named."""
    write_volume(tmp_path, "s.tif", volume(planes=2, side=48))
    Path("out").mkdir()
    Path("out/s-error.tif").write_bytes(Path(image).read_bytes())
    options = ["--error", "--flips", 1, "--magnification", 1, "--out", "out", "--overwrite"]
    done = aeanet("restore", "s.tif", "out/s-error.tif", *options)
    assert (
        "The standard error is not written: out/s-error.tif would replace an input image; choose "
        "another place with --out.\n" in done.stderr
    )
    assert "--overwrite" not in done.stderr
    assert Path("out/s-error.tif").read_bytes() == Path(image).read_bytes()
    assert Path("out/s.tif").exists()


def test_a_network_of_errors_restores_nothing(image: str, tmp_path: Path) -> None:
    save_model(load_error_network("sem"), tmp_path / "run" / "model.safetensors")
    for command in (("predict", image, "--out", "out"), ("export", "--onnx", "file.onnx")):
        refused = aeanet(command[0], tmp_path / "run", *command[1:])
        assert_one_sentence(refused, "estimates errors and restores nothing")


def test_training_one_needs_a_model(tmp_path: Path) -> None:
    refused = aeanet("pretrain", "--out", tmp_path / "run", "--loss", "interval", "--steps", 1)
    assert_one_sentence(refused, "--loss interval needs --from")
