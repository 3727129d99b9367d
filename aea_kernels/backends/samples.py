"""A small call of every operator and every kind of it: what the self-check and `verify` compare.

Sizes are no multiples of a tile, so that a wrong mask shows. On ordinary units the channels of a
block take two slices, so that a product of the first one must not be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..block import norms

IMAGES, CHANNELS, HEADS, REFERENCES = 3, 36, 2, 5
SPACE = 7, 11
WIDE_CHANNELS = 132
"""Of maps that kernels read in slices of channels."""
SLICED = (
    "statistics",
    "apply_to_features",
    "moments",
    "attend_to_moments",
    "attend_to_moments_backward",
    "features_backward",
)
"""The operators that get such maps."""


class Sample(NamedTuple):
    """The arguments of an operator, without the backend."""

    operator: str
    arguments: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """Of norm or of phi; empty where the operator has none."""
        return kind_of(self.arguments)

    @property
    def wide(self) -> bool:
        return is_wide(self.operator, self.arguments)


def is_wide(operator: str, arguments: Sequence[Any]) -> bool:
    """Whether kernels read the maps in slices: of more than 128 channels."""
    return operator in SLICED and arguments[0].shape[1] > 128


def kind_of(arguments: Sequence[Any]) -> str:
    """The first text among the arguments of an operator."""
    return next((given for given in arguments if isinstance(given, str)), "")


class _Numbers:
    """Standard normal numbers, the same every time; feature maps are in a dtype of their own."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator().manual_seed(0)

    def wide(self, *shape: int) -> Tensor:
        """In the dtype of sums, float64 for float64."""
        dtype = torch.promote_types(self.dtype, torch.float32)
        # the default device of a user may be another than that of the generator
        drawn = torch.randn(shape, generator=self.generator, device="cpu")
        return drawn.to(self.device, dtype)

    def map(self, *shape: int) -> Tensor:
        return self.wide(*shape).to(self.dtype)


def samples(dtype: torch.dtype, device: torch.device) -> Iterator[Sample]:
    """One for each operator, kind and width, feature maps in `dtype`."""
    yield from _of_blocks(_Numbers(dtype, device), CHANNELS, ("batch", "none", *norms.AFFINE))
    # norms over channels are computed apart from wider maps
    wide = _of_blocks(_Numbers(dtype, device), WIDE_CHANNELS, ("batch", "none", "group"))
    yield from (sample for sample in wide if sample.wide)
    yield from _of_operators(_Numbers(dtype, device))
    yield from _of_families(_Numbers(dtype, device))


def _of_blocks(draw: _Numbers, channels: int, kinds: Sequence[str]) -> Iterator[Sample]:
    # operators that ask for no kind of norm
    x, dy = (draw.map(IMAGES, channels, *SPACE) for _ in range(2))
    width = channels + 1
    yield Sample("statistics", (x,))
    yield Sample("pivot", (x, 1))
    yield Sample("apply_to_features", (x, draw.wide(1, channels, width)))

    # the first image is in the reference branch, the two others share their keys
    groups, square = 2, (channels, channels)
    references = draw.wide(REFERENCES, channels)
    projections = [0.3 * draw.wide(*s) for _ in range(4) for s in (square, (channels,))]
    rest = projections, HEADS, 0.5
    rows = draw.wide(groups, 50, width)
    gram = rows.mT @ rows
    gram[:, -1, -1] = 50
    matrix = draw.wide(groups, channels, width)
    affine = norms.affine_of(draw.wide(IMAGES, channels), draw.wide(IMAGES, channels))
    per_image = gram[:1].expand(IMAGES, -1, -1).contiguous()
    yield Sample("keys", (per_image, affine, references, 1))

    # what a prologue takes: BN a variance that is positive, GroupNorm a pivot
    batch_norm = [draw.wide(channels) for _ in range(4)]
    batch_norm[3] = batch_norm[3].square()
    parameters = {"batch": batch_norm, "group": [0.1 * draw.wide(IMAGES, channels)]}

    # with an affine map, moments and references are joined later, by `keys`: groups of one
    for kind in kinds:
        prologue = kind, parameters.get(kind, []), 0.1
        has_affine = kind in norms.AFFINE
        given, grams = (affine, per_image) if has_affine else (None, gram)
        images = IMAGES if has_affine else 1
        yield Sample("moments", (x, *prologue, None if has_affine else references, images))
        yield Sample("attend_to_moments", (x, *prologue, given, gram, *rest))
        keys = given, gram, matrix, references, 1
        yield Sample("attend_to_moments_backward", (dy, x, *prologue, *keys, *rest))
        composed = draw.wide(len(grams), channels, width)
        yield Sample("features_backward", (dy, x, *prologue, False, composed, grams))

    # BN once more, with the statistics of x
    batch = "batch", batch_norm, 0.1
    yield Sample("features_backward", (dy, x, *batch, True, matrix, gram))


def _of_operators(draw: _Numbers) -> Iterator[Sample]:
    a, b = draw.map(2, HEADS, 77, 20), draw.map(2, HEADS, 77, 12)
    yield Sample("outer_sum", (a, b))
    yield Sample("apply_matrix", (a, draw.wide(2, HEADS, 12, 20)))
    yield Sample("apply_matrix_backward", (b, a, draw.wide(2, HEADS, 12, 20)))


def _of_families(draw: _Numbers) -> Iterator[Sample]:
    a, b = draw.map(2, HEADS, 77, 20), draw.map(2, HEADS, 77, 12)
    for phi in ("relu", "exp"):
        divided = phi == "relu"  # the last column is what is divided by
        yield Sample("phi_outer_sum", (a, b, phi))
        maximum = a.amax(2).to(draw.wide(1).dtype) if phi == "exp" else draw.wide(2, HEADS, 0)
        yield Sample("phi_outer_sum_backward", (draw.wide(2, HEADS, 20, 13), a, b, maximum, phi))
        matrix = draw.wide(2, HEADS, 20, 12 + divided).square()
        yield Sample("phi_apply", (a, matrix, phi, 0.1))
        yield Sample("phi_apply_backward", (b, a, matrix, phi, 0.1))
    yield Sample("outer_sum_and_squares", (a, b))
    sums = draw.wide(2, HEADS, 20, 12), draw.wide(2, HEADS, 20), draw.wide(2, HEADS, 12)
    yield Sample("outer_sum_and_squares_backward", (*sums, a, b))
