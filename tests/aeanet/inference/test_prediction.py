"""What goes in and comes out of a prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import lively_network, tiles_alone, uneven_noise

from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import PredictionError, restore, super_resolve
from aeanet.networks.layers import compile_parts
from aeanet.networks.registry import build_model, save_model

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 24)])
@pytest.mark.parametrize("magnification", [2.0, 1.97, 3.0])
def test_a_raw_image_comes_back_enlarged(shape: tuple[int, int], magnification: float) -> None:
    model = build_model("aeanet")
    model.magnification = magnification
    image = RANDOM.random(shape).astype(np.float32)
    result = super_resolve(model, image)
    assert result.dtype == np.float32
    assert result.shape == (round(shape[0] * magnification), round(shape[1] * magnification))
    assert np.array_equal(result, restore(model, upsample(image, magnification)))


def test_a_model_is_given_by_its_path_too(tmp_path: Path) -> None:
    model = build_model("unet")
    model.magnification = 2.0
    path = save_model(model, tmp_path / "run" / "model.safetensors")
    image = RANDOM.random((8, 9)).astype(np.float32)
    for given in (path, str(path), path.parent):
        assert np.array_equal(super_resolve(given, image), super_resolve(model.eval(), image))


def test_a_given_magnification_goes_before_the_models() -> None:
    model = build_model("unet")
    with pytest.raises(ValueError, match="the model does not know its magnification"):
        super_resolve(model, np.zeros((4, 4), np.float32))
    model.magnification = 2.0
    assert super_resolve(model, np.zeros((4, 4), np.float32), magnification=3).shape == (12, 12)
    with pytest.raises(ValueError, match="magnification is -1, wanted a number from"):
        super_resolve(model, np.zeros((4, 4), np.float32), magnification=-1)


def test_restoring_is_the_network_in_evaluation_mode_clipped() -> None:
    model = build_model("aeanet").train()
    with torch.no_grad():
        model.last.weight *= 20
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    image = RANDOM.random((20, 24))
    result = restore(model, image)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(image).float()[None, None])[0, 0].numpy()
    assert expected.min() < 0 or expected.max() > 1
    assert np.array_equal(result, expected.clip(0, 1))
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_tiles_give_the_whole() -> None:
    model = lively_network()
    image = uneven_noise(90, 130)
    whole = super_resolve(model, image, magnification=2)
    seen: list[tuple[int, int]] = []
    tiled = super_resolve(
        model, image, magnification=2, tile=100, progress=lambda *now: seen.append(now)
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(tiles_alone(model, upsample(image, 2), 100) - whole).max() > 1e-3
    assert seen == [(done, 12) for done in range(1, 13)]  # 2 x 3 tiles in two passes


def test_bfloat16_costs_about_three_digits() -> None:
    model = lively_network()
    image = uneven_noise(64, 80)
    exact, half = restore(model, image), restore(model, image, precision="bfloat16")
    error = np.abs(half - exact).mean()
    assert 1e-5 < error / exact.mean() < 1e-2
    assert np.abs(restore(model, image, precision="bfloat16", tile=40) - exact).mean() < 2 * error


def test_a_compiled_network_gives_the_same_in_tiles_of_every_size() -> None:
    model = lively_network()
    image = uneven_noise(60, 84)
    exact = restore(model, image)
    assert np.abs(tiles_alone(model, image, 40) - exact).max() > 1e-4
    compile_parts(model)
    np.testing.assert_allclose(restore(model, image), exact, atol=1e-5)
    np.testing.assert_allclose(restore(model, image, tile=40), exact, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((4, 4), np.uint8),
            r"image is uint8 of shape \(4, 4\), wanted floating point of shape \(H, W\)",
        ),
        (np.zeros((1, 4, 4)), r"float64 of shape \(1, 4, 4\), wanted"),
        (np.zeros((0, 4)), r"shape \(0, 4\), wanted"),
        (np.full((4, 4), 200.0), "intensities run from 200 to 200, wanted 0 to 1"),
        (np.array([[0.5, np.nan]]), "the image holds NaN; all pixels must be finite"),
        (np.array([[0.5, -np.inf]]), "intensities run from -inf to 0.5, wanted 0 to 1"),
    ],
)
def test_what_is_no_micrograph_is_refused_in_one_sentence(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        super_resolve(build_model("unet"), image, magnification=2)


def test_an_unknown_choice_is_refused_in_one_sentence() -> None:
    image = np.full((8, 8), 0.5)
    with pytest.raises(TypeError, match=r"no argument 'tiles', wanted one of tile, flips, "):
        super_resolve(build_model("unet"), image, magnification=2, tiles=40)
    with pytest.raises(PredictionError, match="outliers is 'drop', wanted keep or replace"):
        super_resolve(build_model("unet"), image, magnification=2, outliers="drop")
