"""Methods by example: a library of LR patches and of what HR shows in their place, looked up patch by patch."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeanet.data.crops import RandomCrops
from aeanet.networks.base import Network

if TYPE_CHECKING:
    from aeanet.data.registration import RegisteredPair

AT_ONCE = 2**22  # distances, 16 MiB of them, that are held at a time
ROWS = 16  # of patches that are cut out of the image at a time
TRIALS = 2048  # patches on which `fit` tries out a setting


class Library(Network):
    """What such methods share: the library, its nearest neighbours, and one number chosen by trial.

    They learn by looking: `fit` draws the library from the training regions, with patches not in it that it then
    restores by each of `candidates` to choose the best. Sizes are ours; the sources give none, or none that suits.

    Attributes:
        lr, hr: (size, patch * patch) each, parameters without gradient.
        setting: the number that was chosen, by the method a width or a weight.
    """

    candidates: Sequence[float]

    def __init__(self, config: dict[str, Any], *, size: int, patch: int, neighbours: int) -> None:
        super().__init__(config | {"size": size, "patch": patch, "neighbours": neighbours})
        self.patch, self.neighbours = patch, neighbours
        self.lr = nn.Parameter(torch.zeros(size, patch * patch), requires_grad=False)
        self.hr = nn.Parameter(torch.zeros(size, patch * patch), requires_grad=False)
        self.setting = nn.Parameter(torch.tensor(float(self.candidates[0])), requires_grad=False)

    def restored(self, patches: Tensor) -> Tensor:
        """LR patches (P, patch * patch) -> what HR shows, by the library."""
        raise NotImplementedError

    def look_up(self, patches: Tensor) -> Tensor:
        """`restored`, of no more patches at a time than memory is to hold the distances of."""
        return torch.cat([self.restored(some) for some in patches.split(max(AT_ONCE // len(self.lr), 1))])

    def fit(self, pairs: "Sequence[RegisteredPair]", seed: int = 0) -> None:
        """Draw the library at random from the pairs' training regions. Raises PairError if they have no room."""
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
            self.setting.fill_(self.candidates[errors.index(min(errors))] if errors else self.candidates[0])

    def error(self, lr: Tensor, hr: Tensor) -> float:
        """Mean squared error of the restored patches."""
        return float(F.mse_loss(self.look_up(lr), hr))

    def nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of the library nearest to patches (P, patch * patch): numbers and squared distances, (P, K)."""
        similarity = torch.addmm(-0.5 * self.lr.square().sum(1), patches, self.lr.T)
        index = similarity.topk(min(self.neighbours, len(self.lr)), dim=1, sorted=False).indices
        # from the patches themselves: the expanded square above has lost the digits of a small distance
        return index, (self.lr[index] - patches[:, None]).square().sum(2)


def strips(height: int) -> Iterator[slice]:
    """The rows of patches, in parts."""
    for first in range(0, height, ROWS):
        yield slice(first, min(first + ROWS, height))
