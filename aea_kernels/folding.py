"""The C x C algebra between the two passes: from the moments of z to the matrix that the whole block applies.

In homogeneous coordinates zh = (z, 1), Wh = [W b], the block is ``y = x + M zh`` with

    M = (scale / n) * Wo * per_head(Whv Gh Whk^T) * Whq  +  [0 bo]

where Gh is the sum of zh zh^T over all keys and n, its last entry, their number. Heads, biases and the output
projection cost nothing per position. Nothing here depends on the size of the image.

Shapes: G groups of images that share their keys, C channels, H heads of E key and D value channels, O outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Projections(NamedTuple):
    """The four 1x1 projections in homogeneous coordinates: weight and bias side by side, accumulation dtype."""

    query: Tensor  # (H * E, C + 1)
    key: Tensor  # (H * E, C + 1)
    value: Tensor  # (H * D, C + 1)
    output: Tensor  # (O, H * D + 1)


class Folded(NamedTuple):
    matrix: Tensor  # M, (G, O, C + 1)
    values: Tensor  # Whv Gh, (G, H * D, C + 1)
    summary: Tensor  # per_head(Whv Gh Whk^T), (G, H, D, E)
    attended: Tensor  # summary Whq, (G, H * D, C + 1)


def homogeneous(features: Tensor) -> Tensor:
    """(R, C) -> (R, C + 1), a column of ones appended."""
    return torch.cat([features, features.new_ones(len(features), 1)], 1)


def _heads(matrix: Tensor, heads: int) -> Tensor:
    """(..., H * E, C) -> (..., H, E, C)."""
    return matrix.unflatten(-2, (heads, -1))


def normaliser(gram: Tensor, scale: float) -> Tensor:
    """scale / n, (G, 1, 1); the sum over no keys at all is zero, so its normaliser may be anything finite."""
    return scale / gram[:, -1:, -1:].detach().clamp(min=1)


def fold(gram: Tensor, projections: Projections, *, heads: int, scale: float) -> Folded:
    """The block's matrix from the moments of its keys, gram (G, C+1, C+1)."""
    query, key, value, output = projections
    values = value @ gram
    summary = _heads(values, heads) @ _heads(key, heads).mT
    attended = (summary @ _heads(query, heads)).flatten(1, 2)
    matrix = normaliser(gram, scale) * (output[:, :-1] @ attended)
    bias = torch.nn.functional.pad(output[:, -1:], (gram.shape[-1] - 1, 0))
    return Folded(matrix + bias, values, summary, attended)


def fold_backward(
    dmatrix: Tensor, gram: Tensor, folded: Folded, projections: Projections, *, heads: int, scale: float
) -> tuple[Tensor, Projections]:
    """The adjoint of `fold`: dM (G, O, C+1) -> dG (G, C+1, C+1) and the gradients of the projections."""
    query, key, value, output = projections
    _, values, summary, attended = folded
    dproduct = normaliser(gram, scale) * dmatrix
    doutput = (dproduct @ attended.mT).sum(0)
    dattended = _heads(output[:, :-1].mT @ dproduct, heads)
    dsummary = dattended @ _heads(query, heads).mT
    dquery = (summary.mT @ dattended).sum(0).flatten(0, 1)
    dvalues = dsummary @ _heads(key, heads)
    dkey = (dsummary.mT @ _heads(values, heads)).sum(0).flatten(0, 1)
    dvalues = dvalues.flatten(1, 2)
    dvalue = (dvalues @ gram.mT).sum(0)
    doutput = torch.cat([doutput, dmatrix[..., -1:].sum(0)], 1)
    return value.mT @ dvalues, Projections(dquery, dkey, dvalue, doutput)
