"""Methods by example: each LR patch is looked up in a library of LR patches with their HR patches.

Paired library-based non-local means, and super-resolution by sparse weights. Sizes are ours; the
sources give none, or none that suits.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeanet.data.crops import RandomCrops
from aeanet.errors import ModelError
from aeanet.networks.base import Network, check_images

if TYPE_CHECKING:
    from aeanet.data.registration import RegisteredPair

AT_ONCE = 2**22  # distances in memory at a time: 16 MiB
ROWS = 16  # of patches, cut out of the image at a time
TRIALS = 2048  # patches on which `fit` tries a setting


class Library(Network):
    """The base of these methods: the library, the search for nearest neighbours, and one number
    chosen by trial.

    `fit` draws the library from the training regions, and other patches with which it chooses the
    best of `candidates`.

    Attributes:
        candidates: for the setting.
        stride: from one patch of the image to the next, px.
        side: of the square in the middle of a patch that is restored, px. Where these overlap, they
            are averaged.
        lr, hr: (size, patch * patch) each, parameters without gradient.
        setting: the number that was chosen; a width or a weight, depending on the method.
    """

    candidates: Sequence[float]
    stride = 1

    def __init__(self, config: dict[str, Any], *, size: int, patch: int, neighbours: int) -> None:
        super().__init__(config | {"size": size, "patch": patch, "neighbours": neighbours})
        self.patch, self.neighbours, self.side = patch, neighbours, patch
        self.lr = nn.Parameter(torch.zeros(size, patch * patch), requires_grad=False)
        self.hr = nn.Parameter(torch.zeros(size, patch * patch), requires_grad=False)
        self.setting = nn.Parameter(torch.tensor(float(self.candidates[0])), requires_grad=False)

    def restored(self, patches: Tensor) -> Tensor:
        """LR patches (P, patch * patch) -> their restored squares (P, side * side)."""
        raise NotImplementedError

    def squares(self, patches: Tensor) -> Tensor:
        """Patches (P, patch * patch) -> the squares in their middle (P, side * side)."""
        middle = slice((self.patch - self.side) // 2, (self.patch + self.side) // 2)
        return patches.unflatten(1, (self.patch, self.patch))[:, middle, middle].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        # only the square in the middle of a patch is restored; the margin is looked at
        check_images(images)
        side, stride = self.side, self.stride
        margin = (self.patch - side) // 2
        height, width = images.shape[2:]

        # As many patches as cover the image; beyond its edges the last row and column are repeated.
        down, across = (-(-max(size - side, 0) // stride) + 1 for size in (height, width))
        rows, columns = (down - 1) * stride + side, (across - 1) * stride + side
        beyond = (margin, margin + columns - width, margin, margin + rows - height)
        padded = F.pad(images.to(self.lr.dtype), beyond, mode="replicate")
        total = padded.new_zeros(len(images), 1, rows, columns)
        with torch.autocast(images.device.type, enabled=False):
            for image, sums in zip(padded, total, strict=True):
                # a strip at a time: all patches with a stride of 1 would take patch ** 2 images
                for first in range(0, down, ROWS):
                    last = min(first + ROWS, down) - 1
                    strip = slice(first * stride, last * stride + side)
                    source = image[None, :, strip.start : strip.stop + 2 * margin]
                    squares = self.look_up(F.unfold(source, self.patch, stride=stride)[0].T)
                    size = (strip.stop - strip.start, columns)
                    sums[:, strip] += F.fold(squares.T[None], size, side, stride=stride)[0]

            # how many squares lie over each pixel, by which their sum becomes a mean
            ones = torch.ones(1, side**2, down * across, device=images.device)
            cover = F.fold(ones, (rows, columns), side, stride=stride)
        return (total / cover)[:, :, :height, :width].to(images.dtype)

    def look_up(self, patches: Tensor) -> Tensor:
        """`restored`, of as many patches at a time as `AT_ONCE` allows."""
        parts = patches.split(max(AT_ONCE // len(self.lr), 1))
        return torch.cat([self.restored(part) for part in parts])

    @torch.no_grad()
    def fit(self, pairs: "Sequence[RegisteredPair]", seed: int = 0) -> None:
        """Draw the library at random from the pairs' training regions, and choose the setting.

        Raises:
            PairError: the pairs have no room for a patch.
        """
        # one draw for both: the first patches are the library, those after it are for the trial
        size = len(self.lr)
        crops = RandomCrops(pairs, self.patch, size + TRIALS, seed=seed)
        drawn = zip(*(crops[i] for i in range(len(crops))), strict=True)
        lr, hr = (torch.stack(patches).flatten(1).to(self.lr) for patches in drawn)
        self.lr.copy_(lr[:size])
        self.hr.copy_(hr[:size])

        # A patch that is in the library tells nothing.
        unknown = self.nearest(lr[size:])[1].amin(1) > 0
        lr, hr = lr[size:][unknown], hr[size:][unknown]
        errors = {}
        for candidate in self.candidates if len(lr) else ():
            self.setting.fill_(candidate)
            errors[candidate] = float(F.mse_loss(self.look_up(lr), self.squares(hr)))
        best = min(errors, key=errors.__getitem__, default=self.candidates[0])
        self.setting.fill_(best)

    def nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of the library nearest to patches (P, patch * patch): indices, squared
        distances, (P, K) each.
        """
        similarity = torch.addmm(-0.5 * self.lr.square().sum(1), patches, self.lr.T)
        index = similarity.topk(min(self.neighbours, len(self.lr)), dim=1, sorted=False).indices
        # computed from the patches: the expanded square above has lost the digits of a small
        # distance
        return index, (self.lr[index] - patches[:, None]).square().sum(2)


