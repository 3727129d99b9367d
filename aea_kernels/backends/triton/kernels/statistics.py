"""Mean and variance of every channel, for BN: one pass over x, then one over the partial results."""

import triton
import triton.language as tl

from .tile import load_tile, widen


@triton.jit
def statistics_kernel(
    x, partial,
    C, S, spans, span, n1, n2, x_b, x_c, x_0, x_1, x_2,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """partial[image, span] = mean and sum of squared deviations of every channel over the span, (2, C).

    Tiles are centred on their own mean and combined as by Chan, Golub & LeVeque (1979).
    """
    pid = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    part = pid // tiles % spans
    image = widen(pid // (tiles * spans), WIDE)
    channels = widen(pid % tiles * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
    x += image * x_b
    mean = tl.zeros((BLOCK_C,), ACC)
    squares = tl.zeros((BLOCK_C,), ACC)
    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        number = tl.minimum(tl.maximum(S - first - start, 0), BLOCK_S).to(ACC)
        values = load_tile(x, channels, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
        centre = tl.sum(values, 1) / tl.maximum(number, 1.0)
        deviation = tl.where((s < S)[None, :], values - centre[:, None], 0.0)
        before = start + 0.0
        share = number / tl.maximum(before + number, 1.0)
        delta = centre - mean
        mean += delta * share
        squares += tl.sum(deviation * deviation, 1) + delta * delta * (before * share)
    partial += (image * spans + part) * 2 * C
    tl.store(partial + channels, mean, mask=channels < C)
    tl.store(partial + C + channels, squares, mask=channels < C)


@triton.jit
def join_statistics_kernel(
    partial, mean, variance,
    C, S, total, parts, spans, span,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Means and squares of all spans, (parts, 2, C), joined in float64 into mean and biased variance, (C,).

    parts = images * spans; `total` positions in all, S of every image.
    """
    channels = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channels < C
    number_of_all = tl.cast(total, tl.float64)
    sums = tl.zeros((BLOCK_C,), tl.float64)
    for start in range(0, parts, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        number = tl.minimum(tl.maximum(S - part % spans * span, 0), span).to(tl.float64)
        pointers = partial + part[:, None] * 2 * C + channels[None, :]
        means = tl.load(pointers, mask=(part < parts)[:, None] & inside[None, :], other=0.0).to(tl.float64)
        sums += tl.sum(number[:, None] * means, 0)
    centre = sums / number_of_all
    squares = tl.zeros((BLOCK_C,), tl.float64)
    for start in range(0, parts, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        known = (part < parts)[:, None] & inside[None, :]
        number = tl.minimum(tl.maximum(S - part % spans * span, 0), span).to(tl.float64)
        pointers = partial + part[:, None] * 2 * C + channels[None, :]
        delta = tl.load(pointers, mask=known, other=0.0).to(tl.float64) - centre[None, :]
        within = tl.load(pointers + C, mask=known, other=0.0).to(tl.float64)
        squares += tl.sum(tl.where(known, within + number[:, None] * delta * delta, 0.0), 0)
    tl.store(mean + channels, centre, mask=inside)
    tl.store(variance + channels, squares / number_of_all, mask=inside)
