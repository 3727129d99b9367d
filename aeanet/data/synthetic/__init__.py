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
from aeanet.data.synthetic.frames import SimulatedFrames, simulate_frames
from aeanet.data.synthetic.pair import SimulatedPair, simulate_pair
from aeanet.data.synthetic.scenes import KINDS, Scene, draw_scene

FINGERPRINT = "6a46296569f46cc7e6242746735c5bf64c0d3865c58c3cecaaf3586dde246caf"
"""Names what the simulator draws: under one fingerprint a seed gives the same pixels. It is the
SHA-256 of the source that first drew them. A change of the pixels needs another one, so that
trainings and records tell the images apart.
"""

__all__ = [
    "FINGERPRINT",
    "HR_SPOT",
    "KINDS",
    "Acquisition",
    "Example",
    "Scene",
    "SimulatedFrames",
    "SimulatedPair",
    "WholeImage",
    "draw_scene",
    "scan_image",
    "simulate_example",
    "simulate_frames",
    "simulate_image",
    "simulate_pair",
]