class PairedNonLocalMeans(Library):
    """Each pixel is a weighted mean over similar LR patches, of the pixels that HR has at their
    centres.

    Output = sum w h / sum w over the nearest library patches, w = exp(-d^2 / 2 sigma^2), where d is
    the distance of the LR patches (Qian et al. 2020; paired LB-NLM in the paper). sigma is chosen
    by trial.

    Args:
        size: patches in the library.
        patch: their side, px, odd.
        neighbours: number of patches that are averaged.

    Raises:
        ModelError: `patch` is even and so has no centre.
    """

    candidates = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8)

    def __init__(self, size: int = 16_384, patch: int = 7, neighbours: int = 64) -> None:
        if patch % 2 == 0:
            raise ModelError(f"patch is {patch}, wanted an odd number of pixels.")
        super().__init__({"name": "lbnlm"}, size=size, patch=patch, neighbours=neighbours)
        self.side = 1
        self.reach = patch // 2  # of what is around a pixel, which tiles need to know

    def restored(self, patches: Tensor) -> Tensor:
        index, distance = self.nearest(patches)
        weights = torch.softmax(-distance / (2 * self.setting.square()), dim=1)
        return (weights[:, :, None] * self.squares(self.hr)[index]).sum(1)


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

    def restored(self, patches: Tensor) -> Tensor:
        # what is minimised, for each patch, is quadratic in a: a^T gram a / 2 - linear^T a
        index, distance = self.nearest(patches)
        similar = self.lr[index]  # (P, K, patch * patch)
        gram = similar @ similar.mT
        linear = (similar @ patches[:, :, None])[:, :, 0] - self.setting * distance

        # The step is one over a bound of the eigenvalues, which is 0 where all is black.
        largest = gram.abs().sum(2).amax(1, keepdim=True)
        step = 1 / largest.clamp_min(1e-6)

        # FISTA: a step down from `ahead`, cut off at 0; `ahead` goes beyond it by the momentum
        weights = ahead = torch.full_like(distance, 1 / distance.shape[1])
        momentum = 1.0
        for _ in range(self.iterations):
            before = weights
            gradient = (gram @ ahead[:, :, None])[:, :, 0] - linear
            weights = (ahead - step * gradient).clamp_min(0)
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = weights + (momentum - 1) / following * (weights - before)
            momentum = following
        return (weights[:, None] @ self.hr[index])[:, 0]
