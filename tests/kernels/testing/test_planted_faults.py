"""Faults planted in a network that is equivariant without them: each is found, at its layer and
nowhere else.
"""

import os

import pytest
import torch
from orientations import Lift, OverOrientations, Regular, ToVector
from torch import nn

from aea_kernels.testing import (
    Verdict,
    assert_equivariant,
    averaged_kernels,
    d4,
    equivariance_report,
    flips,
    permutations,
    rotations,
    rotations_by,
    translations,
)
from aea_kernels.testing.strategies import normal


class SelfAttention(nn.Module):
    """Softmax attention over positions, (N, C, H, W) -> same shape; `axis` -1 is over the keys."""

    def __init__(self, axis=-1, over_positions=True):
        super().__init__()
        self.qkv = nn.Conv2d(4, 12, 1)
        self.axis, self.over_positions = axis, over_positions

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).chunk(3, dim=1)
        if self.over_positions:
            return x + (v @ (q.mT @ k).softmax(self.axis).mT).view_as(x)
        # softmax along each row of the image instead of over all of it
        scores = (q * k).view_as(x).softmax(self.axis)
        return x + scores * v.view_as(x)


class BiasByPosition(nn.Module):
    def __init__(self, size=1e-3):
        super().__init__()
        self.bias = nn.Parameter(size * torch.randn(12, 12))

    def forward(self, x):
        return x + self.bias


class OffByOneCrop(nn.Module):
    """Padded by one at all sides, and cut back one too far to the left."""

    def __init__(self, at=1):
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 1)
        self.at = at

    def forward(self, x):
        z = nn.functional.pad(self.inner(x), (1, 1, 1, 1))
        return z[:, :, 1 : 1 + x.shape[2], self.at : self.at + x.shape[3]]


class Scaled(nn.Module):
    """Times a factor and back, which leaves the range of float16 in between."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def network(*faulty, groups=d4):
    layers = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GELU(),
        SelfAttention(),
        *faulty,
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
    ]
    return averaged_kernels(nn.Sequential(*layers, nn.Conv2d(4, 1, 1)), groups).eval()


X = normal(1, 1, 12, 12, dtype=torch.float32)


def faults(model, group, x=X):
    return [layer.name for layer in equivariance_report(model, x, group).culprits(group)]


def test_without_a_fault_there_is_none():
    assert faults(network(), d4) == []
    assert_equivariant(network(), X, d4)


def test_a_softmax_over_the_wrong_axis():
    """Over rows: commutes with flips, as it should not with rotations; over queries it would still
    be equivariant.
    """
    assert faults(network(SelfAttention(-1, over_positions=False)), d4) == ["3"]
    assert faults(network(SelfAttention(-1, over_positions=False)), flips) == []
    assert faults(network(SelfAttention(-2)), d4) == []
    pixels = nn.Sequential(
        nn.Conv2d(1, 4, 1), SelfAttention(), SelfAttention(-2, over_positions=False)
    )
    assert faults(pixels, permutations) == ["2"]


@pytest.mark.parametrize("size", [1e-1, 1e-5, 1e-8])
def test_a_bias_by_position_however_small(size):
    """Far below float32's rounding too: float64 decides."""
    model = network(BiasByPosition(size))
    assert faults(model, d4) == ["3"]
    with pytest.raises(
        AssertionError,
        match=r"Likely cause: the layer '3' \(BiasByPosition\): a computation that depends on",
    ):
        assert_equivariant(model, X, d4)


def test_a_flipped_kernel():
    model = network()
    convolution = model[3]
    with torch.no_grad():
        convolution.weight[0, 0] = torch.randn(3, 3)
    report = equivariance_report(model, X, d4)
    (layer,) = report.culprits(d4)
    assert layer.name == "3"
    assert "its kernel is not symmetric" in layer.cause
    flipped = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(2, 1, 3, padding=1))
    mirrored = averaged_kernels(flipped, flips)
    with torch.no_grad():
        mirrored[1].weight[:, 1] = flipped[1].weight[:, 1].flip(-1)
    assert faults(mirrored, flips, torch.randn(1, 1, 20)) == ["1"]


@pytest.mark.parametrize(("at", "wrong"), [(1, False), (0, True), (2, True)])
def test_an_off_by_one_crop_is_found_between_the_layers_of_its_module(at, wrong):
    model = network(OffByOneCrop(at))
    assert faults(model, d4) == (["3"] if wrong else [])
    assert faults(model, translations(1), torch.randn(1, 1, 40, 40)) == []
    if wrong:
        (layer,) = equivariance_report(model, X, d4).culprits(d4)
        assert layer.cause.startswith("between the layers that it calls, ")


