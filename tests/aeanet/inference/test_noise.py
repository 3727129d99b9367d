"""What a network is told of the noise: measured once, whatever the tiles, regions and precision."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aeanet.data.synthetic import Acquisition, simulate_image
from aeanet.imaging.upsampling import upsample
from aeanet.inference.noise import measured_noise, telling
from aeanet.inference.prediction import reader, restore, super_resolve
from aeanet.inference.reach import TilingError, reach_of
from aeanet.networks.base import Network
from aeanet.networks.registry import build_model

SMALL = {"widths": [4, 6], "blocks": [1, 1], "told_noise": True}


def noisy(shape: tuple[int, int] = (150, 134), **scan: float) -> NDArray[np.float32]:
    usual = {"magnification": 1.0, "contrast": 3.0, "spot": 1.3, "shot": 0.0, "read": 8.0}
    settings = Acquisition(**(usual | scan))
    return simulate_image(3, shape, kind="grains", acquisition=settings).lr


def told(monkeypatch: pytest.MonkeyPatch) -> tuple[Network, list[list[float]]]:
    """A network that depends on the noise, and a list of what it is told at each call."""
    torch.manual_seed(0)
    model = build_model("shuffled", **SMALL).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    calls: list[list[float]] = []
    forward = model.forward

    def noting(image: torch.Tensor) -> torch.Tensor:
        if model.noise is not None:
            calls.append(model.noise[0].tolist())
        return forward(image)

    monkeypatch.setattr(model, "forward", noting)
    return model, calls


@pytest.mark.parametrize("magnification", [1.0, 3.0])
def test_known_noise_gives_known_numbers_at_the_pixels_of_lr(magnification: float) -> None:
    """At odd magnifications the enlarged image has the pixels of LR."""
    image = upsample(noisy(band=0.0, across=0.7, read=8.0), magnification)
    found = measured_noise(reader(image), image.shape, magnification)
    fine, coarse, along, across = found[0].tolist()
    kept = np.sqrt(Acquisition(band=0.0, across=0.7).noise_kept)
    assert coarse == pytest.approx(kept * 8 / 255, rel=0.15)
    assert fine < 0.5 * coarse
    assert (along, across) == pytest.approx((0, np.exp(-1 / (4 * 0.7**2))), abs=0.1)


def test_the_middle_of_a_large_image_is_measured() -> None:
    image = np.zeros((900, 1200), np.float32)
    image[194:706, 344:856] = noisy((512, 512))
    asked = []

    def read(rows: slice, columns: slice) -> NDArray:
        asked.append((rows, columns))
        return image[rows, columns]

    found = measured_noise(read, image.shape, 1.0)
    assert asked == [(slice(194, 706), slice(344, 856))]
    assert found[0, 0] == pytest.approx(8 / 255, rel=0.1)
    assert measured_noise(reader(image), (20, 20), 1.0).isnan().all()


def test_every_tile_flip_and_precision_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = told(monkeypatch)
    image = noisy().astype(np.float64)
    whole = restore(model, image, flips=2)
    tiled = restore(model, image, flips=2, tile=reach_of(model).halo)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)
    restore(model.float(), image, precision="bfloat16", flips=1)
    assert len(calls) > 6
    assert all(numbers == calls[0] for numbers in calls)
    assert model.noise is None


def test_the_noise_changes_the_result_and_other_networks_are_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, calls = told(monkeypatch)
    image = noisy((60, 70)).astype(np.float64)
    restored = super_resolve(model, image, magnification=2.0)
    model.told_noise = False
    assert np.abs(super_resolve(model, image, magnification=2.0) - restored).max() > 1e-4
    assert len(calls) == model.flips

    def unreadable(rows: slice, columns: slice) -> NDArray:
        raise AssertionError("an image is read for a network that is not told its noise")

    with telling(model, unreadable, image.shape):
        assert model.noise is None


def test_a_failure_leaves_the_network_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = told(monkeypatch)
    with pytest.raises(TilingError, match="too small"):
        restore(model, noisy().astype(np.float64), tile=3)
    assert model.noise is None
