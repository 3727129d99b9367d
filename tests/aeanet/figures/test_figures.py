"""Pictures are drawn whole, show what they are given, and suit white and black ground."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from toys import toy_pair

from aeanet.data.crops import split_3x4
from aeanet.figures import (
    Curve,
    comparison,
    crop_row,
    draw_comparison,
    draw_crops,
    draw_curves,
    draw_heatmaps,
    render,
)
from aeanet.figures.training import Course, draw_courses
from aeanet.imaging.metrics import psnr
from aeanet.scoring.evaluation import Score


def test_the_picture_shows_the_pair_and_a_detail_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = toy_pair(0, (90, 120))
    restored = 1 - pair.hr
    figures: list[Figure] = []
    monkeypatch.setattr(comparison, "render", lambda draw: figures.append(draw()) or render(draw))
    draw_comparison(
        tmp_path / "picture.png", pair, restored, Score(pair.name, 20.0, 22.0, 0.5, 0.6)
    )
    (figure,) = figures
    wholes, details = (
        [axis.images[0] for axis in axes] for axes in (figure.axes[:3], figure.axes[3:])
    )
    (frame,) = figure.axes[0].patches
    row, column = frame.get_y(), frame.get_x()
    for image, whole, detail in zip((pair.lr, restored, pair.hr), wholes, details, strict=True):
        assert np.array_equal(whole.get_array(), image)
        assert np.array_equal(detail.get_array(), image[row : row + 15, column : column + 20])
    assert len({drawn.get_clim() for drawn in [*wholes, *details]}) == 1
    assert [axis.get_title().strip() for axis in figure.axes[:3]] == [
        "LR, bicubic",
        "super-resolved",
        "HR, the truth",
    ]
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        picture.load()  # the file is whole


def test_crops_are_the_same_place_of_the_test_columns() -> None:
    pair = toy_pair(0, (192, 256))
    row = crop_row(pair, {"AEANet": pair.hr * 0.5})
    rows, columns = row.crop
    tests = split_3x4(pair.hr.shape)[1]
    assert columns.start >= tests[0][1].start
    assert rows.stop - rows.start == columns.stop - columns.start > 10
    assert list(row.panels) == ["LR, bicubic", "AEANet", "HR, the truth"]
    assert np.array_equal(row.panels["HR, the truth"][0], pair.hr[row.crop])
    assert np.array_equal(row.panels["AEANet"][0], pair.hr[row.crop] * 0.5)
    assert row.panels["LR, bicubic"][1] == pytest.approx(
        psnr(pair.lr[row.crop], pair.hr[row.crop], pair.mask[row.crop])
    )


def test_crops_are_drawn_with_their_numbers() -> None:
    row = crop_row(toy_pair(0, (192, 256)), {"AEANet": toy_pair(0, (192, 256)).hr})
    figure = draw_crops([row, row])
    assert len(figure.axes) == 2 * 4
    assert [axis.get_title() for axis in figure.axes[:4]] == ["test columns", *row.panels]
    assert [axis.get_xlabel() for axis in figure.axes[4:]] == [
        "toy-0",
        f"{row.panels['LR, bicubic'][1]:.2f} dB",
        "inf dB",
        "",
    ]


def test_heat_maps_of_a_reference_share_a_scale() -> None:
    random = np.random.default_rng(0)
    maps = [random.normal(scale, scale, (5, 12, 16)) for scale in (1.0, 3.0)]
    figure = draw_heatmaps(["a", "b"], [random.random((48, 64)) for _ in range(2)], maps, [4, 1])
    drawn = [axis.images[0] for axis in figure.axes if axis.images][:6]
    assert [axis.get_title() for axis in figure.axes[:3]] == ["input", "reference 4", "reference 1"]
    assert np.array_equal(drawn[1].get_array(), maps[0][4])
    assert np.array_equal(drawn[5].get_array(), maps[1][1])
    assert drawn[1].get_clim() == drawn[4].get_clim() != drawn[2].get_clim()


def test_curves_end_in_the_whole_image() -> None:
    curve = Curve("AEANet (64)", [128, 256], stitched=[1.0, 1.5], exact=[2.0, 2.0], whole=2.0)
    axis, relative = draw_curves([curve]).axes
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[2.0, 2.0, 2.0], [1.0, 1.5, 2.0]]
    assert [list(line.get_ydata()) for line in relative.lines] == [
        [0.0, 0.0, 0.0],
        [-1.0, -0.5, 0.0],
    ]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["128", "256", "whole\nimage"]


def test_the_ground_is_white_or_clear_and_the_ink_fits() -> None:
    def draw() -> Figure:
        figure = Figure(figsize=(1, 1))
        figure.text(0.5, 0.5, "ink", fontsize=30, ha="center", va="center")
        return figure

    def pixels(kind: str, **options: bool) -> np.ndarray:
        return np.asarray(
            Image.open(BytesIO(render(draw, kind, **options))).convert("RGBA")
        ).reshape(-1, 4)

    opaque, light, dark = pixels("png"), pixels("webp"), pixels("webp", dark=True)
    assert tuple(opaque[0]) == (255, 255, 255, 255)
    assert light[0, 3] == dark[0, 3] == 0
    assert light[light[:, 3] == 255, :3].mean() < 60
    assert dark[dark[:, 3] == 255, :3].mean() > 200


def test_the_course_of_a_training_has_an_axis_for_each_thing_that_was_logged() -> None:
    logged = Course([10, 20, 30], [0.02, 0.011, 0.008])
    (loss,) = draw_courses({".": logged}).axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), logged.loss)
    assert loss.yaxis.get_major_formatter()(0.01) == "0.01"
    scored = Course(logged.steps, logged.loss, [15, 30], [1.0, 1.5])
    figure = draw_courses({"0": logged, "1": scored})
    _, gain = figure.axes
    np.testing.assert_array_equal(gain.lines[1].get_xydata(), [[15, 1.0], [30, 1.5]])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["0", "1"]
