"""A network with all that `super_resolve` does around it, as one module of plain operations, for
programs that have nothing but the file.
"""

from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeanet.imaging.exposure import BEYOND
from aeanet.imaging.flips import Flips, flips_of
from aeanet.imaging.upsampling import taps
from aeanet.inference.exposure import ABOVE, BELOW, FIRST_TAIL, NARROWEST, TAIL
from aeanet.networks.base import Network

WHITES = (1.0, 255.0, 65535.0)
"""What white can be in an image that a program gives: of floating point, 8 bit and 16 bit."""
MOST_PARTS = 8
"""The greatest denominator of a magnification."""


class Standalone(nn.Module):
    """LR images (N, 1, H, W) as they are in their files -> results (N, 1, magnification * H,
    magnification * W) in the same units.

    White is the least number of `WHITES` that no pixel exceeds, black is 0. A network that fits its
    range (`Network.fits_range`) is shown the range that `find_exposure` finds for an image without
    outliers; they are not looked for here, and all pixels count however large the image is. Each
    image of a batch is taken for itself.

    Args:
        network: its magnification must be known, a fraction with a denominator of at most
            `MOST_PARTS`, of which the sides of an image are multiples.
        flips: 1, 2 or 4: the result is the mean of those for so many flips of the image.
    """

    def __init__(self, network: Network, flips: Flips) -> None:
        super().__init__()
        assert network.magnification is not None
        self.network = network
        self.enlarge = Enlarge(Fraction(network.magnification).limit_denominator(MOST_PARTS))
        self.flips = [
            [axis for axis, flipped in ((2, flip.rows), (3, flip.columns)) if flipped]
            for flip in flips_of(flips)
        ]

    def forward(self, image: Tensor) -> Tensor:
        least, most = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
        white = _white(most)
        low, high = _range(image) if self.network.fits_range else (torch.zeros_like(white), white)

        enlarged = self.enlarge((image - low) / (high - low))

        # As in `prediction.run_exposed`: what is not shown is added to the result.
        shown = enlarged.clamp(-BEYOND, 1 + BEYOND)
        restored = torch.zeros_like(shown)
        for axes in self.flips:
            restored = restored + self.network(shown.flip(axes)).flip(axes)
        result = low + (high - low) * (restored / len(self.flips) + (enlarged - shown))
        return torch.minimum(torch.maximum(result, least.clamp(max=0)), white)


class Enlarge(nn.Module):
    """`upsample` by a simple fraction p / q, (N, 1, H, W) -> (N, 1, p / q * H, p / q * W).

    Every p pixels of a result are made of the same places between q pixels of the image. So the
    weights are constants, as accurate in a large image as in a small one, and neither products in
    TF32 nor the rounding of coordinates, as in other bicubic interpolations, touch the image.
    """

    def __init__(self, factor: Fraction) -> None:
        super().__init__()
        self.factor = factor
        # A period far from the edges, which repeat.
        period = slice(MOST_PARTS * factor.numerator, (MOST_PARTS + 1) * factor.numerator)
        places, weights = taps(period, 10**6, float(factor))
        self.places = (places - MOST_PARTS * factor.denominator).T.tolist()
        self.weights = weights.T.tolist()
        self.before, self.after = -int(np.min(self.places)), int(np.max(self.places))

    def forward(self, image: Tensor) -> Tensor:
        if self.factor == 1:
            return image
        return self._wider(self._wider(image.mT).mT)

    def _wider(self, image: Tensor) -> Tensor:
        """Enlarged along the rows alone."""
        step = self.factor.denominator
        length = image.shape[3] // step * step
        padded = F.pad(image, (self.before, self.after, 0, 0), mode="replicate")
        made = []
        for places, weights in zip(self.places, self.weights, strict=True):
            starts = [self.before + place for place in places]
            parts = [
                weight * padded[..., start : start + length : step]
                for start, weight in zip(starts, weights, strict=True)
            ]
            made.append(parts[0] + parts[1] + parts[2] + parts[3])
        return torch.stack(made, -1).flatten(-2)


def _white(most: Tensor) -> Tensor:
    """White of images whose greatest values these are; beyond all `WHITES` it is that value."""
    white = most
    for candidate in reversed(WHITES):
        white = torch.where(most <= candidate, torch.full_like(most, candidate), white)
    return white


def _range(image: Tensor) -> tuple[Tensor, Tensor]:
    """`exposure.fit_range` of each image, (N, 1, 1, 1) each: what is black and white to the
    network.
    """
    # (N, pixels) in order, so that quantiles are places
    values = image.flatten(1).sort(1).values
    least, most = values[:, :1], values[:, -1:]
    dark, bright = _quantiles(values, TAIL)
    used = bright - dark
    low = torch.maximum(dark - BELOW * used, _clipped_at(values))
    high = torch.minimum(bright + ABOVE * used, -_clipped_at(-values.flip(1)))

    # Images of few values, and of one.
    first = _quantiles(values, FIRST_TAIL)
    fits = low < high
    low, high = torch.where(fits, low, first[0]), torch.where(fits, high, first[1])
    fits = low < high
    low, high = torch.where(fits, low, least), torch.where(fits, high, most)
    size = torch.where(least == 0, torch.ones_like(least), least.abs())
    high = torch.where(low < high, high, low + NARROWEST * size)
    return low[:, :, None, None], high[:, :, None, None]


def _quantiles(values: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    """`exposure._quantiles` of sorted values (N, pixels), (N, 1) each."""
    total = torch.ones_like(values, dtype=torch.int64).sum(1, keepdim=True)
    dark, bright = _number_of(values, values[:, :1]), _number_of(values, values[:, -1:])
    between = total - dark - bright
    enough = 2 * between > total
    first = torch.where(enough, dark, torch.zeros_like(dark))
    steps = torch.where(enough, between, total) - 1
    return _value_at(values, first, tail * steps), _value_at(values, first, (1 - tail) * steps)


def _value_at(values: Tensor, first: Tensor, place: Tensor) -> Tensor:
    """The value so many places after the first, interpolated."""
    below = place.floor()
    before = first + below.long()
    after = first + place.ceil().long()
    lower, upper = values.gather(1, before), values.gather(1, after)
    return lower + (place - below) * (upper - lower)


def _number_of(values: Tensor, value: Tensor) -> Tensor:
    return (values == value).sum(1, keepdim=True)


def _clipped_at(values: Tensor) -> Tensor:
    """`exposure._clipped_at` of sorted values (N, pixels), (N, 1); the lowest number stands for
    minus infinity.
    """
    least = values[:, :1]
    number = _number_of(values, least)
    total = torch.ones_like(values, dtype=torch.int64).sum(1, keepdim=True)
    beside = _number_of(values, values.gather(1, number.minimum(total - 1)))
    clipped = (number > TAIL * total) & (number > 2 * beside)
    return torch.where(clipped, least, torch.full_like(least, torch.finfo(torch.float32).min))
