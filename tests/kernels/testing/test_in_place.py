"""Functions that work in place: the verdict is that of the same function out of place, and the
caller's tensors stay as they are.
"""

import pytest
import torch
from torch import nn

from aea_kernels.testing import (
    assert_equivariant,
    assert_invariant,
    assert_parity,
    assert_within_error_budget,
    d4,
    equivariance_error,
    equivariance_report,
    rotations_by,
    translations,
)

IN_PLACE = {
    "SiLU": nn.SiLU(inplace=True),
    "LeakyReLU": nn.LeakyReLU(inplace=True),
    "ELU": nn.ELU(inplace=True),
    "Hardswish": nn.Hardswish(inplace=True),
    "function": lambda x: x.div_(255),
    "first of several": nn.Sequential(nn.SiLU(inplace=True), nn.Conv2d(3, 3, 1)),
}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_equivariant_and_x_stays(name, dtype):
    fn = IN_PLACE[name]
    if isinstance(fn, nn.Module):
        fn = fn.to(dtype)
    x = torch.randn(1, 3, 8, 8, dtype=dtype)
    keep = x.clone()
    assert assert_equivariant(fn, x, d4).verdict.holds
    assert torch.equal(x, keep)


def test_an_invariant_and_a_broken_symmetry():
    x = torch.randn(1, 3, 8, 8)
    keep = x.clone()
    assert_invariant(lambda x: x.exp_().mean((1, 2, 3)), x, d4)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: x.exp_().cumsum(3), x, d4)
    assert torch.equal(x, keep)


def network(inplace):
    torch.manual_seed(0)
    local, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
    return nn.Sequential(nn.ELU(inplace=inplace), local, nn.SiLU(inplace=inplace), last).eval()


def test_a_report_and_errors_are_those_out_of_place():
    x = torch.randn(1, 3, 16, 16)
    keep = x.clone()
    groups = [d4, translations(2), rotations_by(20)]
    here, there = (equivariance_report(network(i), x, groups).to_dict() for i in (True, False))
    assert here == there
    for group in groups:
        assert equivariance_error(network(True), x, group) == equivariance_error(
            network(False), x, group
        )
    assert torch.equal(x, keep)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "every other", "expanded"])
def test_parity_and_budget(requires_grad, layout):
    """What fn is given has the strides of the input."""
    x = torch.randn(4, 6)
    x = {"contiguous": x, "every other": x[:, ::2], "expanded": x[:1].expand(4, 6)}[layout]
    x = x.requires_grad_(requires_grad)
    keep, seen = x.detach().clone(), []

    def ours(x):
        seen.append(x.stride())
        return x * 2 if layout == "expanded" else x.mul_(2)

    assert_parity(ours, lambda x: x * 2, x)
    assert_within_error_budget(ours, lambda x: x * 2, x)
    with pytest.raises(AssertionError, match="the output differs"):
        assert_parity(ours, lambda x: x * 3, x)
    assert set(seen) == {x.stride()}
    assert torch.equal(x, keep)
    assert x.requires_grad == requires_grad
    assert x.grad is None
