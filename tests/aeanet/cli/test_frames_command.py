"""`aeanet frames`: its files, what it says, and bad input."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from toys import aeanet

from aeanet.data.synthetic import simulate_frames
from aeanet.inference.frames import restore_frames
from aeanet.io.images import read_image

SHAPE = (96, 128)
FAST = ("--flips", 1, "--precision", "float32")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames with pixels of 5 nm, of which the third is another field."""
    folder = tmp_path_factory.mktemp("scans")
    frames = simulate_frames(2, 4, SHAPE, kind="porous").frames.copy()
    frames[2] = simulate_frames(3, 1, SHAPE, kind="particles").frames[0]
    for n, frame in enumerate(frames, 1):
        values = np.rint(255 * frame).astype(np.uint8)
        metadata = {"axes": "YX", "PhysicalSizeX": 5.0, "PhysicalSizeXUnit": "nm"}
        tifffile.imwrite(folder / f"s{n}.tif", values, ome=True, metadata=metadata)
    return folder


def drift_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def test_result_table_and_plot(scans: Path, tmp_path: Path) -> None:
    images = sorted(scans.glob("s*.tif"))
    target = tmp_path / "new" / "result.tif"
    asked = ("frames", *images, "--out", target, "--fused", "--report", "--magnification", 2, *FAST)
    done = aeanet(*asked)
    assert done.exit_code == 0, done.output
    names = ("result.tif", "result-drift.csv", "result-drift.png", "result-fused.tif")
    assert done.stdout.split() == [str(target.with_name(name)) for name in names]
    assert f"{images[2]} is left out: it does not show what the others show.\n" in done.stderr
    assert f"3 of 4 frames are fused on the field of {scans}/s" in done.stderr

    frames = [read_image(image).pixels for image in images]
    expected = restore_frames("sem", frames, magnification=2, flips=1, precision="float32")
    result = read_image(target)
    assert str(result.pixel_size) == "2.5 nm"
    assert result.dtype == np.uint8
    assert np.abs(result.pixels - expected.result).max() < 0.51 / 255
    mean = read_image(target.with_name("result-fused.tif"))
    assert np.abs(mean.pixels - expected.fused.pixels.clip(0, 1)).max() < 0.51 / 255
    with Image.open(target.with_name("result-drift.png")) as picture:
        assert picture.width > 600

    page = target.with_name("result-report.html").read_text()
    assert "<h1>result.tif, 3 frames</h1>" in page
    assert f"{images[2]} is left out: it does not show what the others show." in page
    assert page.count("data:image/webp") == 4 + 2  # the view, and the drift twice
    assert 'download="result-drift.csv"' in page

    rows = drift_of(target.with_name("result-drift.csv"))
    assert [row["file"] for row in rows] == [image.name for image in images]
    assert rows[2]["left_out"] == "it does not show what the others show"
    assert rows[2]["x"] == rows[2]["weight"] == ""
    assert sum(float(row["weight"]) for row in rows if row["weight"]) == pytest.approx(1, abs=1e-3)
    y, x = expected.fused.aligned.displacement[0].mean(0)
    assert float(rows[0]["y"]) == pytest.approx(y, abs=1e-3)
    assert float(rows[0]["x"]) == pytest.approx(x, abs=1e-3)

    again = aeanet(*asked)
    assert again.exit_code == 1
    assert "result.tif is already there; replace it with --overwrite." in again.stderr


