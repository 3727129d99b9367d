"""The oracle: the simplest training loop, written from the recipe's text."""

from collections.abc import Sequence

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from aeanet.data.crops import RandomCrops
from aeanet.data.registration import RegisteredPair
from aeanet.networks.base import Network
from aeanet.networks.registry import build_model
from aeanet.training import Recipe


def plain_training(
    pairs: Sequence[RegisteredPair], recipe: Recipe, name: str, steps: int
) -> tuple[Network, torch.optim.Optimizer]:
    """The network and its optimiser after the first `steps` steps of a recipe."""
    torch.manual_seed(recipe.seed)
    model = build_model(name).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    crops = RandomCrops(pairs, recipe.crop, steps * recipe.batch, seed=recipe.seed)
    for step, (lr, hr) in enumerate(DataLoader(crops, batch_size=recipe.batch)):
        optimiser.param_groups[0]["lr"] = recipe.learning_rate(step, step / recipe.steps)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 5 / (5 + step)
                module.train(step / recipe.steps < recipe.freeze)
        optimiser.zero_grad()
        (model(lr) - hr).abs().mean().backward()
        optimiser.step()
    return model, optimiser
