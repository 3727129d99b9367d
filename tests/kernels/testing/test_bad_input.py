"""What is no broken symmetry is told apart from one, in one sentence."""

import itertools
import re

import pytest
import torch
from torch import nn

from aea_kernels.testing import (
    Difference,
    ElementError,
    Errors,
    UnmeasurableError,
    Verdict,
    assert_equivariant,
    assert_invariant,
    batch_order,
    batch_order_of,
    d4,
    equivariance_error,
    equivariance_report,
    flips,
    legal_sizes,
    permutations,
    permutations_of_patches,
)
from aea_kernels.testing.precision import size_of

X = torch.rand(2, 4, 6, 6)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


counter = itertools.count(1)
CASES = {
    "random layer in training": (
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5)),
        r"fn draws random numbers in '1': two calls .* it is in training mode, "
        r"so call eval\(\) first",
    ),
    "random function": (
        lambda x: x + torch.randn_like(x),
        "fn draws random numbers: two calls .* fix their seed within fn",
    ),
    "state": (
        Counting(),
        "fn is not deterministic: two calls on the same input differ by .* "
        "keeps a state between calls",
    ),
    "state of a function": (lambda x: x * next(counter), "fn is not deterministic"),
    "no positions left": (
        lambda x: x[:, :, 0, 0],
        r"of shape \(2, 4\), has no known axes of positions, and fn is not invariant: name the "
        r"axes, or say how it transforms, as acts=points\(\)",
    ),
    "no tensor": (lambda x: (len(x), None), "fn returns tuple, expected a tensor of floating"),
    "failure": (nn.Linear(5, 5), r"fn fails on an input of shape \(2, 4, 6, 6\), torch.float32"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_in_one_sentence(case):
    fn, message = CASES[case]
    with pytest.raises(UnmeasurableError, match=message) as error:
        assert_equivariant(fn, X, d4)
    assert "\n" not in str(error.value)
    assert ". " not in str(error.value)


def test_a_shape_that_depends_on_the_input():
    with pytest.raises(UnmeasurableError, match="fn changes its shape: under the"):
        assert_equivariant(
            lambda x: x[:, :, :, : 3 if x[0, 0, 0, 0] > x[0, 0, 0, -1] else 4], X, flips
        )
    with pytest.raises(UnmeasurableError, match=r"fn fails on an input of shape \(2, 4, 8, 6\)"):
        assert_equivariant(lambda x: x + torch.zeros(6, 8), torch.rand(2, 4, 6, 8), d4)


def test_the_report_tells_it_too():
    with pytest.raises(UnmeasurableError, match=r"fn draws random numbers in '1'.*call eval\(\)"):
        equivariance_report(CASES["random layer in training"][0], X, d4)


def test_in_evaluation_mode_dropout_is_nothing():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5)).eval()
    assert equivariance_error(network, X, d4).verdict.holds


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.zeros(2, 4, 6, 6, dtype=torch.int64),
            "x is torch.int64, expected a floating-point tensor",
        ),
        (torch.zeros(2, 4), r"x has shape \(2, 4\), expected \(N, C, \*spatial\)"),
        ([1.0], "x is list, expected"),
    ],
)
def test_an_input_that_is_no_feature_map(x, message):
    for measure in (assert_equivariant, assert_invariant, equivariance_report):
        with pytest.raises(ValueError, match=message):
            measure(nn.ReLU(), x, permutations)


def test_a_group_that_has_nothing_to_do():
    with pytest.raises(ValueError, match="the order of a batch needs two different images or more"):
        assert_equivariant(nn.ReLU(), X[:1], batch_order)
    for images in [(0, 0), (0, -5), (0, 9)]:
        with pytest.raises(
            ValueError,
            match=re.escape(f"two different images or more, got {images} of an x of shape"),
        ):
            assert_equivariant(nn.ReLU(), X, batch_order_of(*images))
    with pytest.raises(ValueError, match="does not split into patches of 0 positions a side"):
        assert_equivariant(nn.ReLU(), X, permutations_of_patches(0))
    assert (
        str(legal_sizes(nn.Conv2d(4, 4, 1), X, d4, [])) == "rotations and flips: no size was tried"
    )


def test_a_result_that_is_not_finite():
    with pytest.raises(
        AssertionError, match=r"the output is not finite\. Likely cause: .*its output is not finite"
    ):
        assert_equivariant(nn.Sequential(nn.Threshold(1.0, float("nan"))), X, d4)


