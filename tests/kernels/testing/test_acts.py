"""How inputs and outputs transform, said and tried, against functions whose action is known."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from orientations import Lift, OverOrientations, Regular, ToVector
from torch import nn

from aea_kernels.testing import (
    UnmeasurableError,
    assert_equivariant,
    channels,
    d4,
    equivariance_report,
    flips,
    image,
    invariant,
    points,
    regular,
    rotations,
    translations,
    vector,
)
from aea_kernels.testing.layouts import Frame
from aea_kernels.testing.strategies import normal

X = normal(2, 1, 9, 9, dtype=torch.float32)
FRAME = Frame(1, (3, 3))


def acted(act, x, group, name):
    element = next(e for e in group.elements((1, 1, 3, 3), torch.Generator()) if e.name == name)
    return act.layouts(x.shape, FRAME)[0].act(x, element, FRAME)


def gradient(x):
    """(N, 1, H, W) -> (N, 2, H, W), to the right and down."""
    return torch.cat(torch.gradient(x, dim=(3, 2)), dim=1)


def centre(x):
    """(N, 1, H, W) -> (N, 2), the centre of mass, x before y."""
    mass = x.exp().sum(1)
    column, row = (torch.arange(n).to(x) for n in (x.shape[3], x.shape[2]))
    moments = torch.stack([(mass * column).sum((1, 2)), (mass * row[:, None]).sum((1, 2))], 1)
    return moments / mass.sum((1, 2))[:, None]


def test_a_vector_to_the_right_points_up_after_a_quarter_turn():
    right = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    right[0, 0, 1, 2] = 1.0
    turned = acted(vector("right", "up"), right, rotations, "rotation by 90 degrees")
    expected = torch.zeros_like(right)
    expected[0, 1, 0, 1] = 1.0
    assert torch.equal(turned, expected)


def test_points_go_where_their_pixels_go():
    pixels = torch.arange(9.0).reshape(1, 1, 3, 3)
    place = torch.tensor([[[2.0, 0.0]]])  # column 2 of row 0
    for element in d4.elements((1, 1, 3, 3), torch.Generator()):
        (x, y) = points().layouts(place.shape, FRAME)[0].act(place, element, FRAME)[0, 0].tolist()
        moved = element.act(pixels, (Fraction(1), Fraction(1)))
        assert moved[0, 0, round(y), round(x)] == pixels[0, 0, 0, 2], element.name


def test_regular_channels_are_a_representation():
    """rho(g) rho(h) is rho(g h), on all pairs."""
    group, act = d4, regular(d4)
    x = normal(1, 8, 3, 3)
    elements = group.elements((1, 1, 3, 3), torch.Generator())
    layout = act.layouts(x.shape, FRAME)[0]
    for g in elements:
        for h in elements:
            both = layout.act(layout.act(x, h, FRAME), g, FRAME)
            product = g.matrix(2) @ h.matrix(2)
            same = [e for e in elements if torch.equal(e.matrix(2), product)]
            expected = layout.act(x, same[0], FRAME) if same else x
            torch.testing.assert_close(both, expected)


SAID_OR_TRIED = {
    "gradient": (gradient, d4, vector()),
    "gradient, down first": (lambda x: gradient(x).flip(1), d4, vector("down", "right")),
    "orientations": (Lift(1, 2), rotations, regular(rotations)),
}


@pytest.mark.parametrize("case", SAID_OR_TRIED)
def test_what_is_not_said_is_tried_and_then_said(case):
    fn, group, act = SAID_OR_TRIED[case]
    assert assert_equivariant(fn, X, group, acts=act).acts == {"": act.name}
    assert assert_equivariant(fn, X, group).acts == {"": act.name}
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(fn, X, group, acts=image)


def test_a_wrong_vector_is_no_vector():
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: gradient(x) * torch.tensor([1.0, 2.0])[:, None, None], X, d4)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(gradient, X, d4, acts=vector("right", "up"))


def test_points():
    assert_equivariant(centre, X, d4, acts=points())
    assert_equivariant(lambda x: centre(x).flip(1), X, d4, acts=points("down", "right"))
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: centre(x) + 1.0, X, d4, acts=points())


def test_inputs_that_are_points_turn_about_the_origin():
    cloud = normal(2, 5, 2)
    pair = points(), points()
    assert_equivariant(lambda p: p - p.mean(1, keepdim=True), cloud, d4, acts=pair)
    assert_equivariant(lambda p: torch.cdist(p, p), cloud, d4, acts=(points(), invariant))
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda p: p + 1.0, cloud, d4, acts=pair)
    assert_equivariant(
        lambda v: v * v.norm(dim=1, keepdim=True), normal(4, 2), d4, acts=(vector(), vector())
    )


def test_channels_in_another_order():
    """Left and right change places under a flip of the last axis, and under nothing else."""

    def sides(x):
        return torch.cat([x.roll(1, 3), x.roll(-1, 3)], 1)

    def order(element):
        return [1, 0] if element.name in ("flip of axis 3", "rotation by 180 degrees") else [0, 1]

    x = normal(1, 1, 6, 6)
    assert_equivariant(lambda x: sides(x), x, flips, acts=channels(order))
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(sides, x, flips, acts=channels([1, 0]))


def test_a_function_says_it_too():
    def rows(t, element):
        flips_rows = element.name in ("flip of axis 2", "rotation by 180 degrees")
        return t.flip(1) if flips_rows else t

    assert_equivariant(lambda x: x.mean((1, 3)), X, flips, acts=rows)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda x: x.mean((1, 2)), X, flips, acts=rows)


@dataclass
class Found:
    flow: torch.Tensor
    score: torch.Tensor


@pytest.mark.parametrize("form", [dict, Found, lambda flow, score: [flow, score]])
def test_each_leaf_by_itself(form):
    def fn(x):
        return form(flow=gradient(x), score=x.square().mean((1, 2, 3)))

    names = ["0", "1"] if isinstance(fn(X), list) else ["flow", "score"]
    said = [None, invariant] if isinstance(fn(X), list) else {"score": invariant}
    errors = assert_equivariant(fn, X, d4, acts=said)
    assert errors.acts == dict(zip(names, ["vector(right, down)", "invariant"], strict=True))
    assert len(errors.elements) == 14

    # what is not said and has no positions is invariant, if it is so
    assert assert_equivariant(fn, X, d4).acts == errors.acts


def test_a_score_of_one_place_is_not_taken_for_invariant():
    def fn(x):
        return {"map": x, "score": x[:, :, 0, 0]}

    with pytest.raises(UnmeasurableError, match=r"the output 'score' of fn, .* is not invariant"):
        assert_equivariant(fn, X, d4)


def test_a_broken_leaf_is_named():
    def fn(x):
        return {"same": x, "sums": x.cumsum(3)}

    with pytest.raises(AssertionError, match="sums: "):
        assert_equivariant(fn, X, flips)


def test_complex_numbers_are_compared():
    assert_equivariant(lambda x: torch.complex(x, x.square()), X, d4)
    assert_equivariant(
        lambda x: torch.fft.fft2(x).abs(), X, translations(1, circular=True), acts=lambda t, e: t
    )
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(torch.fft.fft2, X, d4)


@pytest.mark.parametrize(
    ("acts", "message"),
    [
        (3.0, "acts has 3.0, expected image, invariant"),
        (regular(d4), r"the output of fn, of shape \(2, 1, 9, 9\), cannot be regular"),
    ],
)
def test_what_is_no_act_is_told(acts, message):
    with pytest.raises(ValueError, match=message):
        assert_equivariant(nn.ReLU(), X, d4, acts=acts)
    with pytest.raises(ValueError, match="expected one along each axis"):
        vector("right", "left")


class TestReport:
    network = staticmethod(
        lambda **fault: nn.Sequential(
            Lift(1, 2), nn.ReLU(), Regular(2, 3, **fault), nn.GELU(), ToVector(3)
        ).eval()
    )

    def test_it_says_how_each_layer_transforms(self):
        report = equivariance_report(self.network(), X, rotations)
        assert not report.culprits(rotations)
        acts = [
            report.layer(rotations, name).own.acts[""] for name in ("0", "1", "2", "3", "4", "")
        ]
        assert acts == ["regular(rotations)"] * 4 + ["vector(right, up)"] * 2
        assert "regular(rotations)" in str(report)

    def test_a_fault_does_not_reach_the_layers_behind_it(self):
        report = equivariance_report(self.network(unturned=2), X, rotations)
        (layer,) = report.culprits(rotations)
        assert layer.name == "2"
        assert "how its input transforms, as regular(rotations)" in layer.cause

    def test_what_is_said_of_the_output_holds_for_the_layer_that_returns_it(self):
        network = nn.Sequential(Lift(1, 1), OverOrientations(), nn.Tanh())
        report = equivariance_report(network, X, rotations, acts=vector_of_one)
        assert [layer.name for layer in report.culprits(rotations)] == ["2"]

    def test_a_network_of_several_outputs(self):
        class Heads(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.score = nn.Conv2d(1, 4, 1), nn.Linear(4, 3)

            def forward(self, x):
                z = self.body(x)
                return {"map": z, "score": self.score(z.mean((2, 3))), "sum": z.sum((1, 2, 3))}

        report = equivariance_report(Heads(), X, [d4, translations(2)])
        whole = report.layer(d4, "")
        assert whole.own.acts == {"map": "image", "score": "invariant", "sum": "invariant"}
        assert whole.accumulated.verdict.holds
        assert {e.element.partition(":")[0] for e in whole.accumulated.elements} == set(
            whole.own.acts
        )


def vector_of_one(t, element):
    """Not how it transforms."""
    return -t
