"""Names as long as file systems take: what is made appears under them."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from bad_files import assert_no_part_of_a_file
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import aeanet

from aeanet.io.images import read_image, write_image
from aeanet.io.mosaics import create_mosaic, open_mosaic
from aeanet.io.text import read_json, write_json

LONGEST = 255  # bytes
GREY = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)


def long_name(character: str, length: int, ending: str) -> str:
    """As many characters as fit into that many bytes, filled up with letters."""
    room = length - len(ending)
    name = character * (room // len(character.encode()))
    return name + "a" * (room - len(name.encode())) + ending


@given(
    length=st.integers(8, LONGEST) | st.integers(235, LONGEST),
    character=st.sampled_from("aé漢🔬"),
    ending=st.sampled_from([".tif", ".png", ".json", ".zarr", ".mosaic.tif"]),
)
@settings(max_examples=100)
def test_names_of_every_length(
    tmp_path_factory: pytest.TempPathFactory, length: int, character: str, ending: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / long_name(character, max(length, len(ending) + 4), ending)
    if ending == ".json":
        write_json(path, {"a": 1})
        assert read_json(path) == {"a": 1}
    elif ending in (".tif", ".png"):
        write_image(path, GREY / 255)
        np.testing.assert_array_equal(np.rint(read_image(path).pixels * 255), GREY)
    else:
        tifffile.imwrite(folder / "a.tif", GREY)
        whole = slice(0, 12), slice(0, 16)
        for _ in range(2):  # the second replaces the first
            with (
                open_mosaic(folder / "a.tif") as like,
                create_mosaic(path, GREY.shape, like=like) as write,
            ):
                write(*whole, GREY / 255)
        with open_mosaic(path) as mosaic:
            np.testing.assert_array_equal(np.rint(mosaic.read(*whole) * 255), GREY)
        (folder / "a.tif").unlink()
    assert_no_part_of_a_file(folder)
    assert os.listdir(folder) == [path.name]


def test_no_result_is_lost_for_its_name(tmp_path: Path) -> None:
    names = [long_name("a", length, ".tif") for length in (253, 254, 255)]
    for name in names:
        tifffile.imwrite(tmp_path / name, GREY)
    done = aeanet(
        "restore",
        *(tmp_path / name for name in names),
        "--magnification",
        "1",
        "--residual",
        "--out",
        tmp_path / "out",
    )
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path / "out")) == sorted(names)
    assert done.output.count("the name of the image is too long to add -residual.") == 3
