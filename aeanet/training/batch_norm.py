"""The running statistics of batch norm in a training of any length."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

WINDOW = 5  # early on, the statistics average over about the latest fifth of the steps


class RunningStatistics:
    """Lets the running statistics of a network's batch norms follow its training from the first
    step on.

    With momentum 0.003 they follow too slowly for a run of a few hundred steps: prediction would
    still use the values of the first ones. So the momentum starts at 1 and falls as 5 / (5 + step),
    which averages over about the latest fifth of the steps done, until it meets 0.003 at step
    1,662. From there on, 98 % of the paper's 120,000 steps, it is the paper's; what the early steps
    left has by then decayed to nothing. A model is thus usable after any step, interrupted ones
    included, without a pass over the data at the end.

    The average is taken here, from the statistics of each batch, which the norms leave behind with
    a momentum of 1: a momentum that changed with every step would have `torch.compile` build the
    network anew for each.
    """

    def __init__(self, model: nn.Module) -> None:
        self.momenta = {
            norm: norm.momentum or 0.0 for norm in model.modules() if isinstance(norm, _BatchNorm)
        }

    @contextmanager
    def following(self, step: int, *, frozen: bool) -> Iterator[None]:
        """Within it, the network sees the batch of `step` (from 0 on); frozen statistics are used,
        not changed.
        """
        for norm in self.momenta:
            norm.train(not frozen)
            norm.momentum = 1.0
        before = [statistic.clone() for statistic, _ in self._changing()]
        yield
        for old, (statistic, momentum) in zip(before, self._changing(), strict=True):
            statistic.copy_(old.lerp_(statistic, max(momentum, WINDOW / (WINDOW + step))))
        for norm, momentum in self.momenta.items():
            norm.momentum = momentum

    def _changing(self) -> Iterator[tuple[Tensor, float]]:
        """Running means and variances that this step changes, and the momentum they end up with."""
        for norm, momentum in self.momenta.items():
            if norm.training and norm.running_mean is not None and norm.running_var is not None:
                yield norm.running_mean, momentum
                yield norm.running_var, momentum
