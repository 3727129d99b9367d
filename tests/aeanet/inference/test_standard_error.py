"""The standard error of each pixel: its units, its tiles, and the true values within it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from toy_stacks import Identity

import aeanet
from aeanet.data.synthetic import simulate_image
from aeanet.errors import ModelError
from aeanet.imaging.exposure import Exposure
from aeanet.inference.error import error_of_enlarged, unknown_at
from aeanet.inference.restored import Restored
from aeanet.networks.error import load_error_network
from aeanet.training.pretraining import HELD_BACK
from aeanet.trust.places import Place

UNSEEN = HELD_BACK + 5_000_000  # seeds of neither training, calibration nor the record


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return simulate_image(UNSEEN, (150, 170), kind="mixed", magnification=2.0).lr


def test_true_values_lie_within_it(noisy: np.ndarray) -> None:
    """Of 12 images, of every third at any magnification; each counts alike."""
    network = load_error_network("sem")
    within, widely = [], []
    for number in range(12):
        image = simulate_image(
            UNSEEN + number, (96, 128), magnification=(1.0, 2.0, None)[number % 3]
        )
        magnification = image.magnification
        restored = aeanet.super_resolve("sem", image.lr, magnification=magnification)
        error = aeanet.estimate_error(network, image.lr, magnification=magnification)
        size = np.abs(restored - image.hr)
        within.append((size <= error).mean())
        widely.append((size <= float(network.wider) * error).mean())
    assert 0.6 <= np.mean(within) <= 0.76
    assert 0.9 <= np.mean(widely) <= 0.98


def test_tiles_change_nothing_but_rounding(noisy: np.ndarray) -> None:
    whole = aeanet.estimate_error("sem", noisy)
    assert whole.shape == (300, 340)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(
        aeanet.estimate_error("sem", noisy, tile=160), whole, rtol=1e-4, atol=1e-6
    )


def test_it_is_in_the_units_of_the_image(noisy: np.ndarray) -> None:
    """An image with half the contrast, and brighter, has half the error."""
    error = aeanet.estimate_error("sem", noisy)
    half = aeanet.estimate_error("sem", 0.3 + 0.5 * noisy)
    np.testing.assert_allclose(half, 0.5 * error, rtol=1e-2, atol=1e-5)


def test_it_is_larger_where_there_is_more_noise() -> None:
    """Blobs with noise of 1 % on the left and of 8 % on the right."""
    random = np.random.default_rng(0)
    blobs = gaussian_filter(random.standard_normal((150, 170)), 5)
    sd = np.where(np.arange(170) < 85, 0.01, 0.08)
    image = 0.5 + 0.15 * blobs / blobs.std() + sd * random.standard_normal(blobs.shape)
    error = aeanet.estimate_error("sem", image.astype(np.float32).clip(0, 1), magnification=1)
    assert np.median(error[:, 100:]) > 2 * np.median(error[:, :70])


def test_outliers_and_warned_places_have_none(noisy: np.ndarray) -> None:
    """They are NaN: an outlier is kept as it is, of a warned place nothing is known."""
    hot = noisy.copy()
    hot[40, 50] = 40.0
    error = aeanet.estimate_error("sem", hot / 40, magnification=2)
    assert np.isnan(error).sum() == 4
    assert np.isnan(error[80:82, 100:102]).all()

    restored = Restored(Path("a"), Path("a"), magnification=1.5, error=np.ones((30, 30)))
    without = unknown_at(restored, [Place(4, 2, 5, 3, "")])
    assert without.error is not None
    unknown = np.isnan(without.error)
    assert unknown.sum() == unknown[3:8, 6:14].sum() == 5 * 8


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(ModelError, match="there is no model at nowhere"):
        aeanet.estimate_error("nowhere", np.zeros((30, 30)))
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        aeanet.estimate_error("sem", np.full((30, 30), 3.0))


def test_it_is_one_pass_without_flips() -> None:
    """The network is called once, with the image as it is."""
    network = load_error_network("sem")
    calls = []
    network.register_forward_hook(lambda *arguments: calls.append(arguments[1][0].clone()))
    image = np.random.default_rng(0).random((24, 32), np.float32)
    error_of_enlarged(network, image, Exposure(), 2.0, flips=4)
    assert len(calls) == 1
    assert calls[0].equal(torch.from_numpy(image)[None, None])
    assert Identity().flips == 1
