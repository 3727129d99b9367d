"""The trainings that `benches.networks` compares."""

from dataclasses import replace

import torch

from aeanet.training.pretraining import pretraining_recipe
from benches.networks import STEPS, Training


def test_the_result_of_a_training_is_the_average_of_its_weights() -> None:
    recipe = replace(pretraining_recipe(), batch=1, crop=16, steps=STEPS, max_seconds=60)
    training = Training(recipe, {"name": "unet", "residual": True})
    for seed in range(2):
        lr = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
        training.take((lr, lr, None, None))
    result = training.result()
    assert not result.training
    states = training.step.optimizer.state
    for found, parameter in zip(result.parameters(), training.model.parameters(), strict=True):
        torch.testing.assert_close(found, states[parameter]["average"].cpu())
