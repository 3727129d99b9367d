"""Which norm: what a kernel takes of it, what it makes of a tile, and the derivative of that.

The kernels themselves ask only whether there is a norm, and whether it is over channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from ...block.norms import OVER_CHANNELS
from .operands import contiguous
from .tiles import LaunchPlan

BATCH, GROUP, LAYER, RMS = (tl.constexpr(number) for number in range(4))
"""Kinds of norms: Triton 3.6 compares no tuple with None that holds a string."""

_KINDS = {"batch": BATCH, "group": GROUP, "layer": LAYER, "rms": RMS}

# ---- what a kernel takes -------------------------------------------------------------------------


class BatchPrologue(NamedTuple):
    """BN and ReLU6 as kernels take them, (C,) each."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    eps: Any
    """A constexpr."""
    kind: Any
    """One of `_KINDS`."""
    over_channels: Any
    """Whether a position needs all its channels, as a constexpr."""


class PlainPrologue(NamedTuple):
    """What makes u of x without an activation, as kernels take it."""

    pivot: Tensor
    """(images, C), contiguous, with GroupNorm; else any tensor."""
    eps: Any
    kind: Any
    over_channels: Any


Prologue = BatchPrologue | PlainPrologue | None


def prologue_of(x: Tensor, kind: str, parameters: Sequence[Tensor], eps: float) -> Prologue:
    """The prologue of a primitive, for feature maps x; None where u = x."""
    if kind == "none":
        return None
    constants = _constant(eps), _KINDS[kind], _constant(kind in OVER_CHANNELS)
    if kind == "batch":
        weight, bias, mean, variance = contiguous(parameters)
        return BatchPrologue(weight, bias, mean, variance, *constants)
    # Triton 3.6 compares no tuple with None that holds a None: x stands for a pivot that no kernel
    # reads
    pivot = parameters[0].expand(x.shape[:2]).contiguous() if parameters else x
    return PlainPrologue(pivot, *constants)


def needs_all_channels(prologue: Prologue) -> bool:
    """Of a position, whatever the tile."""
    return prologue is not None and bool(prologue.over_channels.value)


def check_holds(prologue: Prologue, plan: LaunchPlan, channels: int) -> None:
    """Raise ValueError where a norm needs more channels at a position than a tile holds."""
    if needs_all_channels(prologue) and plan.tiles.block_a < channels:
        raise ValueError(f"no tile holds the {channels} channels that the norm needs at a position")


@lru_cache(typed=True)
def _constant(value: float | bool) -> Any:
    return tl.constexpr(value)


# ---- what it makes of a tile ---------------------------------------------------------------------


@triton.jit
def load_norm(norm, image, channels, C, MATH: tl.constexpr):
    """centre, scale, shift and deviation of some channels: ``z = ReLU6((x - centre) scale +
    shift)``.

    Digits of the mean that the accumulation dtype cannot hold are in the shift. Feature maps of 16
    bits have fewer digits than x scale + shift loses, so there the centre is in the shift too. Of
    GroupNorm there is only the centre, the pivot of the image; a norm over channels has no map of
    channels.
    """
    if norm is None:
        # numbers that nobody reads: Triton 3.6 returns no None in a tuple
        none = channels.to(MATH.ACC) * 0.0
        return none, none, none, none
    elif norm.kind == GROUP:
        centre = tl.load(
            norm.pivot + image.to(tl.int64) * C + channels, mask=channels < C, other=0.0
        )
        return centre, centre, centre, centre
    elif norm.kind == BATCH:
        inside = channels < C
        # the mean may have more digits than sums: those that it loses here go into the shift
        exact = tl.load(norm.mean + channels, mask=inside, other=0.0)
        centre = exact.to(MATH.ACC)
        variance = tl.load(norm.variance + channels, mask=inside, other=1.0).to(MATH.ACC)
        deviation = tl.sqrt(variance + norm.eps)
        scale = tl.load(norm.weight + channels, mask=inside, other=0.0).to(MATH.ACC) / deviation
        # for 16 bits z = x scale + shift: one multiply-add
        shift = tl.load(norm.bias + channels, mask=inside, other=0.0).to(MATH.ACC)
        shift -= (exact - centre).to(MATH.ACC) * scale
        if MATH.HALF:
            shift -= centre * scale
        return centre, scale, shift, deviation
    else:
        none = channels.to(MATH.ACC) * 0.0
        return none, none, none, none


