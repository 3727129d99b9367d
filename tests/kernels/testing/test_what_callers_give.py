"""Arguments that are none are told in one sentence, before anything is measured."""

import re

import pytest
import torch
from torch import nn

from aea_kernels.testing import (
    UnmeasurableError,
    assert_equivariant,
    assert_invariant,
    channels,
    d4,
    equivariance_error,
    equivariance_report,
    flips,
    image,
    invariant,
    legal_sizes,
    permutations,
    permutations_of_patches,
    points,
    regular,
    rotations_by,
    scale,
    translations,
    vector,
)
from aea_kernels.testing.__main__ import main

X = torch.rand(2, 4, 6, 6)


def told(call, message, error=ValueError):
    with pytest.raises(error, match=message) as found:
        call()
    assert "\n" not in str(found.value)


NO_GROUPS = {
    "not called": (scale, "group is scale itself, expected what it returns: call it"),
    "a class": (type(d4), "group is AxisGroup itself"),
    "text": ("d4", "group is 'd4', expected a group of aea_kernels.testing, as d4"),
    "nothing": (None, "group is None, expected a group"),
}


@pytest.mark.parametrize("case", NO_GROUPS)
def test_a_group_that_is_none(case):
    group, message = NO_GROUPS[case]
    for measure in (assert_equivariant, assert_invariant, equivariance_error, equivariance_report):
        told(lambda measure=measure: measure(nn.ReLU(), X, group), message)
    told(lambda: equivariance_report(nn.ReLU(), X, [d4, group]), message)
    told(lambda: legal_sizes(nn.ReLU(), X, group, [4]), message)


def test_several_groups_where_one_is_wanted():
    told(lambda: assert_equivariant(nn.ReLU(), X, [d4, flips]), "group is a list, expected one")
    assert len(equivariance_report(nn.ReLU(), X, iter([d4, flips])).layers) == 2


def test_a_function_has_no_layers():
    message = "model is a function, expected a torch.nn.Module"
    told(lambda: equivariance_report(lambda x: x, X, d4), message)
    told(lambda: legal_sizes(lambda x: x, X, d4, [4]), message)


@pytest.mark.parametrize("sizes", [16, [-1], [0], [2.5], ["a"], "16"])
def test_sizes_that_are_none(sizes):
    message = re.escape(f"sizes is {sizes!r}, expected sides of images")
    told(lambda: equivariance_report(nn.ReLU(), X, d4, sizes=sizes), message)
    told(lambda: legal_sizes(nn.ReLU(), X, d4, sizes), message)


@pytest.mark.parametrize("tolerance", ["x", -1, float("nan")])
@pytest.mark.parametrize("assertion", [assert_equivariant, assert_invariant])
def test_a_tolerance_that_is_none(assertion, tolerance):
    def call():
        assertion(lambda x: 1 / 0, X, d4, tolerance=tolerance)

    told(call, f"tolerance is {tolerance!r}, expected a number of at least 0")


@pytest.mark.parametrize("group", [translations, rotations_by, scale, permutations_of_patches])
@pytest.mark.parametrize("value", ["a", float("nan"), float("inf"), None, 1j])
def test_numbers_that_are_none(group, value):
    told(lambda: group(value), rf"{re.escape(repr(value))}, expected a finite number")


def outputs(x):
    return {"flow": x[:, :2], "boxes": [x, x], "score": x.mean((1, 2, 3))}


class Outputs(nn.Module):
    def forward(self, x):
        return outputs(x)


@pytest.mark.parametrize("name", ["fow", "flow.0", "box", "boxes.2", "0"])
def test_acts_of_what_is_no_output(name):
    listed = re.escape("the outputs 'flow', 'boxes.0', 'boxes.1', 'score'")
    message = f"acts names the output {name!r}, and fn returns {listed}"
    for measure in (assert_equivariant, equivariance_error):
        told(lambda measure=measure: measure(outputs, X, d4, acts={name: image}), message)
    told(lambda: equivariance_report(Outputs(), X, d4, acts={name: image}), message)


def test_acts_of_outputs_and_of_nests_of_them():
    errors = assert_equivariant(outputs, X, d4, acts={"boxes": image, "score": invariant})
    assert errors.acts["boxes.1"] == "image"
    assert assert_equivariant(outputs, X, d4, acts={"boxes": [image, None]}).verdict.holds
    message = "acts names the output '0', and fn returns one tensor without a name"
    told(lambda: assert_equivariant(lambda x: x, X, d4, acts=[image]), message)
    message = "for the input, expected one act: x is one tensor"
    told(lambda: assert_equivariant(lambda x: x, X, d4, acts=({"x": image}, image)), message)


def test_acts_that_are_not_called():
    """What needs no arguments is taken at its defaults."""
    flow = {"flow": vector, "boxes": image}
    two = X[:, :2]
    errors = assert_equivariant(lambda x: x, two, d4, acts=(vector, vector))
    assert errors == assert_equivariant(lambda x: x, two, d4, acts=(vector(), vector()))
    found = equivariance_error(outputs, X, d4, acts=flow)
    assert found == equivariance_error(outputs, X, d4, acts={"flow": vector(), "boxes": image})
    coordinates = torch.rand(5, 2)
    assert assert_equivariant(nn.Identity(), coordinates, d4, acts=(points, points)).verdict.holds
    for act in (regular, channels):
        message = f"acts has the function {act.__name__}: call it, as regular"
        told(lambda act=act: assert_equivariant(lambda x: x, X, d4, acts=act), message)


def test_the_command_tells_acts_that_name_no_output(capsys):
    command = ["torch.nn:ReLU", "--input", "1,2,6,6", "--acts"]
    assert main([*command, "{'fow': image}"]) == 2
    assert "acts names the output 'fow', and fn returns one tensor" in capsys.readouterr().err
    assert main([*command, "regular"]) == 2
    assert "acts has the function regular: call it" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_output_without_axes(dtype):
    x = X.to(dtype)
    assert assert_equivariant(lambda x: x.mean(), x, d4).acts == {"": "invariant"}
    assert_equivariant(lambda x: x.mean(), x, scale(2.0))
    assert_equivariant(lambda x: {"mean": x.mean(), "map": x}, x, d4)
    with pytest.raises(UnmeasurableError, match=r"of shape \(\), has no known axes of positions"):
        assert_equivariant(lambda x: x[0, 0, 0, 0], x, d4)
    with pytest.raises(AssertionError, match="not invariant"):
        assert_invariant(lambda x: x[0, 0, 0, 0], x, d4)


@pytest.mark.parametrize(
    ("fn", "dtype"), [(lambda x: x.argmax(1), "int64"), (lambda x: [x > 0.5], "bool")]
)
def test_whole_numbers_and_truth_values(fn, dtype):
    message = f"fn returns a tensor of {dtype}, expected floating-point or complex numbers: measure"
    for assertion in (assert_equivariant, assert_invariant):
        told(lambda assertion=assertion: assertion(fn, X, d4), message, UnmeasurableError)


def test_and_converted_they_are_measured():
    def segmentation(x):
        return x.argmax(1, keepdim=True).float()

    assert_equivariant(segmentation, X, d4)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: segmentation(x.cumsum(3) * x), X, d4)


def test_tokens_are_measured_along_the_axis_of_their_positions():
    layer, tokens = nn.Linear(16, 16), torch.randn(2, 100, 16)
    assert_equivariant(layer, tokens, permutations, positions=[1])
    with pytest.raises(AssertionError, match=r"permutation . of 16 places"):
        assert_equivariant(layer, tokens, permutations)
