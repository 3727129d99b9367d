"""The block against keys that are not those of x: a whole image, tile by tile, exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends import resolved
from ..core import ops
from ..core.dtypes import acc_dtype, without_autocast
from ..core.transforms import transformed
from . import folding, norms
from .route import fits_a_tile
from .spec import Norm, Projections


def moments_of_keys(x: Tensor, norm: Norm, backend: str) -> Tensor:
    """What the block has to know of the keys in x (B, C, *spatial), (B, C+1, C+1): it adds over
    tiles.

    It is the moments of z. With GroupNorm, which needs the whole image for z, they are those of x,
    in float64 so as to keep their digits where the mean is large.
    """
    pivot = ops.pivot(x, norm.groups, backend) if norm.kind == "group" else None
    prologue = norm.kind, norms.parameters(norm, pivot), norm.eps
    gram = ops.moments(x, *prologue, None, x.shape[0], backend)
    if pivot is not None:
        return norms.shift(gram.double(), pivot.double())
    affine = norms.affine(norm, gram, None)
    return gram if affine is None else norms.transform(gram, affine)


def attend_to_keys(
    x: Tensor,
    gram: Tensor,
    norm: Norm,
    projections: Projections,
    references: Tensor | None,
    heads: int,
    scale: float,
    backend: str,
) -> Tensor:
    """The block with the references and the keys whose `moments_of_keys` are `gram`, of B images or
    of one for all.

    Where derivatives are recorded it is computed in plain operations, which have them.
    """
    with without_autocast(x.device):  # as inside the operators
        dtype = acc_dtype(x.dtype)
        pivot = statistics = None
        if norm.kind == "group":
            # the moments of x about the means of the groups of channels, the best of all pivots
            exact = gram.double()
            count = exact[:, -1:, -1:].clamp(min=1)
            pivot = norms.over_groups((exact / count)[:, :-1, -1], norm.groups, dtype)
            gram = norms.shift(exact, -pivot.double())
            statistics = norms.statistics(norm, (gram / count).to(dtype), pivot, 1)

        # the moments of z; only those of GroupNorm are of u until here
        gram = gram.to(dtype)
        affine = norms.affine(norm, gram, statistics)
        if pivot is not None and affine is not None:
            gram = norms.transform(gram, affine)
        gram = folding.add_references(gram, references, len(gram))

        # no derivatives are recorded: one fused pass over x, where a tile holds what a norm needs
        prologue = norm.kind, norms.parameters(norm, pivot), norm.eps
        kernels = resolved(backend, x.device) == "triton"
        fused = fits_a_tile(x.shape[1], kernels, norm.kind in norms.OVER_CHANNELS)
        if fused and not (transformed() or torch.is_grad_enabled()):
            rest = affine, gram, projections, heads, scale, backend
            return ops.attend_to_moments(x, *prologue, *rest)[0]

        # else M and z by operations that have derivatives
        matrix = folding.expand_groups(folding.fold(gram, projections, heads, scale), len(x))
        z = norms.prologue(x.flatten(2).to(dtype), *prologue)
        if affine is not None:
            slope, constant = affine[:, :, :-1, None].unbind(1)
            z = slope * z + constant
        return folding.add_attended(x, matrix, z)
