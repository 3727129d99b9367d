"""The settings of a scan: magnification, spot, detector, noise, disturbances, and how they are
drawn.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from aeanet.imaging.upsampling import upsample

HR_SPOT = 0.75
"""HR px: standard deviation of the spot of a good scan at high magnification.

The beam is that of the scan at low magnification, only its steps are smaller: at 2x, edges as sharp
as those of a spot of 0.45 LR px (`_like_measured`) allow up to 0.9 HR px.
"""


@dataclass(frozen=True)
class Acquisition:
    """How one low-magnification scan is made. Grey levels are those of 8 bits (0 to 255), whatever
    `bits` is.

    Attributes:
        magnification: HR px per LR px along x, 1 to 8; `draw` chooses 1 to 4. 1 means denoising
            alone.
        stretch: the same along y, relative to x, 0.985 to 1.015.
        registered: whether LR is brought onto the HR grid by the warp of a registration, at a
            random sub-pixel phase, or by `upsample`.
        turn: scan rotation and mirroring of the specimen, 0 to 7 (the symmetries of the square).
        spot: standard deviation of the beam, LR px, 0.27 to 1.3.
        astigmatism: long over short axis of the beam, 1 to 2; the long axis lies at the angle
            `axis`, 0 to pi from x.
        dwell: LR px over which the moving beam is integrated along the line, 0 to 1.
        binning: the same across lines, 0 to 1 (1 where an image was binned from a finer one).
        band: share of a pixel's signal that each neighbour on the line gets by the limited
            bandwidth of the detector, relative to what the pixel keeps, 0 to 0.3. It makes a
            correlation of 2 b / (1 + 2 b^2) along the line.
        slow: standard deviation of a slower response of the detector, along the line, LR px, 0 to
            1.3; mostly 0.
        smoothing: standard deviation of a filter of the recording software, LR px, 0 to 1.3; mostly
            0.
        across: the same across lines, in addition, as where lines are averaged; 0 to 1.3.
        resampled: share of a pixel that its neighbours on either side get together, along and then
            across the lines, where software moves an image by fractions of a pixel, as for the
            correction of drift; 0 to 0.5, mostly 0.
        zoom: LR px per px that was scanned, 1 to 2: the software enlarged the image; mostly 1.
        brightness, contrast: mean and standard deviation of the grey levels of the whole specimen,
            before clipping.
        background: grey levels of signal below the darkest point that the black level hides; they
            only add noise.
        gamma: exponent of the display curve, 0.55 to 1.82; mostly 1.
        shot: noise variance per grey level of signal (Poisson); over `frames` and after software
            took its share, 0 to 60 grey levels, mostly below 2.
        read: standard deviation of the noise that does not depend on the signal; over the root of
            `frames` and after software took its share, 0 to 45 grey levels, mostly below 5.
        frames: number of frames averaged; `shot`, `read`, `stripes` and `jitter` are those of one
            frame.
        stripes: standard deviation of the offset of lines; over the root of `frames`, 0 to 6 grey
            levels, mostly 0.
        jitter: standard deviation of the start of a line, LR px, 0 to 0.3. The target does not
            follow it.
        vibration: amplitude of slow sinusoidal displacements of lines, LR px, 0 to 2. The target
            follows it.
        charging: strength of shadows and tails beside bright bodies along the line, 0 to 0.6;
            `tail`, their length in HR px. The target shows them.
        streaks: share of lines with a charging event, a step of brightness that decays along the
            line, 0 to 0.1.
        hum: amplitude of an interference along the scan, grey levels, 0 to 6; mostly 0.
        spikes: share of pixels hit by a discharge, 0 to 0.001.
        bits: 8 to 16, of the recorded file.
    """

    magnification: float = 2.0
    stretch: float = 1.0
    registered: bool = False
    turn: int = 0
    spot: float = 0.43
    astigmatism: float = 1.0
    axis: float = 0.0
    dwell: float = 0.0
    binning: float = 0.0
    band: float = 0.15
    slow: float = 0.0
    smoothing: float = 0.0
    across: float = 0.0
    resampled: float = 0.0
    zoom: float = 1.0
    brightness: float = 80.0
    contrast: float = 18.0
    background: float = 0.0
    gamma: float = 1.0
    shot: float = 0.9
    read: float = 1.0
    frames: int = 1
    stripes: float = 0.0
    jitter: float = 0.07
    vibration: float = 0.0
    charging: float = 0.0
    tail: float = 30.0
    streaks: float = 0.0
    hum: float = 0.0
    spikes: float = 0.0
    bits: int = 8

    def __post_init__(self) -> None:
        ranges = {"magnification": (1, 8), "bits": (8, 16), "frames": (1, math.inf)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                wanted = f"{least} or more" if most == math.inf else f"{least} to {most}"
                raise ValueError(f"{name} is {getattr(self, name)}, wanted {wanted}.")

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        magnification: float | None = None,
        *,
        smooth_noise: bool = False,
    ) -> "Acquisition":
        """Settings drawn over the range of instruments.

        A third are near the instrument of the measured micrographs, the others cover everything
        else. A magnification of 1 or 2 is drawn in a third of the cases each, any other up to 4 in
        the rest. With `smooth_noise`, a third of the others have a slow detector or software that
        makes the noise smooth along the lines, across them, or both.
        """
        if magnification is None:
            choice = rng.uniform()
            magnification = 1.0 if choice < 0.33 else 2.0
            if choice >= 0.7:
                magnification = float(rng.uniform(1, 4))
        if rng.uniform() < 0.35:
            return _like_measured(rng, magnification)
        settings = _of_any_instrument(rng, magnification)
        if smooth_noise and rng.uniform() < 0.33:
            settings = _with_smooth_noise(settings, rng)
        return settings

    def noise_variance(self, signal: np.ndarray | float) -> np.ndarray | float:
        """Variance of the random noise of a pixel, grey levels squared, where the beam gives
        `signal` grey levels.

        `signal` is counted from zero emission: it includes `background` and is before gamma and
        clipping. Stripes, hum, streaks, spikes and quantisation are not counted.
        """
        variance = self.shot * np.maximum(signal, 0) + self.read**2
        return variance * (self.noise_kept / self.frames)

    @property
    def smooths(self) -> bool:
        """Whether a slow detector or software makes the noise smooth."""
        return bool(self.slow or self.software_smooths)

    @property
    def software_smooths(self) -> bool:
        """Whether software makes the noise smooth, so across lines too."""
        return bool(self.smoothing or self.across or self.resampled or self.zoom > 1)

    @property
    def noise_kept(self) -> float:
        """The share of the noise's variance that software leaves, 1 where it does nothing."""
        along, across = self.software_kernels()
        band = self.band_kernel
        kept = float((np.convolve(band, along) ** 2).sum() / (band**2).sum())
        kept *= float((across**2).sum())
        if self.zoom > 1:
            # White noise between its pixels, the mean over the places there, in both directions.
            kept *= float((cubic_response() ** 2).mean() * 4) ** 2
        return kept

    @property
    def band_kernel(self) -> np.ndarray:
        """The detector's response along the line, float32, sum 1."""
        if not self.band and not self.slow:
            return np.ones(1, np.float32)
        kernel = np.array([self.band, 1, self.band], np.float32) / np.float32(1 + 2 * self.band)
        if self.slow:
            kernel = np.convolve(kernel, smoothing_kernel(self.slow))
        return kernel.astype(np.float32)

    def software_kernels(self) -> tuple[np.ndarray, np.ndarray]:
        """The filters of the recording software along and across the lines, float32, sum 1."""
        moved = np.array([self.resampled / 2, 1 - self.resampled, self.resampled / 2])
        kernels = []
        for sigma in (self.smoothing, math.hypot(self.smoothing, self.across)):
            kernel = smoothing_kernel(sigma) if sigma else np.ones(1)
            if self.resampled:
                kernel = np.convolve(kernel, moved)
            kernels.append(kernel.astype(np.float32))
        return kernels[0], kernels[1]

    def spot_axes(self) -> tuple[float, float]:
        """Standard deviations of the beam along its long and its short axis, HR px."""
        ratio = math.sqrt(self.astigmatism)
        return self.spot * self.magnification * ratio, self.spot * self.magnification / ratio

    def target_axes(self) -> tuple[float, float]:
        """The same for the target: a good scan, but for a defocus that LR does not allow to be
        undone.

        A blur of up to 0.9 LR px is undone at a magnification of 2, none at 1: an image that is
        only to be denoised keeps its sharpness.
        """
        undone = HR_SPOT + 1.2 * (self.magnification - 1)
        long, short = (
            math.sqrt(min(s, HR_SPOT) ** 2 + max(0.0, s**2 - undone**2)) for s in self.spot_axes()
        )
        return long, short


