"""Examples for training and whole images for tests: scenes scanned at low magnification, beside
clean targets.

The scan is exact: the scene is taken as periodic over a patch with a margin, multiplied in Fourier
space by the transfer function of the spot and of the dwell, and evaluated at the places where the
beam stops, line by line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from scipy import fft

from aeanet.data.synthetic.acquisition import Acquisition, smoothing_kernel
from aeanet.data.synthetic.scenes import Scene, draw_scene
from aeanet.imaging.upsampling import upsample_region, upsampled_shape

_MARGIN = 6  # LR px around a patch: two for the cubic kernel, three for filters, one for the jitter
_TAPER = 5  # HR px at the rim of a patch over which it becomes constant, so that its period makes no edge
_FAR = 1 << 20  # LR px: an image so large that no crop of it touches its edges


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        lr: (crop, crop) float32, the noisy LR image interpolated bicubically onto the HR grid; 0 to
            1 with overshoots.
        hr: (crop, crop) float32 in [0, 1], what a good scan at high magnification would show there
            without noise.
        magnification: HR px per LR px.
        noise: standard deviation of the noise of LR at its own pixels, root of the mean variance,
            in grey levels / 255.
        kind: of the specimen.
        acquisition: the settings of the scan.
    """

    lr: np.ndarray
    hr: np.ndarray
    magnification: float
    noise: float
    kind: str
    acquisition: Acquisition


def simulate_example(
    scene: Scene,
    acquisition: Acquisition,
    rng: np.random.Generator,
    *,
    origin: tuple[int, int],
    crop: int,
) -> Example:
    """Scan the square of `crop` px of `scene` whose upper left pixel is `origin` = (row, column).

    Beyond its edges the scene is mirrored. The same scene, settings and state of `rng` give the
    same bits. Raises ValueError for a crop that does not lie within the scene.
    """
    rows, columns = scene.signal.shape
    if not (0 <= origin[0] <= rows - crop and 0 <= origin[1] <= columns - crop and crop > 0):
        raise ValueError(
            f"a crop of {crop} px at {origin} does not lie within a scene of {rows} x {columns} px."
        )
    scan = _Scan(scene, acquisition, rng, origin, (crop, crop))
    lr = _interpolated_by_warp(scan, crop) if acquisition.registered else _interpolated(scan, crop)
    return Example(
        lr, scan.target(), acquisition.magnification, scan.noise(), scene.kind, acquisition
    )


def simulate_image(
    seed: int,
    shape: tuple[int, int] = (384, 512),
    *,
    kind: str | None = None,
    acquisition: Acquisition | None = None,
    magnification: float | None = None,
) -> WholeImage:
    """A whole image whose LR has `shape`, of a specimen of any kind. It depends on the arguments
    alone.

    The grids of LR and HR are those of `upsample`: `upsample(lr, magnification)` lies on `hr`.
    Without `acquisition` the settings are drawn, for the given magnification if there is one.
    """
    rng = np.random.default_rng(seed)
    settings = acquisition if acquisition is not None else Acquisition.draw(rng, magnification)
    size = upsampled_shape(shape, settings.magnification)
    return scan_image(
        draw_scene(rng, size[::-1] if settings.turn & 1 else size, kind), settings, rng, shape
    )


def scan_image(
    scene: Scene, acquisition: Acquisition, rng: np.random.Generator, shape: tuple[int, int]
) -> WholeImage:
    """Scan a whole scene: LR has `shape`, the target that of `upsample`. The axes are scaled
    equally.
    """
    settings = replace(acquisition, stretch=1.0, registered=False)
    scan = _Scan(
        scene, settings, rng, (0, 0), upsampled_shape(shape, settings.magnification), aligned=True
    )
    lr = scan.read(slice(0, shape[0]), slice(0, shape[1]))
    return WholeImage(lr, scan.target(), settings.magnification, scan.noise(), scene.kind, settings)


@dataclass(frozen=True)
class WholeImage:
    """A simulated image for tests.

    Attributes:
        lr: (H, W) float32 in [0, 1], the noisy image on its own grid, quantised to
            `acquisition.bits`.
        hr: (round(H * magnification), round(W * magnification)) float32 in [0, 1], the clean
            target.
        magnification, noise, kind, acquisition: as in `Example`.
    """

    lr: np.ndarray
    hr: np.ndarray
    magnification: float
    noise: float
    kind: str
    acquisition: Acquisition