@triton.jit
def over_channels(raw, affine, channels, C, norm, MATH: tl.constexpr):
    """`affine`; with a norm over channels mean, inverse deviation and rest of every position, from
    all its channels.

    The rest is what the mean lost when it was rounded. All channels share it, so errors from it do
    not average out, and they grow with mean / deviation. Feature maps of 16 bits are rounded more
    than that themselves.
    """
    if norm is None or not norm.over_channels:
        return affine
    else:
        away = raw.to(MATH.ACC)
        number = tl.cast(C, MATH.ACC)
        centre = tl.zeros((raw.shape[1],), MATH.ACC)
        rest = centre

        # LayerNorm takes the mean off, and then the mean of what is left
        if norm.kind == LAYER:
            centre = tl.sum(away, 0) / number
            # channels past the last are zero in x, and have to be so again
            away = tl.where((channels < C)[:, None], away - centre[None, :], 0.0)
            if not MATH.HALF:
                rest = tl.sum(away, 0) / number
                away = tl.where((channels < C)[:, None], away - rest[None, :], 0.0)
        # the mean square; without the mean it is the variance
        inverse = 1.0 / tl.sqrt(tl.sum(away * away, 0) / number + norm.eps)
        return centre, inverse, rest, inverse


@triton.jit
def activate(raw, affine, norm, MATH: tl.constexpr):
    """z of a tile of x, with the map of `load_norm` and `over_channels`; not zero where a position
    is outside.
    """
    raw = raw.to(MATH.ACC)
    if norm is None:
        return raw
    elif norm.kind == GROUP:
        return raw - affine[0][:, None]
    elif norm.kind == LAYER:
        away = raw - affine[0][None, :]
        # what the mean lost when it was rounded
        if not MATH.HALF:
            away -= affine[2][None, :]
        return away * affine[1][None, :]
    elif norm.kind == RMS:
        return raw * affine[1][None, :]
    else:
        centre, scale, shift, _ = affine
        # the centre is in the shift; with more than 16 bits it comes off first, which keeps digits
        if MATH.HALF:
            z = raw * scale[:, None] + shift[:, None]
        else:
            z = (raw - centre[:, None]) * scale[:, None] + shift[:, None]
        # NaN stays NaN, as in PyTorch
        z = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)
        z = tl.minimum(z, 6.0, propagate_nan=tl.PropagateNan.ALL)
        return z


# ---- the derivative ------------------------------------------------------------------------------


@triton.jit
def activation_backward(dz, z, norm):
    """dz through the activation after the norm: through ReLU6, which only BN has."""
    if norm is None:
        return dz
    elif norm.kind == BATCH:
        # z sits on the bounds exactly where ReLU6 has no slope
        return tl.where((z <= 0.0) | (z >= 6.0), 0.0, dz)
    else:
        return dz


@triton.jit
def norm_backward(dz, z, affine, C, norm):
    """dz through the norm, with the map that `activate` had; mean and variance of BN are constants
    here. A norm over channels needs all of them.
    """
    if norm is None:
        return dz
    elif norm.kind == BATCH:
        return dz * affine[1][:, None]
    elif norm.kind == GROUP:
        return dz
    else:
        # less the part of dz along z, and with LayerNorm that along 1: the norm takes both out of x
        along = tl.sum(dz * z, 0) / C
        if norm.kind == LAYER:
            dz -= (tl.sum(dz, 0) / C)[None, :]
        return (dz - z * along[None, :]) * affine[1][None, :]
