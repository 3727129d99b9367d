"""The network that estimates errors: what it learns, and its files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aeanet.errors import ModelError
from aeanet.networks import error, registry
from aeanet.networks.error import (
    ErrorNetwork,
    error_network_of,
    head_training,
    load_error_network,
    save_head,
)
from aeanet.networks.registry import build_model, load_model, save_model
from aeanet.networks.shuffled import ShuffledUNet
from aeanet.training.recipe import Recipe, RecipeError
from aeanet.training.step import TrainingStep, interval_loss

SMALL = {"widths": [4, 8], "blocks": [1, 1]}


def small_network() -> ErrorNetwork:
    """With weights that are all away from zero, for a magnification of 2."""
    torch.manual_seed(0)
    model = ShuffledUNet(**SMALL)  # type: ignore[arg-type]
    model.magnification = 2.0
    network = error_network_of(model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return network.eval()


def test_the_loss_is_least_at_the_quantile() -> None:
    """One number for all pixels, found by trying many: that below which 68 % of the errors are."""
    random = np.random.default_rng(0)
    size = np.abs(random.standard_t(4, 20_001)) * 0.03
    restored, hr = torch.from_numpy(size)[None, None, None], torch.zeros(1, 1, 1, size.size)
    candidates = np.quantile(size, np.linspace(0.6, 0.76, 161))
    losses = [
        float(interval_loss(torch.cat([restored, torch.full_like(restored, value)], 1), hr))
        for value in np.log(candidates + error.LEAST_ERROR)
    ]
    assert candidates[int(np.argmin(losses))] == pytest.approx(np.quantile(size, 0.6827), rel=0.02)


def test_the_restoration_stays_as_it_is_while_the_head_learns() -> None:
    network = small_network().train()
    step = TrainingStep(network, Recipe.short(loss="interval", steps=4, batch=2, crop=16))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lr, hr = torch.rand(2, 2, 1, 16, 16).unbind(0)
    network.tell(torch.tensor([1.0, 3.0]), None)
    output = network(lr)
    torch.testing.assert_close(output[:, :1], network.restoring(lr), rtol=0, atol=0)
    for _ in range(2):
        mae = step.loss_and_gradients(lr, hr)
        step.optimizer.step()
    torch.testing.assert_close(mae, (output[:, :1] - hr).abs().mean())

    changed = {
        name for name, tensor in network.state_dict().items() if not tensor.equal(before[name])
    }
    assert {"first.weight", "below.1.conv2.weight", "last.bias"} <= changed
    assert not [name for name in changed if name.startswith("restoring")]


def test_the_loss_and_the_network_belong_together() -> None:
    with pytest.raises(RecipeError, match="pretrain --from sem --loss interval"):
        TrainingStep(build_model("unet"), Recipe(loss="interval"))
    with pytest.raises(RecipeError, match="which has no other"):
        TrainingStep(small_network(), Recipe())
    with pytest.raises(ModelError, match="only the errors of the network shuffled"):
        error_network_of(build_model("unet"))


def test_a_head_belongs_to_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds the head alone; it is refused beside another model."""
    for module in (error, registry):
        monkeypatch.setattr(module, "SHIPPED_FOLDER", tmp_path)
    network = small_network()
    save_model(network.restoring, tmp_path / "sem.safetensors")
    network.wider.fill_(2.5)
    head = save_head(network, "sem", {"steps": 7})
    assert head_training("sem") == {"steps": 7}
    assert head.stat().st_size < 700_000

    loaded = load_error_network("sem")
    assert loaded.fits_range
    image = torch.rand(1, 1, 20, 28)
    assert float(loaded.wider) == 2.5
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image), rtol=2e-2, atol=1e-4)

    with torch.no_grad():
        network.restoring.last.weight += 1
    save_model(network.restoring, tmp_path / "sem.safetensors")
    with pytest.raises(ModelError, match="belongs to another model than sem"):
        load_error_network("sem")
    other = save_model(build_model("unet"), tmp_path / "unet.safetensors")
    with pytest.raises(ModelError, match="are not known: only the shipped models"):
        load_error_network(other)


def test_a_trained_one_is_a_model_like_any_other(tmp_path: Path) -> None:
    network = small_network()
    loaded = load_error_network(save_model(network, tmp_path / "model.safetensors"))
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_the_shipped_head_is_of_the_shipped_model() -> None:
    network, model = load_error_network("sem"), load_model("sem")
    torch.testing.assert_close(network.restoring.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert 1.5 < float(network.wider) < 3.5
