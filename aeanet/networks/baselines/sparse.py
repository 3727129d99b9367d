"""Super-resolution by sparse weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from aeanet.networks.base import check_images
from aeanet.networks.baselines.examples import Library, strips


class SparseCombination(Library):
    """Each LR patch is a sparse non-negative combination of similar library patches; the result
    combines their HR.

    The coefficients a >= 0 of the nearest library patches p minimise |y - sum a p|^2 / 2 + s sum a
    |y - p|^2. A patch unlike y costs more, which keeps most coefficients at zero (SRSW: Trinh et
    al., "Novel Example-Based Method for Super-Resolution and Denoising of Medical Images", IEEE TIP
    2014). The minimum is approached by accelerated projected gradients (FISTA, Beck & Teboulle
    2009) from equal coefficients. The number of iterations, ours like all sizes, ends before the
    minimum, which gives a better image. Overlapping patches are averaged. s is chosen by trial.

    Args:
        size: patches in the library.
        patch: their side, px.
        neighbours: number of patches that are combined.
        stride: from one patch to the next, px.
        iterations: of the minimisation.
    """

    candidates = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __init__(
        self,
        size: int = 16_384,
        patch: int = 7,
        neighbours: int = 16,
        stride: int = 2,
        iterations: int = 100,
    ) -> None:
        config = {"name": "srsw", "stride": stride, "iterations": iterations}
        super().__init__(config, size=size, patch=patch, neighbours=neighbours)
        self.stride, self.iterations = stride, iterations

    def forward(self, images: Tensor) -> Tensor:
        check_images(images)
        height, width = images.shape[2:]
        down, across = (
            -(-max(length - self.patch, 0) // self.stride) + 1 for length in (height, width)
        )
        extent = (down - 1) * self.stride + self.patch, (across - 1) * self.stride + self.patch
        padded = F.pad(
            images.to(self.lr.dtype),
            (0, extent[1] - width, 0, extent[0] - height),
            mode="replicate",
        )
        total = torch.zeros_like(padded)
        with torch.autocast(images.device.type, enabled=False):
            for image, sums in zip(padded, total, strict=True):
                for rows in strips(down):
                    strip = slice(
                        rows.start * self.stride, (rows.stop - 1) * self.stride + self.patch
                    )
                    patches = F.unfold(image[None, :, strip], self.patch, stride=self.stride)[0].T
                    size = strip.stop - strip.start, extent[1]
                    sums[:, strip] += F.fold(
                        self.look_up(patches).T[None], size, self.patch, stride=self.stride
                    )[0]
            ones = torch.ones(1, self.patch**2, down * across, device=images.device)
            cover = F.fold(ones, extent, self.patch, stride=self.stride)
        return (total / cover)[:, :, :height, :width].to(images.dtype)

    def restored(self, patches: Tensor) -> Tensor:
        """LR patches (P, patch * patch) -> their HR patches."""
        index, distance = self.nearest(patches)
        similar = self.lr[index]  # (P, K, patch * patch)
        gram = similar @ similar.mT
        linear = (similar @ patches[:, :, None])[:, :, 0] - self.setting * distance
        largest = (
            gram.abs().sum(2).amax(1, keepdim=True)
        )  # a bound of the eigenvalues; 0 where all is black
        step = 1 / largest.clamp_min(1e-6)
        weights = ahead = torch.full_like(distance, 1 / distance.shape[1])
        momentum = 1.0
        for _ in range(self.iterations):
            before, weights = (
                weights,
                (ahead - step * ((gram @ ahead[:, :, None])[:, :, 0] - linear)).clamp_min(0),
            )
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = weights + (momentum - 1) / following * (weights - before)
            momentum = following
        return (weights[:, None] @ self.hr[index])[:, 0]
