"""`--report`: the page that restore and predict write beside their results."""

import errno
import os
import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tifffile
from PIL import Image
from toys import aeanet, assert_one_sentence

from aeanet.cli import batch
from aeanet.inference.files import Loaded
from aeanet.page import Page

QUICK = ("--flips", 1, "--magnification", 1, "--report")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two images, one that is none, and a volume."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(2):
        noisy = 120 + 30 * random.standard_normal((70, 90))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(f"{number}.png")
    Path("no.png").write_bytes(b"nothing")
    y, x = np.mgrid[:64, :72]
    planes = (
        20_000 + 5_000 * np.sin(x / 3) * np.cos(y / 5) + 300 * random.standard_normal((11, 64, 72))
    )
    tifffile.imwrite("a.tif", planes.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    return ["0.png", "1.png", "no.png", "a.tif"]


def test_one_page_for_all_images_of_a_command(images: list[str]) -> None:
    done = aeanet("restore", *images, *QUICK)
    assert done.exit_code == 1
    assert done.stdout.split() == ["restored/0.png", "restored/1.png", "restored/a.tif"]
    assert "restored/report.html: a page to look at" in done.stderr
    text = Path("restored/report.html").read_text()
    assert "3 of 4 images restored" in text
    assert "no.png is not restored: no.png cannot be read as an image" in text
    assert text.count('<section id="image-') == 3
    for noise in re.findall(r"Noise ([\d.]+%) of the range used", done.stderr):
        assert f">{noise}</td>" in text
    for sentence in re.findall(r"[01]\.png: (The image is unlike [^(]*)", done.stderr):
        assert sentence in text

    # Of eleven planes six are evenly spaced, and three the most unusual.
    names = re.findall(r'class="frame-name">plane (\d+)<', text)
    assert names[0] == "1"
    assert names[-1] == "11"
    assert 6 <= len(names) <= 9
    assert f"{len(names)} of 11 planes" in text


def test_one_image_gives_its_name_and_a_page_that_is_there_is_kept(images: list[str]) -> None:
    done = aeanet("restore", images[0], *QUICK)
    assert done.exit_code == 0, done.stderr
    page = Path("restored/0-report.html")
    assert "<h1>0.png, restored</h1>" in page.read_text()
    page.write_text("mine")
    refused = aeanet("restore", images[0], *QUICK)
    assert_one_sentence(refused, "restored/0-report.html is already there")
    assert page.read_text() == "mine"
    assert aeanet("restore", images[0], *QUICK, "--overwrite").exit_code == 0
    assert "<h1>" in page.read_text()


def test_a_page_that_cannot_be_written_loses_no_result(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _page: Page) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("aeanet.cli.pages.shared.write_page", full)
    done = aeanet("restore", *images[:2], *QUICK)
    assert done.exit_code == 1
    assert done.stdout.split() == ["restored/0.png", "restored/1.png"]
    last = done.stderr.splitlines()[-1]
    assert last.startswith("The page is not written, the results are: ")
    assert "No space left on device" in last
    assert Path("restored/1.png").is_file()


def test_after_ctrl_c_the_page_shows_what_was_restored(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = batch.restore_loaded

    def until_the_second(model: object, loaded: Loaded, *arguments: Any, **options: Any) -> Any:
        if loaded.image.name == "1.png":
            raise KeyboardInterrupt
        return restore(model, loaded, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "restore_loaded", until_the_second)
    assert aeanet("restore", *images[:2], *QUICK).exit_code == 130
    text = Path("restored/report.html").read_text()
    assert "1 of 2 images restored" in text
    assert text.count('<section id="image-') == 1


def test_predict_shows_an_image_that_it_read_by_regions(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aeanet.io.mosaics.reading.LARGE", 1000)
    tifffile.imwrite("b.tif", np.asarray(Image.open(images[0])), tile=(16, 16))
    done = aeanet("predict", "sem", "b.tif", *QUICK, "--out", "regions")
    assert done.exit_code == 0, done.stderr
    regions = Path("regions/b-report.html").read_text()
    assert "The middle follows at full resolution." in regions
    assert regions.count('class="view"') == 2
    for setting in ("sem, network shuffled", "<dt>flips</dt><dd>none", "regions/b.tif, 90 x 70 px"):
        assert setting in regions
