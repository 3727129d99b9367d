"""Repeated scans of one field, which drift from scan to scan and within each scan."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aeanet.data.synthetic.acquisition import Acquisition
from aeanet.data.synthetic.scan import Drift, Scan
from aeanet.data.synthetic.scenes import draw_scene
from aeanet.imaging.upsampling import upsampled_shape

_REACH = 40.0  # LR px: the farthest that a frame may drift
_VELOCITY = 1.0  # LR px per frame: standard deviation along each axis
_JUMP = 1.5  # LR px: the same of what is added to each frame as a whole
_WAVE = 0.4  # LR px: the same of the amplitude of what is slow within a frame


@dataclass(frozen=True)
class SimulatedFrames:
    """Frames of one field, and where each of their lines was recorded.

    Attributes:
        frames: (N, H, W) float32 in [0, 1], each quantised to `acquisition.bits`.
        drift: (N, H, 2), displacement (y, x) of each line in px of a frame: pixel (i, j) of frame n
            shows the specimen at (i, j) + drift[n, i].
        noise: standard deviation of the noise of a frame, in grey levels / 255.
        kind: of the specimen.
        acquisition: the settings of each scan. The target follows the drift of a frame
            (`truth`).
    """

    frames: NDArray[np.float32]
    drift: NDArray[np.float64]
    noise: float
    kind: str
    acquisition: Acquisition
    _scan: Scan = field(repr=False)

    def truth(self, frame: int) -> NDArray[np.float32]:
        """What a frame would show without noise, on the grid of `upsample(frame, magnification)`:
        (round(H * magnification), round(W * magnification)) in [0, 1].
        """
        self._scan.drift = _at_rows(self.drift[frame], self.acquisition.magnification)
        return self._scan.target()

    def displacement(self, reference: int) -> NDArray[np.float64]:
        """(N, H, 2), (y, x) in px: the pixel (i, j) of the reference shows the same as the place
        (i, j) + displacement[n, i] of frame n.
        """
        found = np.zeros_like(self.drift)
        lines = np.arange(self.drift.shape[1])
        for n, drift in enumerate(self.drift):
            # The line that shows it is displaced itself, but slowly, so a few steps find it.
            for _ in range(10):
                at = lines + found[n, :, 0]
                there = np.column_stack([np.interp(at, lines, axis) for axis in drift.T])
                found[n] = self.drift[reference] - there
        return found


def simulate_frames(
    seed: int,
    number: int,
    shape: tuple[int, int] = (384, 512),
    *,
    kind: str | None = None,
    acquisition: Acquisition | None = None,
    drift: float = 1.0,
) -> SimulatedFrames:
    """`number` scans of one field, of `shape` each. They depend on the arguments alone.

    The specimen drifts steadily, jumps between frames and moves slowly within each of them. Without
    `acquisition` the settings are those of `Acquisition()`, near the instrument of the measured
    micrographs, at a magnification of 1. All that moves is multiplied by `drift`.
    """
    # the axes are scaled equally, without a random phase: a frame lies on the grid of its truth
    rng = np.random.default_rng(seed)
    settings = acquisition if acquisition is not None else Acquisition(magnification=1.0)
    settings = replace(settings, stretch=1.0, registered=False)
    size = upsampled_shape(shape, settings.magnification)
    scene = draw_scene(rng, size[::-1] if settings.turn & 1 else size, kind)
    reach = _REACH * settings.magnification
    scan = Scan(scene, settings, rng, (0, 0), size, aligned=True, reach=reach)

    # one specimen, scanned anew for each frame: no farther away than its margin reaches
    moved = (drift * _draw_drift(number, shape[0], rng)).clip(-_REACH, _REACH)
    frames = []
    for lines in moved:
        scan.drift = _at_rows(lines, settings.magnification)
        frames.append(scan.read(slice(0, shape[0]), slice(0, shape[1])))
    return SimulatedFrames(np.stack(frames), moved, scan.noise(), scene.kind, settings, scan)


def _draw_drift(number: int, rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Displacements (y, x) of each line of each frame, (number, rows, 2)."""
    within = np.arange(rows)[:, None] / rows
    velocity = rng.normal(0, _VELOCITY, 2)
    drift = np.empty((number, rows, 2))
    for frame in range(number):
        waves, phase = rng.uniform(0.5, 1.5, 2), rng.uniform(0, 1, 2)
        slow = rng.normal(0, _WAVE, 2) * np.sin(2 * np.pi * (waves * within + phase))
        drift[frame] = velocity * (frame + within) + rng.normal(0, _JUMP, 2) + slow
    return drift


def _at_rows(drift: NDArray[np.float64], magnification: float) -> Drift:
    """The displacements of the lines of a frame, (H, 2) in its px, as `Scan.drift` wants them."""

    def moved(y: np.ndarray) -> np.ndarray:
        line = (y + 0.5) / magnification - 0.5
        lines = np.arange(len(drift))
        return magnification * np.stack([np.interp(line, lines, axis) for axis in drift.T])

    return moved