def _interpolated(scan: _Scan, crop: int) -> np.ndarray:
    """As `upsample` does it with an image of which the crop is a part."""
    top, left = scan.corner
    rows, columns = slice(top, top + crop), slice(left, left + crop)
    return upsample_region(scan.read, (_FAR, _FAR), scan.acquisition.magnification, rows, columns)


def _interpolated_by_warp(scan: _Scan, crop: int) -> np.ndarray:
    """As `register_pair` does it: by `cv2.warpAffine` with a cubic kernel."""
    spans = [scan.lr_span(axis, crop) for axis in (0, 1)]
    lr = scan.read(*spans)
    (my, mx), (top, left) = scan.scale, scan.corner
    matrix = np.array(
        [
            [mx, 0, mx * (spans[1].start + 0.5) - 0.5 - left],
            [0, my, my * (spans[0].start + 0.5) - 0.5 - top],
        ]
    )
    inverse, flags = cv2.invertAffineTransform(matrix), cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(lr, inverse, (crop, crop), flags=flags, borderMode=cv2.BORDER_REPLICATE)


@dataclass
class _Scan:
    """One scan of a part of a scene. HR coordinates count from the corner of an imagined whole
    image.

    `corner` (row, column) is where the part lies in it, a fraction of a pixel for a registered
    image.
    """

    scene: Scene
    acquisition: Acquisition
    rng: np.random.Generator
    origin: tuple[int, int]
    shape: tuple[int, int]
    aligned: bool = False
    corner: tuple[float, float] = field(init=False)
    scale: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        a, rng = self.acquisition, self.rng
        start = (0, 0) if self.aligned else rng.integers(64, 4096, 2).tolist()
        phase = rng.uniform(0, 1, 2) if a.registered else np.zeros(2)
        self.corner = (
            (float(start[0] + phase[0]), float(start[1] + phase[1]))
            if a.registered
            else tuple(start)
        )
        # Without a registration nobody knows that the axes differ, so the target is stretched like
        # LR.
        self.scale = (a.magnification * (a.stretch if a.registered else 1.0), a.magnification)
        self._gain = a.contrast / max(self.scene.deviation, 1e-6)
        self._black = a.brightness - self._gain * self.scene.mean
        self._waves = [
            (
                float(rng.normal(0, a.vibration * a.magnification / 2)),
                1 / rng.uniform(12, 120),
                rng.uniform(0, 1),
                k,
            )
            for k in (0, 0, 1)
            if a.vibration
        ]
        self._margin = (
            math.ceil(
                _MARGIN * a.magnification + 3 * a.spot_axes()[0] + 3 * a.vibration * a.magnification
            )
            + _TAPER
        )
        self._transform()

    def _transform(self) -> None:
        """Fourier transform of the part with its margin, of a size for fast transforms, in grey
        levels above black.
        """
        sizes = [fft.next_fast_len(length + 2 * self._margin, real=True) for length in self.shape]
        patch = _part(
            self.scene.signal, self.acquisition.turn, self.origin, self.shape, self._margin, sizes
        )
        self._size = patch.shape
        level = patch.mean()
        patch = level + (patch - level) * _taper(sizes[0])[:, None] * _taper(sizes[1])
        self._spectrum = fft.rfft2(patch * np.float32(self._gain))
        self._fy = fft.fftfreq(sizes[0]).astype(np.float32)[:, None]
        self._fx = fft.rfftfreq(sizes[1]).astype(np.float32)[None, :]
        a = self.acquisition
        if a.charging:
            # Behind a bright body the line stays dark for a while: minus a decaying exponential,
            # without its mean.
            tail = 1 / (1 + 2j * np.pi * self._fx * a.tail)
            tail[0, 0] = 0
            self._spectrum *= (1 - a.charging * tail).astype(np.complex64)

    def _transfer(self, axes: tuple[float, float], dwell: float, binning: float) -> np.ndarray:
        """Transfer function of a Gaussian spot with these axes (HR px) and of boxes of these
        lengths (HR px).
        """
        cos, sin = math.cos(self.acquisition.axis), math.sin(self.acquisition.axis)
        along, across = cos * self._fx + sin * self._fy, cos * self._fy - sin * self._fx
        spot = np.exp(
            np.float32(-2 * np.pi**2) * ((along * axes[0]) ** 2 + (across * axes[1]) ** 2)
        )
        return spot * (np.sinc(self._fx * dwell) * np.sinc(self._fy * binning)).astype(np.float32)

    def _filters(self) -> np.ndarray:
        """Transfer function of the detector's band and of the software's smoothing for a scan at
        HR's pixels.
        """
        a = self.acquisition
        transfer = (1 + 2 * a.band * np.cos(2 * np.pi * self._fx)) / (1 + 2 * a.band)
        if a.smoothing:
            weights = smoothing_kernel(a.smoothing)
            for frequency in (self._fx, self._fy):
                transfer = transfer * sum(
                    w * np.cos(2 * np.pi * k * frequency) for k, w in enumerate(weights, -2)
                )
        return transfer.astype(np.float32)

    def _displacements(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slow displacements (y, x) of the lines at `y`, HR px."""
        moved = np.zeros((2, len(y)))
        for amplitude, frequency, phase, across in self._waves:
            moved[1 - across] += amplitude * np.sin(
                2 * np.pi * (frequency * y / self.scale[0] + phase)
            )
        return moved[0], moved[1]

    def _evaluate(
        self, spectrum: np.ndarray, y: np.ndarray, x: np.ndarray, start: np.ndarray
    ) -> np.ndarray:
        """The scene at lines `y` and columns `x` (HR px within the part), each line displaced by
        `start`.
        """
        height, width = self._size
        rows = np.exp(
            (2j * np.pi) * self._fy.T.astype(np.float64) * (y[:, None] + self._margin)
        ).astype(np.complex64)
        lines = (rows / np.float32(height)) @ spectrum
        lines *= np.exp(
            (2j * np.pi) * self._fx.astype(np.float64) * (start[:, None] + self._margin)
        ).astype(np.complex64)
        weight = np.full(self._fx.shape[1], 2 / width)
        weight[0] = 1 / width
        if width % 2 == 0:
            weight[-1] = 1 / width
        wave = (weight[:, None] * np.exp((2j * np.pi) * self._fx.T.astype(np.float64) * x)).astype(
            np.complex64
        )
        return lines.real @ wave.real - lines.imag @ wave.imag

    def target(self) -> np.ndarray:
        """The clean image (H, W) in [0, 1] on the HR grid: a scan there by the same instrument,
        without noise.
        """
        y, x = (np.arange(length, dtype=np.float64) for length in self.shape)
        a = self.acquisition
        spectrum = (
            self._spectrum * self._transfer(a.target_axes(), a.dwell, a.binning) * self._filters()
        )
        moved_y, moved_x = self._displacements(y + self.corner[0])
        grey = self._evaluate(spectrum, y + moved_y, x, moved_x)
        return np.clip(self._displayed(np.maximum(grey, -a.background)), 0, 1).astype(np.float32)

    def _displayed(self, grey: np.ndarray) -> np.ndarray:
        """From grey levels above black to the recorded scale, 1 for white."""
        level = (grey + np.float32(self._black)) * np.float32(1 / 255)
        gamma = self.acquisition.gamma
        return level if gamma == 1 else np.maximum(level, 0) ** np.float32(gamma)

    def lr_span(self, axis: int, crop: int) -> slice:
        """The LR pixels that a cubic kernel needs for the crop."""
        first, last = (
            (self.corner[axis] + end + 0.5) / self.scale[axis] - 0.5 for end in (0, crop - 1)
        )
        return slice(math.floor(first) - 2, math.floor(last) + 4)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """These pixels of the noisy LR image, (H, W) float32 in [0, 1]."""
        a, rng = self.acquisition, self.rng
        extra = 1 + (2 if a.smoothing else 0)
        i = np.arange(rows.start - extra, rows.stop + extra)
        j = np.arange(columns.start - extra, columns.stop + extra)
        hr_y, hr_x = (m * (k + 0.5) - 0.5 for m, k in zip(self.scale, (i, j), strict=True))
        moved_y, moved_x = self._displacements(hr_y)
        jitter = a.jitter / math.sqrt(a.frames) * a.magnification
        start = moved_x + rng.normal(0, jitter, len(i)) if jitter else moved_x
        transfer = self._transfer(
            a.spot_axes(), a.dwell * a.magnification, a.binning * a.magnification
        )
        y, x = hr_y - self.corner[0] + moved_y, hr_x - self.corner[1]
        signal = np.maximum(self._evaluate(self._spectrum * transfer, y, x, start), -a.background)
        detected = self._detect(signal)
        self._variance = float(np.mean(a.noise_variance(signal + a.background)))
        level = self._displayed(detected)[extra:-extra, extra:-extra]
        white = np.float32(2**a.bits - 1)
        return (np.rint(np.clip(level, 0, 1) * white) / white).astype(np.float32)

    def _detect(self, signal: np.ndarray) -> np.ndarray:
        """`signal` (grey levels above black) with all noise."""
        a, rng = self.acquisition, self.rng
        band = a.band_kernel
        kept = float((band**2).sum())  # share of the variance of white noise that the band leaves
        noisy = signal
        if a.shot:
            quantum = np.float32(a.shot / a.frames / kept)
            noisy = quantum * rng.poisson((signal + np.float32(a.background)) / quantum).astype(
                np.float32
            )
            noisy -= np.float32(a.background)
        if a.read:
            noisy = noisy + np.float32(a.read / math.sqrt(a.frames * kept)) * rng.standard_normal(
                signal.shape, np.float32
            )
        if a.spikes:
            noisy = noisy + (rng.uniform(0, 1, signal.shape) < a.spikes) * rng.exponential(
                100, signal.shape
            )
        noisy = noisy.astype(np.float32, copy=False)
        if a.band:
            noisy = cv2.filter2D(noisy, cv2.CV_32F, band[None], borderType=cv2.BORDER_REFLECT_101)
        noisy = noisy + self._line_errors(signal.shape)
        if a.smoothing:
            weights = smoothing_kernel(a.smoothing)
            noisy = cv2.sepFilter2D(
                noisy, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REFLECT_101
            )
        return noisy

    def _line_errors(self, shape: tuple[int, ...]) -> np.ndarray:
        """What disturbs lines as a whole: stripes, hum and charging events, (H, W) or (H, 1)
        float32.
        """
        a, rng = self.acquisition, self.rng
        error = np.zeros((shape[0], 1))
        if a.stripes:
            error = error + rng.normal(0, a.stripes / math.sqrt(a.frames), (shape[0], 1))
        column = np.arange(shape[1])
        if a.hum:
            time = column / rng.uniform(4, 200) + rng.uniform(0, 1) * np.arange(shape[0])[:, None]
            error = error + a.hum * np.sin(2 * np.pi * time)
        if a.streaks:
            struck = rng.uniform(0, 1, shape[0]) < a.streaks
            where, length = (
                rng.uniform(-shape[1], shape[1], (shape[0], 1)),
                rng.uniform(5, 80, (shape[0], 1)),
            )
            size = struck[:, None] * rng.normal(0, a.contrast, (shape[0], 1))
            error = error + size * np.where(
                column >= where, np.exp(-np.maximum(column - where, 0) / length), 0
            )
        return error.astype(np.float32)

    def noise(self) -> float:
        """As in `Example.noise`; known once pixels have been read."""
        gamma, mean = self.acquisition.gamma, max(self.acquisition.brightness / 255, 0.02)
        slope = gamma * mean ** (gamma - 1)
        return slope * math.sqrt(self._variance) / 255


def _taper(length: int) -> np.ndarray:
    """A window (length,) float32 that is 1, but for a raised cosine to 0 at both ends."""
    ramp = np.sin(np.pi / 2 * (np.arange(_TAPER) + 0.5) / _TAPER) ** 2
    window = np.ones(length, np.float32)
    window[:_TAPER], window[-_TAPER:] = ramp, ramp[::-1]
    return window


def _part(
    signal: np.ndarray,
    turn: int,
    origin: tuple[int, int],
    shape: tuple[int, int],
    margin: int,
    sizes: list[int],
) -> np.ndarray:
    """The part of the scene with its margin, turned and mirrored as a whole; (sizes) float32,
    mirrored at the edges.
    """
    # A size for fast transforms makes the margin longer at the end: at the beginning of a mirrored
    # axis.
    before = [
        length - margin - part if turn & flip else margin
        for length, part, flip in zip(sizes, shape, (2, 4), strict=True)
    ]
    wanted = list(zip(sizes, before, strict=True))
    indices = []
    for first, (length, ahead), limit in zip(
        origin, wanted[::-1] if turn & 1 else wanted, signal.shape, strict=True
    ):
        index = np.abs(np.arange(first - ahead, first - ahead + length))
        period = max(2 * (limit - 1), 1)
        index %= period
        indices.append(np.minimum(index, period - index))
    part = signal[np.ix_(*indices)]
    if turn & 1:
        part = part.T
    if turn & 2:
        part = part[::-1]
    if turn & 4:
        part = part[:, ::-1]
    return np.ascontiguousarray(part)
