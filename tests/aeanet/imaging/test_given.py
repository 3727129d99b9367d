"""Images in other forms than an array: taken for what they are, or refused in a sentence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aeanet import register_pair, super_resolve
from aeanet.data.registration import RegistrationError
from aeanet.imaging.given import as_image
from aeanet.imaging.upsampling import upsample
from aeanet.networks.registry import build_model
from aeanet.trust import assess

VALUES = np.random.default_rng(0).random((6, 8)).astype(np.float32)
MASK = np.zeros(VALUES.shape, bool)


@pytest.mark.parametrize(
    "image",
    [
        torch.from_numpy(VALUES),
        torch.from_numpy(VALUES).double().requires_grad_(),
        torch.from_numpy(np.ascontiguousarray(VALUES.T)).T,
        [[float(value) for value in row] for row in VALUES],
        list(VALUES),
        np.ma.masked_array(VALUES, MASK),
    ],
    ids=["tensor", "tensor with gradient", "transposed", "lists", "list of rows", "nothing masked"],
)
def test_it_is_taken_for_what_it_is(image: Any) -> None:
    model = build_model("unet")
    assert np.array_equal(
        super_resolve(model, image, magnification=2), super_resolve(model, VALUES, magnification=2)
    )


def test_narrow_tensors_keep_their_values() -> None:
    narrow = torch.from_numpy(VALUES).bfloat16()
    assert np.array_equal(as_image(narrow), narrow.float().numpy())


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.ma.masked_array(VALUES, MASK | (VALUES > 0.9)), r"has \d masked pixels: give them"),
        ([[0.1, 0.2], [0.3]], "cannot be made an array"),
        (torch.zeros(4, 4, dtype=torch.uint8), r"uint8 of shape \(4, 4\), wanted floating point"),
        (torch.zeros(4, 4, dtype=torch.int16), r"int16 of shape \(4, 4\), wanted floating point"),
        (torch.zeros(1, 4, 4), r"float32 of shape \(1, 4, 4\), wanted"),
        (torch.zeros(4, 4, device="meta"), "cannot be made an array"),
        (torch.eye(4).to_sparse(), "cannot be made an array"),
        ([[1, 2], [3, 4]], "wanted floating point"),
        (None, r"object of shape \(\), wanted floating point"),
        ("image.png", r"of shape \(\), wanted floating point"),
    ],
)
def test_the_rest_is_refused_in_one_sentence(image: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        super_resolve(build_model("unet"), image, magnification=2)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    "function",
    [
        lambda image: upsample(image, 2),
        lambda image: assess(build_model("unet"), image, image),
    ],
)
def test_other_functions_refuse_masked_pixels(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="masked pixels"):
        function(np.ma.masked_array(VALUES, VALUES > 0.9))
    function(torch.from_numpy(VALUES))


def test_registration_names_the_image_with_masked_pixels() -> None:
    with pytest.raises(RegistrationError, match="HR has 1 masked pixels"):
        register_pair(np.zeros((80, 80)), np.ma.masked_array(VALUES, np.eye(6, 8, k=7)))
