"""What is said of a restored layer, and where its restoration is to be looked at."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aeanet.inference.restored import Restored
from aeanet.io.stacks import Contents
from aeanet.networks.base import Network
from aeanet.trust import assess
from aeanet.trust.places import Place, warned_places

_NAMED = 5  # planes that a sentence names


@dataclass(frozen=True)
class Verdict:
    """What is said of a restored plane.

    Attributes:
        noise: a line on its noise.
        share: the noise in shares of the range that the plane uses; NaN if it is not known.
        outliers: how many pixels the model was not shown.
        warnings: a sentence for each thing that is unusual.
        places: where, and why, if they are about parts of the plane.
        shape: (H, W) of the plane.
    """

    noise: str
    share: float = math.nan
    outliers: int = 0
    warnings: Sequence[str] = ()
    places: Sequence[Place] = ()
    shape: tuple[int, int] = (0, 0)

    @property
    def boxes(self) -> Sequence[Place]:
        """What is to be looked at: the places, or all of a plane that is warned of without any."""
        if self.places or not self.warnings:
            return self.places
        height, width = self.shape
        return [Place(0, 0, width, height, " ".join(self.warnings))]


def judge(model: Network, restored: Restored) -> Verdict:
    """Judge a restored plane that is in memory.

    Where it warns, it looks for the places at which far more was taken away than the noise, or a
    pattern.
    """
    image, result, width = restored.judged()
    found = assess(model, image, result)
    used, outliers = restored.exposure.used / width, int(restored.exposure.rows.size)
    noise = found.summary(used, width * restored.unit)
    share = found.sd / used if used > 0 else 0.0
    if not found.warnings:
        return Verdict(noise, share, outliers)

    # The report is about the middle of a large image, the places are looked for everywhere.
    places = [] if found.taken is None else warned_places(image, result, found.noise)
    height, width = image.shape
    return Verdict(noise, share, outliers, found.warnings, places, (height, width))


def corners_of(box: Place) -> NDArray:
    """(4, 2), rows and columns in px; the centre of the first pixel is (0, 0), and the edges of
    pixels lie half a pixel outside their centres.
    """
    corners = [[0, 0], [0, box.width], [box.height, box.width], [box.height, 0]]
    return np.array(corners) + np.array([box.top - 0.5, box.left - 0.5])


def boxes_in_layer(verdicts: Sequence[Verdict], contents: Contents) -> list[NDArray]:
    """The corners of all boxes, (4, axes) each, in px of the layer.

    Args:
        verdicts: of each plane.
        contents: of the stack of these planes.
    """
    return [
        np.hstack([np.tile(contents.index(number), (4, 1)), corners_of(box)])
        for number, verdict in enumerate(verdicts)
        for box in verdict.boxes
    ]


def text_of(verdicts: Sequence[Verdict], bar: int = 0) -> str:
    """What the dock says: the noise, then what is unusual.

    Args:
        verdicts: of each plane.
        bar: rows of an information bar that were left out.
    """
    # the noise first, then what of the image the model was not shown
    lines = [_noise(verdicts)]
    if bar:
        lines.append(f"The information bar, {bar} rows at the bottom, is left out.")
    if outliers := sum(one.outliers for one in verdicts):
        pixels = "pixel such as a hot one" if outliers == 1 else "pixels such as hot ones"
        lines.append(f"{outliers:,} {pixels} not shown to the model, and kept.")

    # A warning that many planes have is said once. Names of statistics differ by plane.
    planes_of: dict[str, list[int]] = {}
    for number, verdict in enumerate(verdicts, start=1):
        for sentence in verdict.warnings:
            planes_of.setdefault(sentence, []).append(number)
    for sentence, planes in planes_of.items():
        which = "" if len(verdicts) == 1 else f" So in {_listed(planes)}."
        lines.append(f"Warning: {sentence}{which}")
    if places := sum(len(one.boxes) for one in verdicts):
        lines.append(f"Look at {'the box' if places == 1 else f'the {places} boxes'}.")
    return "\n".join(lines)


def _noise(verdicts: Sequence[Verdict]) -> str:
    if len(verdicts) == 1:
        return verdicts[0].noise
    shares = [one.share for one in verdicts if math.isfinite(one.share)]
    if not shares:
        return f"{len(verdicts)} planes. The noise cannot be told."
    return (
        f"{len(verdicts)} planes. The noise is {min(shares):.1%} to {max(shares):.1%} of the range "
        f"used, median {statistics.median(shares):.1%}."
    )


def _listed(planes: Sequence[int]) -> str:
    named = ", ".join(map(str, planes[:_NAMED]))
    more = f" and {len(planes) - _NAMED} more" if len(planes) > _NAMED else ""
    return f"{'plane' if len(planes) == 1 else 'planes'} {named}{more}"
