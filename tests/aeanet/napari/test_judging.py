"""What the dock says of restored planes, and where its boxes lie. It needs no napari."""

from pathlib import Path

import numpy as np
from toy_stacks import Identity

from aeanet.inference.restored import Restored
from aeanet.io.images import Micrograph
from aeanet.io.stacks import Contents
from aeanet.napari.judging import boxes_in_layer, corners_of, judge, text_of

PATCH = np.s_[60:120, 100:180]


def restored(*, pattern: float) -> Restored:
    """A noisy image, in a part of which the result lacks a regular pattern."""
    noise = np.random.default_rng(0).normal(0, 0.03, (192, 256))
    y, x = np.mgrid[:192, :256]
    holes = pattern * np.sin(2.2 * y) * np.sin(2.3 * x)
    result = np.full((192, 256), 0.5, np.float32)
    image = result + noise
    image[PATCH] += holes[PATCH]
    source = Micrograph(image.astype(np.float32), np.dtype(np.uint8), 0.0, 255.0)
    return Restored(Path("a"), Path("a"), source, result, unit=255.0)


def test_the_box_is_where_the_pattern_was() -> None:
    verdict = judge(Identity(), restored(pattern=0.2))
    assert any("repeats regularly" in sentence for sentence in verdict.warnings)
    largest = max(map(corners_of, verdict.boxes), key=lambda corners: np.ptp(corners, 0).prod())
    # A window of 15 px is averaged, and neighbours within two cells of 4 px are joined.
    corners = [largest.min(0), largest.max(0)]
    np.testing.assert_allclose(corners, [[60, 100], [120, 180]], atol=7.5 + 2 * 4)


def test_the_text_of_a_stack_names_the_planes_and_counts_the_boxes() -> None:
    verdicts = [judge(Identity(), restored(pattern=pattern)) for pattern in (0.0, 0.2, 0.2)]
    assert verdicts[0].boxes == ()
    text = text_of(verdicts, bar=8)
    assert text.startswith("3 planes. The noise is ")
    assert "So in planes 2, 3." in text
    assert "The information bar, 8 rows at the bottom, is left out." in text

    boxes = boxes_in_layer(verdicts, Contents("ZYX", (3, 192, 256), np.dtype(np.uint8)))
    assert f"Look at the {len(boxes)} boxes." in text
    assert {box.shape for box in boxes} == {(4, 3)}
    assert [box[0, 0] for box in boxes] == sorted(box[0, 0] for box in boxes)
    assert {box[0, 0] for box in boxes} == {1, 2}
