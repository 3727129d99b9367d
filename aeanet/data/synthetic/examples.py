"""Examples for training and whole images for tests: scenes scanned at low magnification, beside
clean targets.
"""

from dataclasses import dataclass, replace

import numpy as np

from aeanet.data.alignment import warp
from aeanet.data.synthetic.acquisition import Acquisition
from aeanet.data.synthetic.scan import Scan
from aeanet.data.synthetic.scenes import Scene, draw_scene
from aeanet.imaging.upsampling import upsample_region, upsampled_shape

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


class WholeImage(Example):
    """A simulated image for tests.

    Attributes:
        lr: (H, W) float32 in [0, 1], the noisy image on its own grid, quantised to
            `acquisition.bits`.
        hr: (round(H * magnification), round(W * magnification)) float32 in [0, 1], the clean
            target.
        magnification, noise, kind, acquisition: as in `Example`.
    """


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
    same bits.

    Raises:
        ValueError: the crop does not lie within the scene.
    """
    rows, columns = scene.signal.shape
    if not (0 <= origin[0] <= rows - crop and 0 <= origin[1] <= columns - crop and crop > 0):
        raise ValueError(
            f"a crop of {crop} px at {origin} does not lie within a scene of {rows} x {columns} px."
        )
    scan = Scan(scene, acquisition, rng, origin, (crop, crop))
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
    scene = draw_scene(rng, size[::-1] if settings.turn & 1 else size, kind)
    return scan_image(scene, settings, rng, shape)


def scan_image(
    scene: Scene, acquisition: Acquisition, rng: np.random.Generator, shape: tuple[int, int]
) -> WholeImage:
    """Scan a whole scene: LR has `shape`, the target that of `upsample`. The axes are scaled
    equally.
    """
    settings = replace(acquisition, stretch=1.0, registered=False)
    size = upsampled_shape(shape, settings.magnification)
    scan = Scan(scene, settings, rng, (0, 0), size, aligned=True)
    lr = scan.read(slice(0, shape[0]), slice(0, shape[1]))
    return WholeImage(lr, scan.target(), settings.magnification, scan.noise(), scene.kind, settings)


def _interpolated(scan: Scan, crop: int) -> np.ndarray:
    """As `upsample` does it with an image of which the crop is a part."""
    top, left = map(int, scan.corner)
    rows, columns = slice(top, top + crop), slice(left, left + crop)
    return upsample_region(scan.read, (_FAR, _FAR), scan.acquisition.magnification, rows, columns)


def _interpolated_by_warp(scan: Scan, crop: int) -> np.ndarray:
    """As `register_pair` does it, for LR on the grid of HR."""
    rows, columns = (scan.lr_span(axis, crop) for axis in (0, 1))
    (my, mx), (top, left) = scan.scale, scan.corner
    matrix = np.array(
        [
            [mx, 0, mx * (columns.start + 0.5) - 0.5 - left],
            [0, my, my * (rows.start + 0.5) - 0.5 - top],
        ]
    )
    return warp(scan.read(rows, columns), matrix, (crop, crop))
