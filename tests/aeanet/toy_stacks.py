"""What the tests of stacks share: a network that changes nothing, and a volume."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aeanet.inference.stack_files import RestoredStack, restore_stack_file
from aeanet.io.stacks import open_stack
from aeanet.networks.base import Network


class Identity(Network):
    """Gives each image back; `shift` is added to it."""

    magnification = 1.0

    def __init__(self, shift: float = 0.0, fits_range: bool = False) -> None:
        super().__init__({"name": "identity"})
        self.shift = torch.nn.Parameter(torch.tensor(shift))
        self.fits_range = fits_range

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.shift


def restored(model: Network, path: Path, target: Path, **options: Any) -> RestoredStack:
    axes = options.pop("axes", None)
    with open_stack(path, axes=axes) as stack:
        return restore_stack_file(model, stack, target, **options)


def volume(seed: int = 0, planes: int = 5, side: int = 40) -> NDArray[np.uint16]:
    """Slices of a pattern whose exposure changes from slice to slice."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, : side + 8]
    pattern = 0.2 * np.sin(x / 3) * np.cos(y / 5)
    slices = [
        0.3 + 0.02 * number + pattern + random.normal(0, 0.02, pattern.shape)
        for number in range(planes)
    ]
    return np.rint(np.clip(slices, 0, 1) * 20000).astype(np.uint16)
