"""Which positions of a map the border does not reach, found from the receptive field, and that from
one NaN.

A NaN in the middle of the input turns every output that depends on it into a NaN, whatever the
weights are. So one call shows how far a network reaches: convolutions, poolings and attention pass
a NaN on, and nothing else creates one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from .symmetry import Element, Strides


def with_nan(x: Tensor, positions: Sequence[int]) -> Tensor:
    """A copy of x that is NaN in the middle position, in all its other axes."""
    marked = x.clone()
    middle = marked
    for axis in positions:
        middle = middle.narrow(axis, x.shape[axis] // 2, 1)
    middle.fill_(math.nan)
    return marked


def reach(output: Tensor, spatial: Sequence[int], strides: Strides) -> tuple[int, ...] | None:
    """How far, in positions of the input by axis, the NaN in its middle is seen in the output;
    None: from everywhere.

    Args:
        output: (N, C, *spatial), what became of the input of `with_nan`.
        spatial: the sizes of that input.
        strides: of the output.
    """
    seen = output.isnan().any(dim=(0, 1))
    found = []
    for axis, (size, stride) in enumerate(zip(spatial, strides, strict=True)):
        line = seen.movedim(axis, 0).flatten(1).any(dim=1) if seen.dim() > 1 else seen
        at = torch.nonzero(line).flatten().tolist()
        if not at or at[0] == 0 or at[-1] == len(line) - 1:
            return None
        middle = size // 2
        farthest = max(middle - at[0] * stride, at[-1] * stride - middle)
        # the phase of a position within a stride moves what it reaches by up to one stride
        slack = max(Fraction(1), stride) if stride != 1 else 0
        found.append(math.ceil(farthest + slack))
    return tuple(found)


def interior(
    shape: Sequence[int], element: Element, reached: tuple[int, ...] | None, strides: Strides
) -> tuple[slice, ...] | None:
    """The index of a map (N, C, *spatial) that leaves out what the border reaches once `element`
    has acted.

    None where nothing is left: the receptive field is the whole image, or the image is too small.
    """
    if reached is None:
        return None
    index = [slice(None), slice(None)]
    for size, spill, far, stride in zip(shape[2:], element.spill, reached, strides, strict=True):
        margin = math.ceil((spill + far) / stride)
        if size <= 2 * margin:
            return None
        index.append(slice(margin, size - margin))
    return tuple(index)
