"""Any angle, and shifts by part of a position: what is equivariant is so within interpolation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aea_kernels.testing import (
    Verdict,
    assert_equivariant,
    equivariance_error,
    equivariance_report,
    flips,
    regular,
    rotations_by,
    translations,
    vector,
)
from aea_kernels.testing.layouts import Frame
from aea_kernels.testing.strategies import normal

X = normal(1, 1, 48, 48, dtype=torch.float32)


class TurnedBack(nn.Module):
    """The mean over `number` angles: the image turned, convolved, turned back by affine_grid."""

    def __init__(self, number):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 1, 5, 5) / 5)
        self.angles = [2 * torch.pi * k / number for k in range(number)]

    def turned(self, x, angle):
        c, s = torch.tensor(angle).to(x).cos(), torch.tensor(angle).to(x).sin()
        zero = torch.zeros_like(c)
        theta = torch.stack([torch.stack([c, -s, zero]), torch.stack([s, c, zero])])
        grid = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bicubic", align_corners=False)

    def forward(self, x):
        maps = [
            self.turned(F.conv2d(self.turned(x, a), self.weight, padding=2), -a)
            for a in self.angles
        ]
        return torch.stack(maps).mean(0)


def test_a_network_of_affine_grids_is_equivariant_to_its_own_angle():
    errors = assert_equivariant(TurnedBack(24), X, rotations_by(15))
    assert errors.verdict is Verdict.INTERPOLATION
    assert errors.error < 0.02
    assert 0 < errors.worst.decisive.floor < 0.02
    assert "of interpolation" in str(errors)


def test_and_to_no_finer_one():
    errors = equivariance_error(TurnedBack(4), X, rotations_by(45))
    assert errors.verdict is Verdict.BROKEN
    assert errors.error > 0.05


def test_a_plain_convolution_is_not():
    with pytest.raises(AssertionError, match=r"rotations by 15 degrees.*\(interpolation adds"):
        assert_equivariant(nn.Conv2d(1, 2, 5, padding=2), X, rotations_by(15))
    report = equivariance_report(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.Tanh(), nn.Conv2d(2, 1, 5, padding=2)),
        X,
        [rotations_by(15), flips],
    )
    assert [layer.name for layer in report.culprits(rotations_by(15))] == ["2"]
    assert [layer.name for layer in report.culprits(flips)] == ["2"]


@pytest.mark.parametrize("degrees", [1, 359])
def test_a_small_turn_is_not_tried_alone(degrees: int):
    """It changes the image by less than the error that interpolation may have."""
    with pytest.raises(AssertionError, match="rotation by 130 degrees"):
        assert_equivariant(nn.Conv2d(1, 2, 5, padding=2), X, rotations_by(degrees))
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 5, padding=2))
    group = rotations_by(degrees)
    report = equivariance_report(network, X, group)
    assert [layer.name for layer in report.culprits(group)] == ["1"]


def test_shifts_by_part_of_a_position():
    assert_equivariant(nn.Conv2d(1, 2, 5, padding=2), X, translations(0.5))
    with pytest.raises(AssertionError, match=r"not equivariant to translations by 0\.5"):
        assert_equivariant(lambda x: x * torch.linspace(0, 20, 48).sin(), X, translations(0.5))
    with pytest.raises(ValueError, match="circular shifts are by whole positions"):
        translations(0.5, circular=True)


def test_vectors_turn_by_any_angle():
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])

    def gradient(x):
        """To the right and up."""
        weight = torch.stack([kernel, -kernel.mT])[:, None].to(x)
        return F.conv2d(x, weight, padding=1)

    assert assert_equivariant(gradient, X, rotations_by(30)).acts == {"": "vector(right, up)"}
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(gradient, X, rotations_by(30), acts=vector("right", "down"))


def test_a_quarter_turn_is_that_of_torch():
    x = normal(1, 1, 12, 12)
    (turn, *_) = rotations_by(90).elements(x.shape, torch.Generator())
    torch.testing.assert_close(turn.act(x, (1, 1)), torch.rot90(x, 1, (2, 3)))
    assert len(regular(rotations_by(45)).fibre.group.matrices(2)) == 8


def test_what_has_no_angle_is_told():
    with pytest.raises(ValueError, match="turn nothing: take 0 to 360"):
        equivariance_error(nn.ReLU(), X, rotations_by(0))
    with pytest.raises(ValueError, match="need two axes of positions"):
        equivariance_error(nn.ReLU(), X[0], rotations_by(15))


@pytest.mark.parametrize("angle", [1e-9, 1e-3, 360 - 1e-9])
def test_an_angle_that_moves_nothing_is_told(angle):
    """Of the angle 1e-9, the rotations of a full turn alone would fill the memory."""
    for measure in (assert_equivariant, equivariance_report):
        with pytest.raises(ValueError, match="degrees move no position of an input of shape"):
            measure(nn.ReLU(), X, rotations_by(angle))
    orientations = regular(rotations_by(angle))
    assert orientations.layouts((1, 8, 48, 48), Frame(1, (48, 48))) == []


def test_a_shift_that_moves_nothing_is_told():
    with pytest.raises(ValueError, match="a shift by 1e-09 moves nothing"):
        assert_equivariant(nn.ReLU(), X, translations(1e-9))


@pytest.mark.parametrize("angle", [0.05, 0.7, 359.9])
def test_a_small_angle_is_measured(angle):
    assert assert_equivariant(nn.Conv2d(1, 1, 1), X, rotations_by(angle)).verdict.holds


def test_a_full_turn_of_small_steps():
    number = {degrees: len(rotations_by(degrees).matrices(2)) for degrees in (45, 1, 0.5, 7, 0)}
    assert number == {45: 8, 1: 360, 0.5: 0, 7: 0, 0: 0}
