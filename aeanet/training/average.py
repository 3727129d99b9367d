"""The running average of a network's weights over its latest steps, which restores better than the
weights of one.
"""

import copy
from typing import Any

import torch

from aeanet.networks.base import Network
from aeanet.networks.shuffled import ShuffledUNet

DECAY = 0.999


class WeightAverage:
    """Averages the weights after each step of `optimizer`, over fewer steps at the beginning.

    The averages are part of the optimizer's state, so a checkpoint holds them.
    """

    def __init__(self, model: Network, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        optimizer.register_step_post_hook(self._update)

    @torch.no_grad()
    def _update(self, *_: Any) -> None:
        for parameter, state in self.optimizer.state.items():
            if "average" not in state:
                state["average"] = parameter.clone()
            done = float(state["step"])
            state["average"].lerp_(parameter, 1 - min(DECAY, done / (done + 10)))

    @torch.no_grad()
    def network(self) -> Network:
        """A copy of the network with the averaged weights, on the CPU and in evaluation mode."""
        averaged = copy.deepcopy(self.model)
        for copied, parameter in zip(averaged.parameters(), self.model.parameters(), strict=True):
            copied.copy_(self.optimizer.state.get(parameter, {}).get("average", parameter))
        if isinstance(averaged, ShuffledUNet):
            averaged.scales = None
        return averaged.cpu().eval()