def test_a_crop_at_an_odd_size_only():
    """A network that pads to even sizes and cuts back is symmetric at even sizes alone."""

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2d(2)

        def forward(self, x):
            z = nn.functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
            return nn.functional.interpolate(self.pool(z), scale_factor=2)[
                :, :, : x.shape[2], : x.shape[3]
            ]

    model = nn.Sequential(nn.Conv2d(1, 1, 1), Padded())
    assert faults(model, flips, torch.randn(1, 1, 8, 8)) == []
    assert faults(model, flips, torch.randn(1, 1, 9, 9)) == ["1"]


def test_float16_overflow():
    model = network(Scaled(3e5), Scaled(1 / 3e5)).half()
    report = equivariance_report(model, X.half(), flips)
    (layer,) = report.culprits(flips)
    assert (layer.name, layer.own.verdict) == ("3", Verdict.OVERFLOW)
    with pytest.raises(
        AssertionError,
        match=r"not finite in float16, and finite in float64.*the layer '3' \(Scaled\)",
    ):
        assert_equivariant(model, X.half(), flips)
    assert_equivariant(model.float(), X, flips)


def test_a_computation_in_less_than_its_own_precision():
    class Rough(nn.Module):
        def forward(self, x):
            return x + (1e-2 * x.cumsum(-1) if x.dtype == torch.float32 else 0.0)

    model = network(Rough())
    (layer,) = equivariance_report(model, X, d4).culprits(d4)
    assert (layer.name, layer.own.verdict) == ("3", Verdict.PRECISION)
    with pytest.raises(AssertionError, match="more than rounding makes of it"):
        assert_equivariant(model, X, d4)


def test_a_cast_to_float32_within_the_network_is_no_fault():
    class Cast(nn.Module):
        def forward(self, x):
            return x.float().softmax(1).to(x.dtype) * torch.ones(4, 1, 1)

    assert faults(network(Cast()), d4) == []
    assert_equivariant(network(Cast()), X, d4)


class PositionDependent(nn.Module):
    """Times a number for each row."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(1 + 0.1 * torch.randn(12, 1))

    def forward(self, x):
        return x * self.rows


class Rough(nn.Module):
    """Sums along a row, in float32 alone."""

    def forward(self, x):
        return x + (1e-2 * x.cumsum(-1) if x.dtype == torch.float32 else 0.0)


def oriented(*layers, end=OverOrientations):
    return nn.Sequential(Lift(1, 2), nn.GELU(), *layers, end()).eval()


def asymmetric_kernel():
    model = network(nn.Conv2d(4, 4, 3, padding=1))
    nn.init.normal_(model[3].weight)
    return model


KINDS = {
    "softmax over rows": (lambda: network(SelfAttention(-1, over_positions=False)), d4, "3"),
    "bias by position": (lambda: network(BiasByPosition()), d4, "3"),
    "off-by-one crop": (lambda: network(OffByOneCrop(0)), d4, "3"),
    "asymmetric kernel": (asymmetric_kernel, d4, "3"),
    "factor by row": (lambda: network(PositionDependent()), d4, "3"),
    "rough sum": (lambda: network(Rough()), d4, "3"),
    "pooling of odd shifts": (lambda: network(nn.MaxPool2d(2)), translations(1), "3"),
    "kernel of one orientation": (
        lambda: oriented(Regular(2, 3, unturned=1), nn.ReLU(), Regular(3, 2)),
        rotations,
        "2",
    ),
    "mixed orientations": (
        lambda: oriented(Regular(2, 3), nn.Conv2d(12, 8, 1), Regular(2, 2)),
        rotations,
        "3",
    ),
    "stretched vector": (
        lambda: oriented(Regular(2, 2), nn.ReLU(), end=lambda: ToVector(2, stretched=1.5)),
        rotations,
        "4",
    ),
}
"""Ten kinds of faults: a network with one, the group that it breaks, and its layer."""


@pytest.mark.parametrize("seed", range(10 if os.environ.get("AEANET_THOROUGH") else 1))
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_each_kind_is_found_at_its_layer(kind, seed):
    build, group, layer = KINDS[kind]
    torch.manual_seed(seed)
    model = build()
    size = 48 if kind == "pooling of odd shifts" else 12
    x = normal(1, 1, size, size, dtype=torch.float32, seed=seed)
    assert faults(model, group, x) == [layer]


class Ramp(nn.Module):
    """Brighter towards the right."""

    def forward(self, x):
        return x * torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)


@pytest.mark.parametrize("group", [rotations_by(30), translations(4)], ids=str)
def test_a_map_is_not_taken_for_pairs_of_tokens_that_cannot_be_measured(group):
    # its 16 rows are as many as the tokens of a map of 4 x 4
    x = normal(1, 3, 16, 16, dtype=torch.float32)
    assert faults(Ramp(), group, x) == [""]
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(Ramp(), x, group)
