"""Paired library-based non-local means."""

import torch
import torch.nn.functional as F
from torch import Tensor

from aeanet.errors import ModelError
from aeanet.networks.base import check_images
from aeanet.networks.baselines.examples import Library, strips


class PairedNonLocalMeans(Library):
    """Each pixel is a weighted mean over similar LR patches, of the pixels that HR has at their
    centres.

    Output = sum w h / sum w over the nearest library patches, w = exp(-d^2 / 2 sigma^2), where d is
    the distance of the LR patches (Qian et al. 2020; paired LB-NLM in the paper). The sizes are
    ours, sigma is chosen by trial.

    Args:
        size: patches in the library.
        patch: their side, px, odd.
        neighbours: number of patches that are averaged.

    Raises ModelError for an even `patch`, which has no centre.
    """

    candidates = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8)

    def __init__(self, size: int = 16_384, patch: int = 7, neighbours: int = 64) -> None:
        if patch % 2 == 0:
            raise ModelError(f"patch is {patch}, wanted an odd number of pixels.")
        super().__init__({"name": "lbnlm"}, size=size, patch=patch, neighbours=neighbours)
        self.reach = patch // 2

    def forward(self, images: Tensor) -> Tensor:
        check_images(images)
        height, width = images.shape[2:]
        padded = F.pad(images.to(self.lr.dtype), [self.reach] * 4, mode="replicate")
        result = torch.empty_like(images)
        with torch.autocast(images.device.type, enabled=False):
            for image, target in zip(padded, result[:, 0], strict=True):
                for rows in strips(height):
                    strip = image[:, rows.start : rows.stop + 2 * self.reach]
                    patches = F.unfold(strip[None], self.patch)[0].T
                    target[rows] = self.look_up(patches).view(-1, width)
        return result

    def restored(self, patches: Tensor) -> Tensor:
        """LR patches (P, patch * patch) -> HR at their centres, (P,)."""
        index, distance = self.nearest(patches)
        weights = torch.softmax(-distance / (2 * self.setting.square()), dim=1)
        return (weights * self.centres(self.hr)[index]).sum(1)

    def error(self, lr: Tensor, hr: Tensor) -> float:
        return super().error(lr, self.centres(hr))

    def centres(self, patches: Tensor) -> Tensor:
        return patches[:, self.patch * self.patch // 2]
