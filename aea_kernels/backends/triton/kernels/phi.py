"""phi of a tile of queries or keys, "relu" or "exp", and what is divided by at every position."""

import triton
import triton.language as tl

from .tile import load_tile


@triton.jit
def relu(x):
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def highest_channel(x, pointer, s, MATH: tl.constexpr, BLOCK_K: tl.constexpr):
    """The maximum of x over all channels, (BLOCK_S,), read slice by slice."""
    highest = tl.full((s.shape[0],), float("-inf"), MATH.ACC)
    for start in range(0, x.channels, BLOCK_K):
        c = start + tl.arange(0, BLOCK_K)
        raw = tl.where(
            (c < x.channels)[:, None], load_tile(x, pointer, c, s).to(MATH.ACC), float("-inf")
        )
        highest = tl.maximum(highest, tl.max(raw, 0))
    return highest


@triton.jit
def load_divisor(divisor, eps, image, channels, C, PHI: tl.constexpr):
    """divisor of some channels and eps of an image; for "exp", which has neither, two numbers that
    nobody reads.
    """
    if PHI == "relu":
        weights = tl.load(divisor + image.to(tl.int64) * C + channels, mask=channels < C, other=0.0)
        return weights, tl.load(eps + image)
    else:
        return channels, channels  # Triton 3.6 returns no None in a tuple


@triton.jit
def phi_of_queries(raw, highest, channels, C, PHI: tl.constexpr):
    """phi of a tile; for "exp", highest is the maximum over all channels, None where the tile has
    them all.
    """
    if PHI == "relu":
        return relu(raw)
    else:
        raw = tl.where((channels < C)[:, None], raw, float("-inf"))
        if highest is None:
            highest = tl.max(raw, 0)
        return tl.exp(raw - highest[None, :])


@triton.jit
def divided_by(phi, weights, PHI: tl.constexpr):
    """The share of some channels in what is divided by, (BLOCK_S,), without eps."""
    if PHI == "relu":
        return tl.sum(phi * weights[:, None], 0)
    else:
        return tl.sum(phi, 0)
