"""Scenes: the signal of a specimen without noise, at the sampling of a scan at high
magnification.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from aeanet.data.synthetic.bodies import STOCK, bodies, fibres, particles
from aeanet.data.synthetic.emission import draw_contrast, emission
from aeanet.data.synthetic.sections import dead_leaves, layers, lithography
from aeanet.data.synthetic.shapes import Specimen, field, log_uniform
from aeanet.data.synthetic.tilings import foam, grains, polished
from aeanet.data.synthetic.tissue import tissue

Make = Callable[[tuple[int, int], np.random.Generator, float], Specimen]


def _any_bodies(
    kind: str, size: tuple[int, int], rng: np.random.Generator, scale: float
) -> Specimen:
    crisp, ground = log_uniform(rng, 1, 5), rng.uniform(0.3, 0.9)
    return bodies(kind, size, rng, scale, stock=STOCK, crisp=crisp, ground=ground)


_MAKERS: dict[str, Make] = {
    "particles": particles,
    "porous": partial(_any_bodies, "porous"),
    "mixed": partial(_any_bodies, "mixed"),
    "fibres": fibres,
    "foams": foam,
    "grains": grains,
    "layers": layers,
    "lithography": lithography,
    "polished": polished,
    "tissue": tissue,
    "leaves": dead_leaves,
}
KINDS = tuple(_MAKERS)
# Of the draws; bodies are what is looked at most.
_SHARES = np.array([2, 2, 2, 1, 1, 1, 1, 3, 1, 1, 1.5])
# Real LR images have 1/25 of their power per area at 0.14 to 0.20 cycles per px, compared with 0.04
# to 0.08 (median of eleven). Scales up to 2 gave 1/9.
_SCALES = (0.4, 4.0)


@dataclass(frozen=True)
class Scene:
    """A specimen as a detector sees it.

    Attributes:
        kind: one of KINDS.
        signal: (H, W) float32, emission above that of the darkest points, 0 and more, in arbitrary
            units.
        mean, deviation: mean and standard deviation of `signal`.
    """

    kind: str
    signal: np.ndarray
    mean: float
    deviation: float


def draw_scene(rng: np.random.Generator, shape: tuple[int, int], kind: str | None = None) -> Scene:
    """A scene of `shape` = (rows, columns) HR px; the same state of `rng` gives the same bits.

    The kind of specimen, if not given, is drawn from KINDS.

    Raises:
        ValueError: an unknown kind, or a shape below 32 x 32.
    """
    if min(shape) < 32:
        raise ValueError(f"a scene needs at least 32 x 32 pixels, got {shape[0]} x {shape[1]}.")

    # drawn also where it is given, so that the draws that follow are the same
    drawn = KINDS[rng.choice(len(KINDS), p=_SHARES / _SHARES.sum())]
    if kind is None:
        kind = drawn
    if kind not in _MAKERS:
        raise ValueError(f"kind is {kind!r}, wanted one of {', '.join(KINDS)}.")

    # shape and material, the finest texture, then what a detector collects of them
    scale = log_uniform(rng, *_SCALES)
    surface, material = _MAKERS[kind](shape, rng, scale)
    _roughen(surface, material, rng)
    signal = emission(surface, material, rng, draw_contrast(rng)).astype(np.float32)

    # nearly the darkest point is 0; a quantile, since single pixels may lie far below
    signal = np.maximum(signal - np.float32(np.quantile(signal[::5, ::5], 0.001)), 0)
    return Scene(kind, signal, float(signal.mean()), float(signal.std()))


def _roughen(surface: np.ndarray, material: np.ndarray, rng: np.random.Generator) -> None:
    """Fine texture on everything, in place: roughness with a random spectrum, and spots of another
    yield.
    """
    shape = surface.shape
    strength, slope = log_uniform(rng, 0.01, 0.4), rng.uniform(0.4, 1.2)
    for scale in (1.5, 3.0, 6.0, 12.0):
        height = np.float32(strength * scale**slope * rng.uniform(0.3, 1))
        surface += height * field(shape, scale, rng)
    if rng.uniform() < 0.5:
        grain = field(shape, rng.uniform(1.5, 5), rng)
        material *= np.maximum(1 + np.float32(rng.uniform(0.02, 0.15)) * grain, 0.05)
