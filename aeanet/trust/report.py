"""The word on how far to trust a restored image."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.given import as_array
from aeanet.imaging.upsampling import middle
from aeanet.io.images import Micrograph, write_image
from aeanet.networks.base import Network
from aeanet.networks.shuffled import ShuffledUNet
from aeanet.trust.noise import Noise, share_shown
from aeanet.trust.reference import Reference
from aeanet.trust.residual import LEAST_NOISE, Residual, residual, smoothness
from aeanet.trust.statistics import SMALLEST, describe

if TYPE_CHECKING:
    from aeanet.data.registration import RegisteredPair

REFERENCE_FILE = Path(__file__).parents[1] / "models" / "sem.trust.json"
"""What the images have on which the shipped model was trained."""
PATTERN_LIMIT = math.log10(3)
"""What `pattern.lost_pattern` may be without a warning: three times as high as the spectrum of
noise reaches.
"""
LARGEST = 1024  # px a side of what is assessed
_SMOOTH = 0.25  # correlation across lines from which on noise is called so
_NAMED = 2  # statistics that a warning names
_RESIDUAL_RANGE = 4.0  # standard deviations from mid-grey to white in the picture of a residual


@dataclass(frozen=True)
class TrustReport:
    """What a restoration found.

    Attributes:
        noise: of the image.
        distance: of the image's statistics from those of training, over the limit: above 1 is
            unusual. None where it cannot be told.
        residual_distance: the same of what was taken away.
        unusual: statistics beyond their limits in training, by name, the most unusual first.
        taken: what was taken away; None where it cannot be told.
        warnings: a sentence for each thing that is unusual. Empty: nothing is.
    """

    noise: Noise
    distance: float | None = None
    residual_distance: float | None = None
    unusual: list[str] = field(default_factory=list)
    taken: Residual | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def smooth(self) -> bool:
        """Whether the noise is smooth across lines, which that of a scan is not by itself."""
        taken = self.taken
        return (
            taken is not None
            and smoothness(self.noise, taken.across) > _SMOOTH
            and float(taken.image.std()) > 2 * LEAST_NOISE
        )

    @property
    def sd(self) -> float:
        """Standard deviation of the noise, of smooth noise too, in shares of the image's range; NaN
        where it cannot be told.
        """
        if self.smooth and self.taken is not None:
            return self.noise.sd / math.sqrt(share_shown(smoothness(self.noise, self.taken.across)))
        return self.noise.sd

    def record(self) -> dict[str, Any]:
        """Plain data that strict JSON takes; None for what is not known."""
        numbers = {} if self.taken is None else self.taken.numbers
        return {
            "noise": {name: _finite(value) for name, value in vars(self.noise).items()},
            "distance": _finite(self.distance),
            "residual_distance": _finite(self.residual_distance),
            "smooth": self.smooth,
            "unusual": self.unusual,
            "residual": {name: _finite(value) for name, value in numbers.items()},
            "pattern": None if self.taken is None else _finite(self.taken.pattern),
            "warnings": self.warnings,
        }

    def summary(self, used: float = 1.0, unit: float | None = None) -> str:
        """One line on the noise, for a terminal.

        Args:
            used: the share of the range of `noise` that the image uses.
            unit: that range in the values of the file; None where it is the file's own range.
        """
        # without noise, or without any contrast, there is no more to say
        sd = self.sd
        if not math.isfinite(sd):
            return "The noise cannot be told."
        if not used > 0:
            return "It has one value everywhere, so there is nothing to restore."

        # below half a grey level of 8 bits noise cannot be told from the rounding
        usual = " Nothing unusual." if self.distance is not None and not self.warnings else ""
        below, sd = sd < LEAST_NOISE, max(sd, LEAST_NOISE)
        text = f"Noise{' below' if below else ''} {sd / used:.1%} of the range"
        if unit is not None:
            text += f" used ({sd * unit:.3g} in the values of the file)"

        # smooth across lines it is unusual; along them that of a scan is correlated by itself
        if self.smooth and self.taken is not None:
            along, across = self.taken.along, self.taken.across
            text += (
                f". It is smooth, as after a digital zoom or a filter: neighbours correlate by "
                f"{along:.2f} along lines and by {across:.2f} across them"
            )
        elif not below and abs(self.noise.along) > 0.1:
            text += f", correlated by {self.noise.along:.2f} along lines"
        return f"{text}.{usual}"


def assess(
    model: Network, image: NDArray, restored: NDArray, *, reference: Reference | None = None
) -> TrustReport:
    """Say how far to trust what a model made of an image. It never raises an error for the contents
    of an image.

    Args:
        model: the network. Without `reference` only one of the shipped model's kind is compared
            with its training.
        image: (H, W) in [0, 1], as recorded, before it was enlarged.
        restored: the result, on the same or a finer grid of the same field. Of images of more than
            1024 px a side the middle is assessed.
        reference: statistics of the training images; by default those of the shipped model.
    """
    # what nothing can be said of is a warning too: no contents of an image are an error
    image = np.asarray(as_array(image), np.float32)
    restored = np.asarray(as_array(restored, "restored"), np.float32)
    if image.ndim != 2 or min(image.shape, default=0) < SMALLEST:
        size = " x ".join(map(str, image.shape[::-1]))
        return _unknown(
            f"The image of {size} px is too small to be compared with those of the training: "
            f"at least {SMALLEST} x {SMALLEST} px are needed."
        )
    if not (np.isfinite(image).all() and np.isfinite(restored).all()):
        return _unknown(
            "The image has pixels that are not finite numbers, so nothing can be said of its "
            "restoration."
        )
    if reference is None and isinstance(model, ShuffledUNet):
        reference = shipped_reference()

    # what repeats regularly is told without a training to compare with
    small, large = middle(image.shape, restored.shape, LARGEST)
    statistics = describe(image[small])
    taken = residual(image[small], restored[large], statistics.noise)
    lost = [_PATTERN_LOST] if taken.pattern > PATTERN_LIMIT else []
    if reference is None:
        return TrustReport(statistics.noise, taken=taken, warnings=lost)

    # Distances are over their limits in training: above 1 is unusual, of the image or of the
    # residual.
    distance = float(reference.distance(statistics.vector())[0])
    unusual = reference.unusual(statistics.vector())
    numbers = np.array(list(taken.numbers.values()))
    residual_distance = float(reference.residual_distance(numbers)[0])
    warnings = []
    if distance > 1:
        warnings.append(
            "The image is unlike those that the model was trained on, so do not rely on the result "
            f"(most unusual: {' and '.join(unusual[:_NAMED])})."
        )
    if residual_distance > 1:
        warnings.append(_unlike_noise(numbers, statistics.noise, reference))
    return TrustReport(
        statistics.noise, distance, residual_distance, unusual, taken, warnings + lost
    )


def assess_pair(
    model: Network, lr: NDArray, pair: "RegisteredPair", restored: NDArray
) -> TrustReport:
    """As `assess`, for a pair, over the field that both images share.

    Args:
        model: the network.
        lr: (H, W) as recorded.
        pair: its registration.
        restored: the result, on the grid of HR.
    """
    # the corners of HR in px of LR, rounded so that errors of the inverse cut no row off
    matrix = np.array(pair.report.matrix)
    height, width = restored.shape
    corners = [[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]]
    x, y = (cv2.invertAffineTransform(matrix) @ np.transpose(corners)).round(6)

    # The LR pixels that lie within the corners of HR, whichever way it is turned: of four corners
    # two are left and two right, two above and two below.
    x, y = np.sort(x), np.sort(y)
    left, top = max(math.ceil(x[1]), 0), max(math.ceil(y[1]), 0)
    right, bottom = math.floor(x[2]) + 1, math.floor(y[2]) + 1
    image = lr[top:bottom, left:right]
    if 0 in image.shape:
        return _unknown(
            "The image and its HR share no field, so nothing can be said of its restoration."
        )
    matrix[:, 2] += matrix[:, :2] @ (left, top)

    # A blur first, so that nothing is folded onto the coarser grid.
    fine: NDArray = np.asarray(restored, np.float32)
    sigma = 0.4 * math.sqrt(max(pair.report.magnification**2 - 1, 0))
    if sigma > 0:
        fine = np.asarray(cv2.GaussianBlur(fine, (0, 0), sigma), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    same = cv2.warpAffine(fine, matrix, image.shape[::-1], flags=flags)
    return assess(model, image, same)


_NOT_NOISE = {
    "strength": (
        "Less was taken away than the noise of the image: it may still be noisy.",
        "More was taken away than the noise of the image: structure may be among it.",
    ),
    "low": (
        "What was taken away has fewer slow changes than noise has.",
        "What was taken away has slow changes that noise has not: shading or structure may be "
        "lost.",
    ),
    "structure": (
        "Less was taken away at edges than elsewhere: noise may remain there.",
        "What was taken away is strongest where the specimen has structure: details may be lost.",
    ),
    "left": (
        "The result has less fine grain than results of the training images.",
        "The result still has a fine grain like the noise of the image.",
    ),
}
"""What a residual says whose number is below or above its limits."""
_NO_NOISE = "The image has next to no noise, and next to nothing was taken away."
_PATTERN_LOST = (
    "What was taken away repeats regularly: a fine pattern of the specimen, such as an array of "
    "holes, may be lost."
)


def _unlike_noise(numbers: NDArray, noise: Noise, reference: Reference) -> str:
    """The sentence on that number of a residual (4,) which is farthest from those of training."""
    worst = int(reference.residual.deviations(numbers[None])[0].argmax())
    low, high = _NOT_NOISE[reference.residual_names[worst]]
    if numbers[worst] > reference.residual.high[worst]:
        return high
    nothing = noise.sd < LEAST_NOISE and low == _NOT_NOISE["strength"][0]
    return _NO_NOISE if nothing else low


def _unknown(warning: str) -> TrustReport:
    return TrustReport(Noise(*(math.nan,) * 5), warnings=[warning])


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


@lru_cache(maxsize=1)
def shipped_reference() -> Reference | None:
    """The statistics that come with the shipped model; None where there are none."""
    return Reference.read(REFERENCE_FILE) if REFERENCE_FILE.is_file() else None


def write_residual(path: Path, taken: Residual) -> float:
    """Write what was taken away as a 16-bit picture, (H, W) of the image.

    Mid-grey is 0; black and white are minus and plus four standard deviations.

    Returns:
        The value of white, in shares of the image's range.

    Raises:
        ImageError: if it cannot be written.
    """
    half = max(_RESIDUAL_RANGE * float(taken.image.std()), 1e-4)
    like = Micrograph(np.zeros((1, 1), np.float32), np.dtype(np.uint16), 0.0, 65535.0)
    write_image(path, 0.5 + taken.image / (2 * half), like=like)
    return half
