"""Two implementations: gradients by default, modules, masks and indices, several outputs."""

import copy

import pytest
import torch
from torch import nn

from aea_kernels.testing import UnmeasurableError, assert_parity, assert_within_error_budget

X = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
BOTH = pytest.mark.parametrize("compare", [assert_parity, assert_within_error_budget])


def without_gradient(x):
    return (2 * x).detach()


def twice(x):
    return 2 * x


@BOTH
@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_detached_result_is_told(compare, requires_grad):
    x = X.clone().requires_grad_(requires_grad)
    for fn, reference, lacks in ((without_gradient, twice, "fn"), (twice, without_gradient, "the")):
        with pytest.raises(AssertionError, match=rf"and {lacks}.* has none, .*gradients=False"):
            compare(fn, reference, x)
        compare(fn, reference, x, gradients=False)


@BOTH
def test_wrong_gradients_are_found_although_no_input_requires_one(compare):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 3 * grad

    with pytest.raises(AssertionError, match="the gradient of input 0"):
        compare(Wrong.apply, twice, X)
    compare(Wrong.apply, twice, X, gradients=False)
    # of two inputs, the one that requires a gradient alone
    y = X.clone().requires_grad_()
    compare(lambda x, y: Wrong.apply(x) + y, lambda x, y: 2 * x + y, X, y)
    assert not X.requires_grad


def test_what_has_no_gradient_anywhere():
    assert_parity(lambda x: x.argmax(1), lambda x: x.argmax(1), X)
    with pytest.raises(AssertionError, match="the output differs"):
        assert_parity(lambda x: x > 0, lambda x: x <= 0, X)
    with pytest.raises(UnmeasurableError, match="an input requires a gradient and no result has"):
        assert_parity(without_gradient, without_gradient, X.clone().requires_grad_())


@BOTH
def test_modules_are_converted_for_the_reference(compare):
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    before = copy.deepcopy(module.state_dict())
    compare(module, copy.deepcopy(module), X)
    compare(module.forward, module, X)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert module[0].weight.dtype == torch.float32
    with pytest.raises(AssertionError, match="the output"):
        compare(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), module, X)
    with pytest.raises(UnmeasurableError, match="the reference fails in float64, which it has to"):
        compare(module, lambda x: module(x), X)


@BOTH
def test_masks_indices_and_nests_of_inputs(compare):
    def masked(x, mask):
        return torch.where(mask, x, 0)

    compare(lambda x, mask: x.masked_fill(~mask, 0), masked, X, X > 0)
    compare(lambda x, i: x[i], lambda x, i: x.index_select(0, i), X, torch.tensor([2, 0]))
    table = nn.Embedding(7, 3)
    compare(lambda i: table.weight[i].detach(), table, torch.tensor([1, 6]), gradients=False)
    with pytest.raises(AssertionError, match=r"the gradient of input 1\.0"):
        compare(lambda x, y: x * y[0] + y[0] - y[0].detach(), lambda x, y: x * y[0], X, [X + 1])


@BOTH
def test_several_outputs_are_compared_by_themselves(compare):
    compare(lambda x: (x + x, [x * x]), lambda x: (2 * x, [x.square()]), X)
    compare(lambda x: torch.fft.fft(x), lambda x: torch.fft.fft(x), X)
    with pytest.raises(AssertionError, match=r"the output 'b.0'"):
        compare(lambda x: {"a": x, "b": [2 * x]}, lambda x: {"a": x, "b": [3 * x]}, X)
    with pytest.raises(AssertionError, match="fn returns the output '1', and the reference"):
        compare(lambda x: (x, x), lambda x: (x,), X)
    with pytest.raises(UnmeasurableError, match="returns NoneType, expected a tensor"):
        compare(lambda x: None, lambda x: None, X)


@BOTH
@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 2)])
def test_an_output_of_another_shape(compare, rows):
    """Whether it broadcasts, although its numbers agree, or does not."""
    same = torch.ones(3, 5)
    shapes = rf"the output has shape \({rows.stop}, 5\), expected \(3, 5\)"
    for gradients in (False, True):
        with pytest.raises(AssertionError, match=shapes):
            compare(lambda x: 2 * x[rows], twice, same, gradients=gradients)


@pytest.mark.parametrize("tolerance", ["x", -1, float("nan")])
def test_a_tolerance_that_is_none(tolerance):
    with pytest.raises(ValueError, match=r"tolerance is .*, expected a number of at least 0"):
        assert_parity(twice, twice, X, tolerance=tolerance)
