"""A part of a scene that can be filtered and then evaluated anywhere, exactly.

With a margin around it, the part is taken as periodic. Filters multiply its Fourier transform, from
which its value follows at every place where a beam stops.
"""

import math

import numpy as np
from scipy import fft

_TAPER = 5  # HR px at the rim over which a part becomes constant, so that its period makes no edge


class PeriodicPart:
    """A part of a scene with a margin, of a size for fast transforms.

    Args:
        signal: (H, W) of the whole scene, mirrored beyond its edges.
        turn: a symmetry of the square, 0 to 7: 1 exchanges the axes, 2 and 4 reverse rows and
            columns of the result.
        origin: row and column of the part in the scene.
        shape: rows and columns of the part, without its margin.
        margin: px on each side, at least; the rim of it is needed for the transition to a constant.
        gain: by which the signal is multiplied.

    Attributes:
        fx: (1, F), frequencies along the lines, cycles per px.
        fy: (rows, 1), the same across the lines.
        spectrum: (rows, F), the transform of the part.
    """

    def __init__(
        self,
        signal: np.ndarray,
        turn: int,
        origin: tuple[int, int],
        shape: tuple[int, int],
        margin: float,
        gain: float,
    ) -> None:
        self.margin = math.ceil(margin) + _TAPER
        sizes = [fft.next_fast_len(length + 2 * self.margin, real=True) for length in shape]
        self.height, self.width = sizes
        part = _cut_out(signal, turn, origin, shape, self.margin, sizes)
        level = part.mean()
        part = level + (part - level) * _taper(self.height)[:, None] * _taper(self.width)
        self.spectrum = fft.rfft2(part * np.float32(gain))
        self.fy = fft.fftfreq(self.height).astype(np.float32)[:, None]
        self.fx = fft.rfftfreq(self.width).astype(np.float32)[None, :]

    def blur(
        self, axes: tuple[float, float], angle: float, dwell: float, binning: float
    ) -> np.ndarray:
        """Transfer function of a Gaussian spot, and of boxes along and across the lines.

        Args:
            axes: standard deviations of the spot along its long and its short axis, px.
            angle: of the long axis from x.
            dwell, binning: lengths of the boxes along and across the lines, px.
        """
        cos, sin = math.cos(angle), math.sin(angle)
        along = cos * self.fx + sin * self.fy
        across = cos * self.fy - sin * self.fx
        exponent = (along * axes[0]) ** 2 + (across * axes[1]) ** 2
        spot = np.exp(np.float32(-2 * np.pi**2) * exponent)
        return spot * (np.sinc(self.fx * dwell) * np.sinc(self.fy * binning)).astype(np.float32)

    def evaluate(
        self, spectrum: np.ndarray, y: np.ndarray, x: np.ndarray, start: np.ndarray
    ) -> np.ndarray:
        """A filtered part at lines `y` and columns `x`, px from its upper left pixel; (len(y),
        len(x)). Each line is displaced along itself by its `start`.
        """
        # Across the lines: the transform along each line that the beam follows.
        turns = self.fy.T.astype(np.float64) * (y[:, None] + self.margin)
        rows = np.exp((2j * np.pi) * turns).astype(np.complex64)
        lines = (rows / np.float32(self.height)) @ spectrum
        turns = self.fx.astype(np.float64) * (start[:, None] + self.margin)
        lines *= np.exp((2j * np.pi) * turns).astype(np.complex64)

        # Along the lines: each frequency but the first, and the last of an even size, stands for
        # itself and its negative.
        weight = np.full(self.fx.shape[1], 2 / self.width)
        weight[0] = 1 / self.width
        if self.width % 2 == 0:
            weight[-1] = 1 / self.width
        waves = np.exp((2j * np.pi) * self.fx.T.astype(np.float64) * x)
        waves = (weight[:, None] * waves).astype(np.complex64)
        return lines.real @ waves.real - lines.imag @ waves.imag


def _taper(length: int) -> np.ndarray:
    """A window (length,) float32 that is 1, but for a raised cosine to 0 at both ends."""
    ramp = np.sin(np.pi / 2 * (np.arange(_TAPER) + 0.5) / _TAPER) ** 2
    window = np.ones(length, np.float32)
    window[:_TAPER], window[-_TAPER:] = ramp, ramp[::-1]
    return window


def _cut_out(
    signal: np.ndarray,
    turn: int,
    origin: tuple[int, int],
    shape: tuple[int, int],
    margin: int,
    sizes: list[int],
) -> np.ndarray:
    """The part with its margin, turned and mirrored as a whole; (sizes) float32."""
    # A size for fast transforms makes the margin longer at the end: at the beginning of a mirrored
    # axis.
    before = [
        length - margin - part if turn & flip else margin
        for length, part, flip in zip(sizes, shape, (2, 4), strict=True)
    ]
    if turn & 1:
        sizes, before = sizes[::-1], before[::-1]

    # Beyond the edges of the scene the indices run back.
    indices = []
    for first, length, ahead, limit in zip(origin, sizes, before, signal.shape, strict=True):
        period = max(2 * (limit - 1), 1)
        index = np.arange(first - ahead, first - ahead + length) % period
        indices.append(np.minimum(index, period - index))
    part = signal[np.ix_(*indices)]

    # the axes are exchanged first: the rows and columns that are reversed are those of the result
    if turn & 1:
        part = part.T
    if turn & 2:
        part = part[::-1]
    if turn & 4:
        part = part[:, ::-1]
    return np.ascontiguousarray(part)