@lru_cache(maxsize=1)
def cubic_response() -> np.ndarray:
    """What `upsample` makes of one bright pixel, from -2 to 2 px around it, 64 values per px."""
    impulse = np.zeros((5, 1), np.float32)
    impulse[2] = 1
    response = upsample(impulse, 64.0)[32:-32, 0]
    return response.astype(np.float64)


def smoothing_kernel(sigma: float) -> np.ndarray:
    """Gaussian weights up to 2.8 standard deviations, five or more, float32, sum 1."""
    reach = max(2, math.ceil(2.8 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _like_measured(rng: np.random.Generator, magnification: float) -> Acquisition:
    """Settings around those of eleven micrographs of 640 x 384 px at low magnification, of which
    were measured:

    mean grey level 63 to 96, standard deviation 13 to 24, darkest 17 to 46; noise variance per grey
    level above black 0.66 to 1.0 (one 1.34), next to nothing at black; correlation along the line
    0.25 to 0.31 at a distance of one pixel, 0.02 to 0.06 at two. Noise across the line is white,
    and no more than Poisson in its tails; means of lines differ by about a fifth more than such
    noise explains. Edges are as sharp as those of a simulated spot of 0.45 LR px or less.
    """
    # LR px; a scan that is only to be denoised may be one at high magnification (HR_SPOT)
    spots = (0.27, 0.5) if magnification > 1.2 else (0.4, 0.75)
    return Acquisition(
        magnification=magnification,
        stretch=float(rng.uniform(0.988, 1.012)),
        registered=bool(rng.uniform() < (0.15 if magnification == 1 else 0.6)),
        turn=int(rng.integers(8)),
        spot=float(rng.uniform(*spots)),
        astigmatism=float(1 + rng.exponential(0.06)),
        axis=float(rng.uniform(0, math.pi)),
        dwell=float(rng.choice([0.0, rng.uniform(0, 1)])),
        band=float(rng.uniform(0.1, 0.19)),
        brightness=float(rng.uniform(55, 110)),
        contrast=float(rng.uniform(9, 27)),
        background=float(rng.choice([0.0, rng.exponential(5)])),
        shot=float(np.exp(rng.uniform(math.log(0.4), math.log(1.8)))),
        read=float(rng.uniform(0, 2)),
        stripes=float(rng.uniform(0, 0.5)),
        jitter=float(rng.uniform(0, 0.12)),
        vibration=float(rng.uniform(0, 0.3)),
    )


def _of_any_instrument(rng: np.random.Generator, magnification: float) -> Acquisition:
    """Settings over the range of instruments; most disturbances are in a part of the images
    only.
    """

    def sometimes(share: float, value: float, otherwise: float = 0.0) -> float:
        return float(value) if rng.uniform() < share else otherwise

    brightness, contrast = _grey_scale(rng)

    # The noise is drawn as its standard deviation at twice the contrast above black, a usual mean
    # of the signal.
    # Some images are clean, and are to stay as they are.
    noise = float(np.exp(rng.uniform(math.log(0.3), math.log(45))))
    clean = rng.uniform() < (0.2 if magnification == 1 else 0.05)
    noise = 0.0 if clean else min(noise, 2.5 * contrast)

    # the share of that variance that does not depend on the signal
    constant = float(rng.choice([0.0, 1.0, rng.uniform()], p=(0.3, 0.1, 0.6)))
    background = sometimes(0.4, rng.exponential(0.5) * contrast)
    frames = int(rng.choice([1, 2, 4, 8, 16], p=(0.7, 0.08, 0.1, 0.07, 0.05)))
    spot = float(rng.uniform(0.27, 0.7)) if rng.uniform() < 0.7 else float(rng.uniform(0.7, 1.3))

    # shot, read and stripes are those of one frame, so they grow with the number that is averaged
    return Acquisition(
        magnification=magnification,
        stretch=float(rng.uniform(0.985, 1.015)),
        registered=bool(rng.uniform() < (0.15 if magnification == 1 else 0.5)),
        turn=int(rng.integers(8)),
        spot=spot,
        astigmatism=sometimes(0.5, min(1 + rng.exponential(0.25), 2.0), 1.0),
        axis=float(rng.uniform(0, math.pi)),
        dwell=sometimes(0.5, rng.uniform()),
        binning=sometimes(0.25, rng.uniform()),
        band=sometimes(0.75, rng.uniform(0, 0.3)),
        smoothing=sometimes(0.12, rng.uniform(0.3, 0.7)),
        brightness=brightness,
        contrast=contrast,
        background=background,
        gamma=sometimes(0.15, math.exp(rng.uniform(-0.59, 0.59)), 1.0),
        shot=float((1 - constant) * noise**2 * frames / (2 * contrast + background)),
        read=math.sqrt(constant * frames) * noise,
        frames=frames,
        stripes=sometimes(0.15, min(rng.exponential(0.15) * noise, 6) * math.sqrt(frames)),
        jitter=sometimes(0.7, rng.uniform(0, 0.3)),
        vibration=sometimes(0.4, min(rng.exponential(0.4), 2.0)),
        charging=sometimes(0.2, rng.uniform(0, 0.6)),
        tail=float(np.exp(rng.uniform(math.log(6), math.log(150)))),
        streaks=sometimes(0.1, rng.uniform(0, 0.1)),
        hum=sometimes(0.08, min(rng.uniform(0, 0.5) * noise, 6)),
        spikes=sometimes(0.05, rng.uniform(0, 0.001)),
        bits=int(rng.choice([8, 10, 12, 16], p=(0.7, 0.06, 0.12, 0.12))),
    )


def _with_smooth_noise(settings: Acquisition, rng: np.random.Generator) -> Acquisition:
    """The same with a slow detector or software that makes the noise smooth."""
    kind = rng.choice(5, p=(0.18, 0.18, 0.28, 0.18, 0.18))
    strength = rng.uniform()
    changes: tuple[dict[str, Any], ...] = (
        {"slow": 0.3 + strength},
        {"across": 0.3 + strength},
        {"smoothing": 0.3 + strength},
        {"resampled": 0.1 + 0.4 * strength},
        {"zoom": 1.1 + 0.9 * strength, "spot": min(settings.spot * (1.1 + 0.9 * strength), 1.3)},
    )
    smooth = replace(settings, **changes[kind])

    # Software takes much of the noise; stronger noise is as usual after it.
    stronger = smooth.noise_kept ** -rng.uniform()
    return replace(smooth, shot=smooth.shot * stronger, read=smooth.read * math.sqrt(stronger))


def _grey_scale(rng: np.random.Generator) -> tuple[float, float]:
    """Mean and standard deviation: balanced settings, images of low contrast, and ones clipped at
    black or white.
    """
    kind = rng.choice(4, p=(0.6, 0.2, 0.1, 0.1))
    if kind == 0:
        return float(rng.uniform(60, 160)), float(rng.uniform(15, 50))
    if kind == 1:
        return float(rng.uniform(30, 220)), float(rng.uniform(4, 15))
    mean = rng.uniform(10, 60) if kind == 2 else rng.uniform(180, 235)
    return float(mean), float(rng.uniform(25, 60))
