"""The network of the shipped model: its layers against plain PyTorch, its identity at first, its
tiles.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aeanet.errors import ModelError
from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import restore, super_resolve
from aeanet.inference.reach import reach_of
from aeanet.networks.registry import build_model
from aeanet.networks.shuffled import telling_noise

SMALL = {"widths": [4, 6], "blocks": [1, 1]}


def shaken(**options: object) -> torch.nn.Module:
    """A network whose weights are as of a trained one: all layers take part, the result stays near
    the image.
    """
    torch.manual_seed(0)
    model = build_model("shuffled", **(SMALL | options)).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


def written_out(state: dict[str, Tensor], image: Tensor, magnifications: list[float]) -> Tensor:
    """The network of two levels with a block each, layer by layer, for sides that are multiples of
    4.
    """

    def conv(name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def block(name: str, x: Tensor) -> Tensor:
        return x + conv(f"{name}.conv2", conv(f"{name}.conv1", x, padding=1).relu(), padding=1)

    def told(level: int, x: Tensor) -> Tensor:
        table = state[f"tables.{level}"].numpy()
        places = np.log2(magnifications).clip(0, 2)
        numbers = np.stack(
            [np.interp(places, [0, 0.5, 1, 1.5, 2], column) for column in table.T], axis=1
        )
        scale, shift = torch.from_numpy(numbers)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift

    corners = [image[:, 0, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    skip = block("encoders.0.0", told(0, conv("first", torch.stack(corners, 1), padding=1)))
    deep = block("bottom.0", told(1, conv("downs.0", skip, stride=2)))
    x = F.conv_transpose2d(deep, state["ups.0.weight"], state["ups.0.bias"], stride=2)
    x = conv("last", block("decoders.0.0", x + skip), padding=1)
    result = image.clone()
    for channel, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        result[:, 0, i::2, j::2] += x[:, channel]
    return result


def test_it_is_what_its_layers_say() -> None:
    model, image = shaken(), torch.rand(2, 1, 20, 28, dtype=torch.float64)
    state = model.state_dict()
    with torch.no_grad():
        torch.testing.assert_close(
            model(image), written_out(state, image, [2, 2]), rtol=1e-12, atol=1e-12
        )
        model.magnification = 3.0
        torch.testing.assert_close(
            model(image), written_out(state, image, [3, 3]), rtol=1e-12, atol=1e-12
        )
        model.train().scales = torch.tensor([1.2, 5])
        torch.testing.assert_close(
            model(image), written_out(state, image, [1.2, 5]), rtol=1e-6, atol=1e-6
        )


def test_the_noise_adds_to_the_scales_and_shifts_where_it_is_known() -> None:
    model = shaken(told_noise=True)
    state, image = model.state_dict(), torch.rand(2, 1, 20, 28, dtype=torch.float64)
    numbers = torch.tensor([[0.03, 0.04, 0.3, 0.1], [torch.nan] * 4])
    model.train().scales, model.noise = torch.tensor([2.0, 2.0]), numbers
    fine, coarse, along, across = numbers[0].double().tolist()
    told = [np.log(fine + 0.001) + 3.5, np.log(coarse + 0.001) + 3.5]
    told += [4 * along - 1, 4 * across - 1, 0]
    hidden = (torch.tensor(told) @ state["noise_weight"] + state["noise_bias"]).relu()

    # As if the table of magnifications had it at every knot; the second image is not told.
    with_noise = dict(state)
    for level in (0, 1):
        with_noise[f"tables.{level}"] = (
            state[f"tables.{level}"] + hidden @ state[f"noise_tables.{level}"]
        )
    with torch.no_grad():
        restored = model(image)
    for index, weights in enumerate((with_noise, state)):
        expected = written_out(weights, image[index : index + 1], [2])
        torch.testing.assert_close(restored[index : index + 1], expected, rtol=1e-6, atol=1e-6)
    assert (restored[0] - written_out(state, image[:1], [2])[0]).abs().max() > 1e-3


def test_a_network_that_is_told_the_noise_begins_as_one_that_is_not() -> None:
    model, image = shaken().float(), torch.rand(1, 1, 12, 16)
    telling = telling_noise(model).eval()
    assert "told_noise" not in model.config
    assert telling.config == model.config | {"told_noise": True}
    telling.noise = torch.tensor([[0.03, 0.04, 0.3, 0.1]])
    with torch.no_grad():
        assert torch.equal(telling(image), model(image))
    with pytest.raises(ModelError, match="only the network shuffled"):
        telling_noise(build_model("unet"))


def test_prediction_tells_the_magnification_that_it_is_given() -> None:
    model = shaken()
    image = np.random.default_rng(0).uniform(0.4, 0.6, (12, 16))
    results = []
    for magnification in (1.0, 2.0):
        results.append(super_resolve(model, image, magnification=magnification))
        assert model.magnification is None
    model.magnification = 1.0
    np.testing.assert_array_equal(restore(model, upsample(image, 1)), results[0])
    assert np.abs(restore(model, upsample(image, 2)) - results[1]).max() > 1e-4


@pytest.mark.parametrize("attention", ["none", "bottom", "all"])
def test_at_first_it_leaves_the_image_as_it_is(attention: str) -> None:
    torch.manual_seed(0)
    model = build_model("shuffled", attention=attention)
    blocks = [module for module in model.modules() if hasattr(module, "conv2")]
    assert blocks
    for block in blocks:
        x = torch.randn(1, block.conv1.in_channels, 5, 5)
        assert torch.equal(block(x), x)
    image = torch.rand(1, 1, 9, 13)
    assert torch.equal(model.eval()(image), image)


@pytest.mark.parametrize("attention", ["none", "bottom", "all"])
def test_tiles_give_the_whole_image(attention: str) -> None:
    model = shaken(attention=attention, references=3 if attention == "all" else 0)
    image = np.random.default_rng(0).uniform(0.3, 0.7, (151, 134))
    whole = restore(model, image)
    least = reach_of(model).halo
    assert np.abs(whole - image).max() > 1e-3
    np.testing.assert_allclose(restore(model, image, tile=least), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"blocks": [1]}, "wanted as many of both"),
        ({"unshuffle": 0}, "unshuffle is 0, wanted a whole number from 1"),
        ({"blocks": [1, 0]}, "wanted 1 or more"),
        ({"attention": "top"}, "attention is 'top'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        build_model("shuffled", **(SMALL | options))