def test_a_frame_that_cannot_be_read_is_named_and_the_others_are_used(
    scans: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.tif").write_bytes(b"II*\0")
    colours = np.asarray(Image.open(scans / "s4.tif"))[..., None].repeat(3, 2).copy()
    colours[0, 0] = 0, 10, 0
    Image.fromarray(colours).save(tmp_path / "colours.png")
    images = [scans / "s1.tif", tmp_path / "bad.tif", tmp_path / "colours.png"]
    done = aeanet("frames", *images, "--out", tmp_path / "result.png", *FAST)
    assert done.exit_code == 1
    assert "The colours of the frames become grey.\n" in done.stderr
    assert "2 of 2 frames are fused" in done.stderr
    assert f"{tmp_path / 'bad.tif'} cannot be read as an image" in done.stderr
    assert done.stderr.endswith(f"1 of 3 frames could not be read: {tmp_path / 'bad.tif'}.\n")
    assert read_image(tmp_path / "result.png").pixels.shape == SHAPE


@pytest.mark.parametrize("axes", ["TYX", "ZYX", ""])
def test_the_frames_may_be_the_planes_of_one_stack(
    axes: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the result of the same frames in files of their own, whatever their axis is called."""
    monkeypatch.chdir(tmp_path)
    planes = np.stack([tifffile.imread(image) for image in sorted(scans.glob("s*.tif"))])
    kind = {"ome": True, "metadata": {"axes": axes}} if axes else {"metadata": None}
    tifffile.imwrite("stack.tif", planes, photometric="minisblack", **kind)
    done = aeanet("frames", "stack.tif", "--out", "result.tif", *FAST)
    assert done.exit_code == 0, done.output
    assert "of stack.tif is left out: it does not show what the others show.\n" in done.stderr
    doubted = "stack.tif says that its planes are slices of a volume" in done.stderr
    assert doubted is (axes == "ZYX")

    frames = list(planes.astype(np.float32) / 255)
    expected = restore_frames("sem", frames, flips=1, precision="float32")
    result = read_image("result.tif").pixels
    assert np.abs(result - expected.result).max() < 0.51 / 255
    rows = drift_of(Path("result-drift.csv"))
    assert len({row["file"] for row in rows}) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("s1.tif",), "One frame is given (a file counts once), two or more are wanted; `aeanet"),
        (("s1.tif", "s1.tif"), "One frame is given (a file counts once)"),
        (("s1.tif", "small.tif"), "s1.tif has 128 x 96 px and small.tif has 64 x 96 px."),
        (("s1.tif", "none.tif"), "1 of 2 frames could be read, two or more are wanted: none.tif"),
        (("channels.tif",), "channels.tif holds 3 channels"),
        (("s1.tif", "s3.tif"), "Fewer than two of 2 frames can be used"),
        (("s1.tif", "s2.tif", "--magnification", "5"), "--magnification is 5, wanted 1 to 4"),
        (("s1.tif", "s2.tif", "--flips", "3"), "--flips is 3, wanted 1, 2 or 4."),
        (
            ("s1.tif", "s2.tif", "--out", "result.gif"),
            ".gif is not among .tif, .png, .bmp and .jpg",
        ),
        (("s1.tif", "s2.tif", "--out", "result.JPG"), "would lose what JPEG leaves out"),
        (("s1.tif", "s2.tif", "--out", ".", "--overwrite"), "is a folder; --out names the file"),
        (("s1.tif", "s2.tif", "--out", "s1.tif", "--overwrite"), "would replace an input image"),
        (("s1.tif", "s2.tif", "--out", "earlier.tif"), "earlier.tif is already there"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...],
    words: str,
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence, and neither a new file nor a changed one."""
    monkeypatch.chdir(tmp_path)
    for image in scans.glob("s*.tif"):
        Path(image.name).write_bytes(image.read_bytes())
    tifffile.imwrite("small.tif", np.asarray(Image.open("s1.tif"))[:, :64])
    Path("earlier.tif").write_bytes(b"an earlier result")
    metadata = {"axes": "CYX"}
    tifffile.imwrite("channels.tif", np.zeros((3, 96, 128), np.uint8), ome=True, metadata=metadata)
    before = {file.name: file.read_bytes() for file in Path().iterdir()}
    out = () if "--out" in arguments else ("--out", "result.tif")
    done = aeanet("frames", *arguments, *out)
    assert done.exit_code == 1
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert {file.name: file.read_bytes() for file in Path().iterdir()} == before
