"""Random damage to valid files of every format, and random options: no traceback, no hang, no part
of a file.

`--hypothesis-profile=explore` draws 2,000 cases.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import maker_files as makers
import numpy as np
import pytest
import tifffile
from bad_files import (
    GREY,
    array,
    assert_no_part_of_a_file,
    checkpoint,
    encoded,
    model,
    picture,
    tiff,
    within_seconds,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from microscope_files import bcf, dm3, dm4, emd, mrc, ser
from toys import aeanet

from aeanet.data.synthetic import simulate_pair
from aeanet.errors import UserError
from aeanet.io.images import read_image, write_image
from aeanet.io.mosaics import open_mosaic
from aeanet.io.pixel_size import PixelSize, ome_metadata
from aeanet.training.checkpoint import Checkpoint

EXAMPLES = 30 if settings.default.derandomize else 2000
DEEP = GREY.astype(np.uint16) * 257
NM = ome_metadata(PixelSize(2.0, 2.0, "nm"))
FEI = (
    "[Scan]\r\nPixelWidth=1e-9\r\nPixelHeight=1e-9\r\n"
    "[Image]\r\nResolutionX=16\r\nResolutionY=9\r\n"
)
IMAGES: dict[str, Callable[[Path], object]] = {
    "grey.png": picture("grey.png"),
    "deep.png": picture("deep.png", DEEP),
    "colour.png": picture("colour.png", np.stack([GREY] * 3, axis=-1)),
    "a.bmp": picture("a.bmp"),
    "a.jpg": picture("a.jpg"),
    "plain.tif": tiff("plain.tif", DEEP),
    "big.tif": tiff("big.tif", GREY.astype(np.float32), bigtiff=True, byteorder=">"),
    "deflate.tif": tiff("deflate.tif", DEEP, compression="zlib", predictor=True),
    "lzw.tif": tiff("lzw.tif", GREY, compression="lzw"),
    "packbits.tif": tiff("packbits.tif", GREY, compression="packbits"),
    "jpeg.tif": tiff("jpeg.tif", GREY, compression="jpeg"),
    "tiles.tif": tiff("tiles.tif", DEEP, tile=(16, 16), compression="zstd"),
    "ome.tif": tiff("ome.tif", DEEP, ome=True, metadata=NM),
    "imagej.tif": tiff("imagej.tif", DEEP, imagej=True, resolution=(2, 2), metadata={"unit": "nm"}),
    "fei.tif": tiff("fei.tif", GREY, extratags=[(34682, "s", 0, FEI, True)], metadata=None),
    "palette.tif": tiff(
        "palette.tif", GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    ),
    "tescan.tif": lambda folder: makers.tescan(folder / "tescan.tif"),
    "phenom.tif": lambda folder: makers.phenom(folder / "phenom.tif"),
    "thermo.tif": lambda folder: makers.thermo_xml(folder / "thermo.tif"),
    "jeol.tif": lambda folder: makers.sight_x(folder / "jeol.tif"),
    "olympus.tif": lambda folder: makers.olympus(folder / "olympus.tif"),
    "zeiss.tif": lambda folder: makers.zeiss(folder / "zeiss.tif", 5.0),
    "cmyk.tif": tiff("cmyk.tif", np.stack([GREY] * 4, axis=-1), photometric="separated"),
    "a.mrc": lambda folder: (folder / "a.mrc").write_bytes(mrc(DEEP, (5.0, 5.0))),
    "a.dm3": lambda folder: (folder / "a.dm3").write_bytes(dm3(DEEP, (0.5, 0.5), "nm")),
    "a.dm4": lambda folder: (folder / "a.dm4").write_bytes(dm4(DEEP, (0.5, 0.5), "nm")),
    "a.bcf": lambda folder: (folder / "a.bcf").write_bytes(bcf(DEEP, (0.5, 0.5))),
    "a.ser": lambda folder: (folder / "a.ser").write_bytes(ser(DEEP, (1e-9, 1e-9))),
    "a.emd": lambda folder: emd(folder / "a.emd", DEEP),
    "a.zarr": array("a.zarr", DEEP, chunks=(8, 8)),
}
OTHERS = (
    "run/model.safetensors",
    "run/run.json",
    "run/models.json",
    "run/checkpoint.safetensors",
    "pairs/lr/a.png",
)

changes = st.lists(
    st.tuples(
        st.sampled_from(("flip", "flip", "set", "cut", "drop", "insert", "swap")),
        st.one_of(
            st.integers(0, 400), st.floats(0, 1, exclude_max=True)
        ),  # a byte near the beginning, or a share
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)
options = st.fixed_dictionaries(
    {},
    optional={
        "--tile": st.sampled_from(("auto", "16", "24", "1000", "7", "0")),
        "--magnification": st.one_of(
            st.floats(0.5, 20).map(str), st.sampled_from(("2", "1.5", "nan"))
        ),
        "--precision": st.sampled_from(("auto", "float32", "bfloat16")),
        "--keep-bar": st.none(),
        "--overwrite": st.none(),
    },
)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a valid file of each kind."""
    folder = tmp_path_factory.mktemp("valid")
    for make in IMAGES.values():
        make(folder)
    checkpoint()(folder)
    (folder / "run" / "checkpoint.safetensors").rename(folder / "checkpoint.safetensors")
    (folder / "run").rmdir()
    model()(folder)
    (folder / "checkpoint.safetensors").rename(folder / "run" / "checkpoint.safetensors")
    (folder / "run" / "run.json").write_text(
        '{"loss": 0.1, "steps_done": 3, "model": {"name": "lbnlm"}}'
    )
    (folder / "run" / "models.json").write_text(
        '{"models": {"a": "a"}, "left_out": {"b": "too dark."}}'
    )
    (folder / "good.png").write_bytes(encoded("png"))
    field = simulate_pair(0, shape=(100, 120))
    for kind in ("lr", "hr"):
        (folder / "pairs" / kind).mkdir(parents=True)
        write_image(folder / "pairs" / kind / "a.png", getattr(field, kind))
    # Imports what all cases need.
    aeanet("predict", folder / "run", folder / "good.png", "--out", folder / "out")
    return folder


