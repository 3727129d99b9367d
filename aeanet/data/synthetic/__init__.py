"""Simulated electron micrographs: pairs for the demonstration, examples for training, whole images
for tests.
"""

from aeanet.data.synthetic.acquisition import HR_SPOT, Acquisition
from aeanet.data.synthetic.examples import (
    Example,
    WholeImage,
    scan_image,
    simulate_example,
    simulate_image,
)
from aeanet.data.synthetic.pair import SimulatedPair, simulate_pair
from aeanet.data.synthetic.scenes import KINDS, Scene, draw_scene

__all__ = [
    "HR_SPOT",
    "KINDS",
    "Acquisition",
    "Example",
    "Scene",
    "SimulatedPair",
    "WholeImage",
    "draw_scene",
    "scan_image",
    "simulate_example",
    "simulate_image",
    "simulate_pair",
]