def test_what_float64_does_not_reach_is_judged_in_its_own_precision():
    weight = torch.randn(4, 4)
    errors = assert_equivariant(lambda x: torch.einsum("ij,njhw->nihw", weight, x), X, permutations)
    assert errors.worst.double is None
    with pytest.raises(AssertionError, match=r"in float32, which exceeds the bound of 1\.2e-05"):
        assert_equivariant(
            lambda x: torch.einsum("ij,njhw->nihw", weight, x).cumsum(3), X, permutations
        )


def asymmetric() -> nn.Module:
    return nn.Conv2d(4, 4, 3, padding=1, bias=False)


NOTHING_TO_SEE = {
    "empty batch": X[:0],
    "zeros": torch.zeros_like(X),
    "one value": torch.ones_like(X),
    "one position": X[:, :, :1, :1],
    "values that underflow": (1e-30 * X).half().float(),
}


@pytest.mark.parametrize("case", NOTHING_TO_SEE)
def test_an_input_that_no_element_changes_shows_nothing(case):
    """A network without any symmetry would pass."""
    x = NOTHING_TO_SEE[case]
    circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    network = circular if case == "one value" else asymmetric()
    for measure in (assert_equivariant, equivariance_error, equivariance_report):
        with pytest.raises(
            UnmeasurableError, match=r"no element of the group .* changes x"
        ) as error:
            measure(network, x, d4)
        assert "\n" not in str(error.value)
    with pytest.raises(UnmeasurableError, match=r"no element of the group .* changes x"):
        assert_invariant(network, x, d4)


@pytest.mark.parametrize("factor", [0.0, 1e-300])
def test_an_output_that_is_the_same_everywhere_shows_nothing(factor):
    """Of 0, and of what underflows in both precisions."""
    network = asymmetric()

    def dead(x):
        return network.to(x.dtype)(x) * factor * factor

    with pytest.raises(UnmeasurableError, match="the output of fn is empty or the same everywhere"):
        assert_equivariant(dead, X, d4)
    with pytest.raises(UnmeasurableError, match="the output of fn is empty or the same everywhere"):
        assert_equivariant(lambda x: x[:, :0], X, d4)


def test_a_fault_is_found_on_an_input_that_no_element_changes():
    zeros = torch.zeros_like(X)
    bias = torch.rand(6, 6)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: x + bias, zeros, d4)


def test_one_value_an_image_is_enough_for_an_invariant():
    assert_invariant(lambda x: x.sum(), X, d4)


def test_bounds_say_where_they_come_from():
    weight = torch.randn(4, 4)

    def in_float32_alone(x):
        return torch.einsum("ij,njhw->nihw", weight, x).cumsum(3)

    for fn, x, why in (
        (
            asymmetric(),
            X,
            "float32 is off by .* of its rounding errors, so float64 may be by 1,000",
        ),
        (asymmetric().double(), X.double(), "x is float64, so no second precision tells"),
        (in_float32_alone, X, "100 rounding errors of float32, without a result in float64"),
    ):
        with pytest.raises(AssertionError, match=rf"exceeds the bound of .* \({why}"):
            assert_equivariant(fn, x, flips)


def test_a_deep_network_may_round_more():
    layers = [nn.Conv2d(64, 64, 3) for _ in range(8)]
    small, large = (
        Errors("", torch.float32, 1e-7, (), {}, size_of(module))
        for module in (layers[0], nn.Sequential(*layers))
    )
    one = ElementError("", Difference(1.0, 0.0), None, Verdict.BROKEN)
    assert large.bound(one) == pytest.approx(small.bound(one) * 8**0.5)
    assert "of 8 layers that add up to 576 numbers" in large.why(one)


class SumsOfRows(nn.Module):
    """A product that autocast computes in bfloat16, then sums whose order rotations change."""

    def __init__(self, inside):
        super().__init__()
        self.inner, self.inside = nn.Conv2d(4, 4, 1), inside

    def forward(self, x):
        enabled = self.inside or torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            z = self.inner(x)
        return z + z.sum(2, keepdim=True).sum(3, keepdim=True)


@pytest.mark.parametrize("inside", [False, True])
def test_autocast_is_named(inside):
    # of few images, the sums in another order may all round alike
    x = torch.rand(32, 4, 6, 6)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=not inside),
        pytest.raises(AssertionError, match="cause: autocast, which computes parts in bfloat16"),
    ):
        assert_equivariant(SumsOfRows(inside), x, d4)