def damaged(content: bytes, how: list[tuple[str, float, int]]) -> bytes:
    """The content with each of the changes made to it."""
    data = bytearray(content)
    for kind, place, byte in how:
        at = min(place, len(data)) if isinstance(place, int) else int(place * len(data))
        if kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + byte % 16]
        elif kind == "insert":
            data[at:at] = bytes([byte]) * (1 + byte % 16)
        elif at < len(data):
            other = (at + byte) % len(data)
            if kind == "swap":
                data[at], data[other] = data[other], data[at]
            else:
                data[at] = byte if kind == "set" else data[at] ^ (1 << byte % 8)
    return bytes(data)


def copy_damaged(source: Path, target: Path, how: list[tuple[str, float, int]]) -> None:
    """A file, or a folder of which one file is damaged."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(damaged(source.read_bytes(), how))
        return
    files = sorted(path for path in source.rglob("*") if path.is_file())
    # Half of the time the metadata.
    chosen = files[-1] if how[0][2] % 2 else files[how[0][2] % len(files)]
    for file in files:
        copy_damaged(file, target / file.relative_to(source), how if file == chosen else [])


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from([*IMAGES, *OTHERS]), how=changes, options=options, as_json=st.booleans()
)
def test_damage(
    valid: Path, name: str, how: list[tuple[str, float, int]], options: dict, as_json: bool
) -> None:
    chosen = [word for pair in options.items() for word in pair if word is not None]
    with tempfile.TemporaryDirectory() as place, within_seconds():
        folder = Path(place)
        copy_damaged(valid / name, folder / name, how)
        if name in IMAGES:
            runs = [["info", folder / name, *["--json"] * as_json]]
            runs.append(
                [
                    "predict",
                    valid / "run",
                    folder / name,
                    valid / "good.png",
                    "--out",
                    folder / "out",
                    *chosen,
                ]
            )
        elif name == "run/checkpoint.safetensors":
            runs = []
            with suppress(UserError):
                Checkpoint.read(folder / name)
        elif name == "pairs/lr/a.png":
            (folder / "pairs" / "hr").symlink_to(valid / "pairs" / "hr")
            runs = [["register", folder / "pairs", "--out", folder / "out", *["--json"] * as_json]]
        else:
            if not name.endswith("model.safetensors"):
                os.symlink(
                    valid / "run" / "model.safetensors", folder / "run" / "model.safetensors"
                )
            runs = [
                ["info", folder / "run"],
                ["predict", folder / "run", valid / "good.png", "--out", folder / "out"],
            ]
        for words in runs:
            result = aeanet(*words)
            assert result.exception is None or isinstance(result.exception, SystemExit), repr(
                result.exception
            )
            assert result.exit_code in (0, 1, 2), result.output
            assert "Traceback" not in result.output
            assert result.exit_code == 0 or result.stderr.strip(), result.output
            if "could not be restored" in result.output or (
                words[0] == "predict" and result.exit_code == 0
            ):
                assert (folder / "out" / "good.png").exists() or name in OTHERS, result.output
            assert_no_part_of_a_file(folder)
        for path in folder.glob("out/*.*"):
            if path.is_dir():
                with open_mosaic(path) as found:
                    assert found.read(slice(0, 1), slice(0, 1)).size
            elif path.suffix != ".json":
                assert (
                    tifffile.imread(path).size
                    if path.suffix == ".tif"
                    else read_image(path).pixels.size
                )
