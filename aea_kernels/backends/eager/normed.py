"""The block's primitives with a norm of `norms.py`: GroupNorm, LayerNorm or RMSNorm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...block import folding, norms
from .products import Features, apply_affine, gram_of, outer_of
from .walking import Walk, sum_of_squares

pivot, normed_keys = norms.pivot, norms.keys


def _normed(kind: str, eps: float, pivot: Tensor | None) -> Features:
    """u, always in the map's workspace."""

    def features(walk: Walk, i: int, box: int) -> Tensor:
        x = walk.read(i, box)
        out = walk.workspace(i, x)
        if pivot is not None:
            return torch.sub(
                x, walk.groups(pivot[..., None].expand(walk.maps[i].shape[0], -1, 1), box), out=out
            )
        return _over_channels(kind, eps, x, out)[0]

    return features


def _over_channels(kind: str, eps: float, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """u, x (G, C, N) normalised over channels, in `out`; and the inverse deviation or root mean
    square (G, 1, N).
    """
    centred = x
    if kind == "layer":
        centred = torch.sub(x, x.mean(1, keepdim=True), out=out)
        centred -= centred.mean(
            1, keepdim=True
        )  # what rounding left in the mean, which all channels share
    inverse = sum_of_squares(centred, 1).div_(x.shape[1]).add_(eps).rsqrt_()
    return torch.mul(centred, inverse, out=out), inverse


def normed_moments(x: Tensor, kind: str, eps: float, pivot: Tensor | None) -> Tensor:
    return gram_of(x, _normed(kind, eps, pivot))


def attend_to_normed(
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    composed = norms.compose(folding.expand_groups(matrix, len(affine)), affine)
    return apply_affine(x, _normed(kind, eps, pivot), composed, residual=True), matrix


def attend_to_normed_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    matrix: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    composed_grad = outer_of(grad_output, x, _normed(kind, eps, pivot))
    matrix_grad, affine_grad = norms.compose_backward(
        composed_grad, folding.expand_groups(matrix, len(x)), affine
    )
    matrix_grad = folding.sum_groups(matrix_grad, reference_images)
    gram_grad, *rest = folding.fold_backward(
        matrix_grad, gram, references, reference_images, projections, heads, scale
    )
    return [gram_grad, affine_grad, *rest]


def normed_features_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    matrix: Tensor,
    gram_grad: Tensor,
) -> Tensor:
    grad_x = torch.empty_like(x)
    walk = Walk(grad_output, x, grad_x)
    features = _normed(kind, eps, pivot)
    linear, through_moments, constant = (
        matrix[..., :-1].mT,
        gram_grad[:, :-1, :-1],
        gram_grad[:, :-1, -1:],
    )
    for box in walk:
        above, inverse = walk.read(0, box), None
        if pivot is None:
            raw = walk.read(1, box)
            u, inverse = _over_channels(kind, eps, raw, walk.workspace(1, raw))
        else:
            u = features(walk, 1, box)
        du = torch.baddbmm(
            walk.groups(constant, box),
            walk.groups(through_moments, box),
            u,
            out=walk.workspace(-1, u),
        ).baddbmm_(walk.groups(linear, box), above)
        if inverse is not None:
            along = torch.linalg.vecdot(du, u, dim=1)[:, None] / x.shape[1]
            if kind == "layer":
                du -= du.mean(1, keepdim=True)
            du = du.addcmul_(u, along, value=-1).mul_(inverse)
        walk.store(2, box, torch.add(above, du, out=walk.result(2, box)))
    return grad_x
