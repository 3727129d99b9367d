"""Methods by example: each LR patch is looked up in a library of LR patches with their HR
patches.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeanet.data.crops import RandomCrops
from aeanet.networks.base import Network

if TYPE_CHECKING:
    from aeanet.data.registration import RegisteredPair

AT_ONCE = 2**22  # distances in memory at a time: 16 MiB
ROWS = 16  # of patches, cut out of the image at a time
TRIALS = 2048  # patches on which `fit` tries a setting


class Library(Network):
    """The base of these methods: the library, the search for nearest neighbours, and one number
    chosen by trial.

    `fit` draws the library from the training regions, and other patches with which it chooses the
    best of `candidates`. Sizes are ours; the sources give none, or none that suits.

    Attributes:
        lr, hr: (size, patch * patch) each, parameters without gradient.
        setting: the number that was chosen; a width or a weight, depending on the method.
    """

    candidates: Sequence[float]

    def __init__(self, config: dict[str, Any], *, size: int, patch: int, neighbours: int) -> None:
        super().__init__(config | {"size": size, "patch": patch, "neighbours": neighbours})
        self.patch, self.neighbours = patch, neighbours
        self.lr = nn.Parameter(torch.zeros(size, patch * patch), requires_grad=False)
        self.hr = nn.Parameter(torch.zeros(size, patch * patch), requires_grad=False)
        self.setting = nn.Parameter(torch.tensor(float(self.candidates[0])), requires_grad=False)

    def restored(self, patches: Tensor) -> Tensor:
        """LR patches (P, patch * patch) -> their restoration."""
        raise NotImplementedError

    def look_up(self, patches: Tensor) -> Tensor:
        """`restored`, of as many patches at a time as `AT_ONCE` allows."""
        return torch.cat(
            [self.restored(some) for some in patches.split(max(AT_ONCE // len(self.lr), 1))]
        )

    def fit(self, pairs: "Sequence[RegisteredPair]", seed: int = 0) -> None:
        """Draw the library at random from the pairs' training regions. Raises PairError if they
        have no room.
        """
        size = len(self.lr)
        crops = RandomCrops(pairs, self.patch, size + TRIALS, seed=seed)
        drawn = zip(*(crops[i] for i in range(len(crops))), strict=True)
        lr, hr = (torch.stack(patches).flatten(1).to(self.lr) for patches in drawn)
        with torch.no_grad():
            self.lr.copy_(lr[:size])
            self.hr.copy_(hr[:size])
            unknown = self.nearest(lr[size:])[1].amin(1) > 0
            lr, hr = (patches[size:][unknown] for patches in (lr, hr))
            errors = []
            for candidate in self.candidates if len(lr) else ():
                self.setting.fill_(candidate)
                errors.append(self.error(lr, hr))
            self.setting.fill_(
                self.candidates[errors.index(min(errors))] if errors else self.candidates[0]
            )

    def error(self, lr: Tensor, hr: Tensor) -> float:
        """Mean squared error of the restored patches."""
        return float(F.mse_loss(self.look_up(lr), hr))

    def nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of the library nearest to patches (P, patch * patch): indices, squared
        distances, (P, K) each.
        """
        similarity = torch.addmm(-0.5 * self.lr.square().sum(1), patches, self.lr.T)
        index = similarity.topk(min(self.neighbours, len(self.lr)), dim=1, sorted=False).indices
        # computed from the patches: the expanded square above has lost the digits of a small
        # distance
        return index, (self.lr[index] - patches[:, None]).square().sum(2)


def strips(height: int) -> Iterator[slice]:
    """The rows of patches, `ROWS` at a time."""
    for first in range(0, height, ROWS):
        yield slice(first, min(first + ROWS, height))
