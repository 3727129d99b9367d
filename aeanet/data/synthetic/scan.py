"""One scan of a part of a scene: what a good instrument would show there, and what this one
records.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from aeanet.data.synthetic.acquisition import Acquisition, cubic_response
from aeanet.data.synthetic.fourier import PeriodicPart
from aeanet.data.synthetic.scenes import Scene
from aeanet.imaging.upsampling import upsample_region

Drift = Callable[[np.ndarray], np.ndarray]
"""Displacements (y, x), HR px, of the lines at rows `y` of an image, HR px: (len(y),) -> (2,
len(y)).
"""

_CUBIC = 2  # px on either side that the cubic kernel needs
_MARGIN = 1 + _CUBIC  # LR px around a part, for the jitter and the cubic kernel; beside filters
_LEAST = 3  # LR px for filters
_FAR = 1 << 20  # px: an image so large that no part of it touches its far edges


class Scan:
    """One scan of a part of a scene. HR coordinates count from the corner of an imagined whole
    image.

    Args:
        scene: the whole.
        acquisition: the settings.
        rng: for all that is random.
        origin: row and column of the part in the scene, HR px.
        shape: rows and columns of the part, HR px.
        aligned: the part is the whole image, rather than a crop from a random place of it.
        reach: how far `drift` may displace a line, HR px.

    Attributes:
        drift: displaces the lines of the next image and target, if it is set; within `reach`.
        corner: row and column of the part in the whole image, a fraction of a pixel for a
            registered image.
        scale: HR px per LR px along y and x.
    """

    def __init__(
        self,
        scene: Scene,
        acquisition: Acquisition,
        rng: np.random.Generator,
        origin: tuple[int, int],
        shape: tuple[int, int],
        *,
        aligned: bool = False,
        reach: float = 0.0,
    ) -> None:
        # a crop lies anywhere in a whole image, so its place on the grid of LR varies
        a = acquisition
        self.drift: Drift | None = None
        self.acquisition, self.rng, self.shape = a, rng, shape
        start = np.zeros(2) if aligned else rng.integers(64, 4096, 2)
        phase = rng.uniform(0, 1, 2) if a.registered else np.zeros(2)
        self.corner = tuple((start + phase).tolist())
        # Without a registration nobody knows that the axes differ, so the target is stretched like
        # LR.
        self.scale = (a.magnification * (a.stretch if a.registered else 1.0), a.magnification)

        # grey = gain * signal + black. Of three slow waves of vibration two displace lines along
        # themselves, one across.
        gain = a.contrast / max(scene.deviation, 1e-6)
        self._black = a.brightness - gain * scene.mean
        self._waves = [  # amplitude and frequency across or along the lines, phase
            (
                float(rng.normal(0, a.vibration * a.magnification / 2)),
                1 / rng.uniform(12, 120),
                rng.uniform(0, 1),
                axis,
            )
            for axis in (1, 1, 0)
            if a.vibration
        ]

        # What filters and the cubic kernel of a digital zoom need around a part.
        along, across = a.software_kernels()
        self._filtered = max(len(a.band_kernel), 3) // 2 + max(len(along), len(across)) // 2
        around = self._filtered if a.zoom == 1 else (self._filtered + _CUBIC) * a.zoom
        margin = (_MARGIN + max(around, _LEAST)) * a.magnification + 3 * a.spot_axes()[0]
        margin += 3 * a.vibration * a.magnification + reach
        self._part = PeriodicPart(scene.signal, a.turn, origin, shape, margin, gain)

        if a.charging:
            # Behind a bright body the line stays dark for a while: minus a decaying exponential,
            # without its mean.
            tail = 1 / (1 + 2j * np.pi * self._part.fx * a.tail)
            tail[0, 0] = 0
            self._part.spectrum *= (1 - a.charging * tail).astype(np.complex64)

    def target(self) -> np.ndarray:
        """The clean image (H, W) in [0, 1] on the HR grid: a scan there by the same instrument,
        without noise.
        """
        a = self.acquisition
        y, x = (np.arange(length, dtype=np.float64) for length in self.shape)
        blur = self._part.blur(a.target_axes(), a.axis, a.dwell, a.binning)
        spectrum = self._part.spectrum * blur * self._filters()
        moved_y, moved_x = self._displacements(y + self.corner[0])
        grey = self._part.evaluate(spectrum, y + moved_y, x, moved_x)
        return np.clip(self._displayed(np.maximum(grey, -a.background)), 0, 1).astype(np.float32)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """These pixels of the noisy LR image, (H, W) float32 in [0, 1]."""
        zoom, white = self.acquisition.zoom, np.float32(2**self.acquisition.bits - 1)
        if zoom == 1:
            level = self._scanned(rows, columns)
        else:
            level = upsample_region(self._scanned, (_FAR, _FAR), zoom, rows, columns)
        return (np.rint(np.clip(level, 0, 1) * white) / white).astype(np.float32)

    def _scanned(self, rows: slice, columns: slice) -> np.ndarray:
        """These pixels of the scan before a digital zoom, which makes LR of it; 1 for white."""
        # more pixels than wanted, for the filters; where the beam stops for each, in HR px
        a, extra = self.acquisition, self._filtered
        i = np.arange(rows.start - extra, rows.stop + extra)
        j = np.arange(columns.start - extra, columns.stop + extra)
        hr_y, hr_x = (m * a.zoom * (k + 0.5) - 0.5 for m, k in zip(self.scale, (i, j), strict=True))
        moved_y, start = self._displacements(hr_y)
        jitter = a.jitter / math.sqrt(a.frames) * a.magnification
        if jitter:
            start = start + self.rng.normal(0, jitter, len(i))

        # the beam, which moves during a pixel, blurs the specimen before noise is added
        boxes = a.dwell * a.magnification, a.binning * a.magnification
        spectrum = self._part.spectrum * self._part.blur(a.spot_axes(), a.axis, *boxes)
        y, x = hr_y - self.corner[0] + moved_y, hr_x - self.corner[1]
        signal = np.maximum(self._part.evaluate(spectrum, y, x, start), -a.background)
        detected = detect(signal, a, self.rng)
        self._variance = float(np.mean(a.noise_variance(signal + a.background)))

        return self._displayed(detected)[extra:-extra, extra:-extra]

    def lr_span(self, axis: int, crop: int) -> slice:
        """The LR pixels that a cubic kernel needs for a crop of `crop` HR px."""
        first, last = (
            (self.corner[axis] + end + 0.5) / self.scale[axis] - 0.5 for end in (0, crop - 1)
        )
        return slice(math.floor(first) - 2, math.floor(last) + 4)

    def noise(self) -> float:
        """Standard deviation of the noise of LR, grey levels / 255; known once pixels were read."""
        gamma, mean = self.acquisition.gamma, max(self.acquisition.brightness / 255, 0.02)
        slope = gamma * mean ** (gamma - 1)
        return slope * math.sqrt(self._variance) / 255

    def _filters(self) -> np.ndarray:
        """Transfer function of the detector's band and of the software's filters for a scan at
        HR's pixels.
        """
        a, fx, fy = self.acquisition, self._part.fx, self._part.fy
        along, across = a.software_kernels()
        kernels = (a.band_kernel, fx), (along, fx), (across, fy)
        transfer = np.ones((1, 1))
        for weights, frequency in kernels:
            first = -(len(weights) // 2)
            transfer = transfer * sum(
                w * np.cos(2 * np.pi * k * frequency) for k, w in enumerate(weights, first)
            )
        if a.zoom > 1:
            transfer = transfer * _zoomed(fx, a.zoom) * _zoomed(fy, a.zoom)
        return transfer.astype(np.float32)

    def _displacements(self, y: np.ndarray) -> np.ndarray:
        """Slow displacements (y, x) of the lines at `y`, HR px; (2, len(y))."""
        moved = np.zeros((2, len(y)))
        for amplitude, frequency, phase, axis in self._waves:
            time = frequency * y / self.scale[0] + phase
            moved[axis] += amplitude * np.sin(2 * np.pi * time)
        return moved if self.drift is None else moved + self.drift(y)

    def _displayed(self, grey: np.ndarray) -> np.ndarray:
        """From grey levels above black to the recorded scale, 1 for white."""
        level = (grey + np.float32(self._black)) * np.float32(1 / 255)
        gamma = self.acquisition.gamma
        return level if gamma == 1 else np.maximum(level, 0) ** np.float32(gamma)


def _zoomed(frequency: np.ndarray, zoom: float) -> np.ndarray:
    """Transfer function of a digital zoom at frequencies in cycles per enlarged px."""
    response = cubic_response()
    at = (np.arange(len(response)) + 0.5) * (4 / len(response)) - 2
    waves = np.cos(2 * np.pi * zoom * frequency[..., None] * at)
    return waves @ (response / response.sum())


def detect(signal: np.ndarray, settings: Acquisition, rng: np.random.Generator) -> np.ndarray:
    """`signal` (H, W) with all noise, grey levels above black, float32."""
    # The filters of the detector reduce white noise, so it is drawn stronger by what they take.
    band = settings.band_kernel
    kept = float((band**2).sum())
    noisy = signal

    # Poisson noise of all that arrives, also of what the black level hides
    if settings.shot:
        quantum = np.float32(settings.shot / settings.frames / kept)
        background = np.float32(settings.background)
        noisy = quantum * rng.poisson((signal + background) / quantum).astype(np.float32)
        noisy -= background

    # what does not depend on the signal: noise of the electronics, discharges
    if settings.read:
        read = np.float32(settings.read / math.sqrt(settings.frames * kept))
        noisy = noisy + read * rng.standard_normal(signal.shape, np.float32)
    if settings.spikes:
        struck = rng.uniform(0, 1, signal.shape) < settings.spikes
        noisy = noisy + struck * rng.exponential(100, signal.shape)
    noisy = noisy.astype(np.float32, copy=False)

    # in the order of the instrument: detector, errors of lines, software
    if len(band) > 1:
        noisy = cv2.filter2D(noisy, cv2.CV_32F, band[None], borderType=cv2.BORDER_REFLECT_101)
    noisy = noisy + _line_errors(signal.shape, settings, rng)
    along, across = settings.software_kernels()
    if len(along) * len(across) > 1:
        edges = cv2.BORDER_REFLECT_101
        noisy = cv2.sepFilter2D(noisy, cv2.CV_32F, along, across, borderType=edges)
    return noisy


def _line_errors(
    shape: tuple[int, ...], settings: Acquisition, rng: np.random.Generator
) -> np.ndarray:
    """What disturbs lines as a whole: stripes, hum and charging events, (H, W) or (H, 1)
    float32.
    """
    # an offset of each line, independent in each frame of the mean
    lines = (shape[0], 1)
    column = np.arange(shape[1])
    error = np.zeros(lines)
    if settings.stripes:
        error = error + rng.normal(0, settings.stripes / math.sqrt(settings.frames), lines)

    # a wave of constant frequency in time, of which each line begins at another phase
    if settings.hum:
        along = column / rng.uniform(4, 200)
        time = along + rng.uniform(0, 1) * np.arange(shape[0])[:, None]
        error = error + settings.hum * np.sin(2 * np.pi * time)

    # a step that decays along its line; it may have come before the first pixel
    if settings.streaks:
        struck = rng.uniform(0, 1, lines) < settings.streaks
        where = rng.uniform(-shape[1], shape[1], lines)
        length = rng.uniform(5, 80, lines)
        size = struck * rng.normal(0, settings.contrast, lines)
        after = column - where
        error = error + size * np.where(after >= 0, np.exp(-np.maximum(after, 0) / length), 0)
    return error.astype(np.float32)
