"""The block's primitives on feature maps x (B, C, *spatial), with BN and ReLU6 or without a
norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...block import folding
from ...core.dtypes import acc_dtype
from .products import Features, apply_affine, gram_of, outer_of
from .walking import Walk


def scale_and_shift(
    norm: Sequence[Tensor], eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor] | None:
    """BN as one multiplication and one addition a channel, (C,) each."""
    if not norm:
        return None
    weight, bias, mean, variance = (t.double() for t in norm)
    scale = weight / (variance + eps).sqrt()
    return scale.to(dtype), (bias - mean * scale).to(dtype)


def activated(affine: tuple[Tensor, Tensor] | None) -> Features:
    """z = x, or with the affine map of BN its ReLU6."""

    def features(walk: Walk, i: int, box: int) -> Tensor:
        x = walk.read(i, box)
        if affine is None:
            return x
        scale, shift = affine
        return torch.addcmul(shift[:, None], x, scale[:, None], out=walk.workspace(i, x)).clamp_(
            0, 6
        )

    return features


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every box is centred on its own mean before it is squared and the boxes are combined as by
    Chan, Golub & LeVeque (1979), so a large mean costs no digits.
    """
    walk = Walk(x)
    mean, spread = (torch.zeros(x.shape[1], dtype=torch.float64, device=x.device) for _ in range(2))
    count = 0
    for box in walk:
        values = walk.read(0, box)  # (G, C, N)
        number = values.shape[0] * values.shape[2]
        centre = values.mean((0, 2))
        deviation = torch.sub(values, centre[:, None], out=walk.workspace(-1, values))
        residue = deviation.mean((0, 2)).double()  # what rounding left in `centre`
        squares = deviation.square_().sum((0, 2)).double() - number * residue**2
        delta = centre.double() + residue - mean
        mean = mean + delta * (number / (count + number))
        spread = spread + squares + delta**2 * (count * number / (count + number))
        count += number
    return mean, spread / max(count, 1)


def moments(
    x: Tensor, norm: Sequence[Tensor], eps: float, references: Tensor | None, reference_images: int
) -> Tensor:
    per_image = gram_of(x, activated(scale_and_shift(norm, eps, acc_dtype(x.dtype))))
    return folding.add_references(
        folding.sum_groups(per_image, reference_images), references, reference_images
    )


def attend_to_moments(
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    features = activated(scale_and_shift(norm, eps, acc_dtype(x.dtype)))
    return apply_affine(x, features, matrix, residual=True), matrix


def apply_to_features(x: Tensor, matrix: Tensor) -> Tensor:
    return apply_affine(x, activated(None), matrix, residual=False)


def attend_to_moments_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    gram: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    per_image = outer_of(grad_output, x, activated(scale_and_shift(norm, eps, acc_dtype(x.dtype))))
    matrix_grad = folding.sum_groups(per_image, reference_images)
    return folding.fold_backward(
        matrix_grad, gram, references, reference_images, projections, heads, scale
    )


def features_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    batch_statistics: bool,
    matrix: Tensor,
    gram_grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the batch statistics send back is added to grad_x at the end, which is written twice and
    read once. No product is computed twice.
    """
    grad_x = torch.empty_like(x)
    walk = Walk(grad_output, x, grad_x)
    affine = scale_and_shift(norm, eps, walk.dtype)
    features = activated(affine)
    matrix, gram_grad = (
        folding.expand_groups(matrix, len(x)),
        folding.expand_groups(gram_grad, len(x)),
    )
    linear, through_moments = matrix[..., :-1].mT, gram_grad[:, :-1, :-1]
    constant = gram_grad[:, :-1, -1:]
    dweight, dbias = (x.new_zeros(x.shape[1] if norm else 0, dtype=walk.dtype) for _ in range(2))
    mean = norm[2].to(walk.dtype) if norm else None
    for box in walk:
        above = walk.read(0, box)
        z = features(walk, 1, box)
        dz = torch.baddbmm(
            walk.groups(constant, box),
            walk.groups(through_moments, box),
            z,
            out=walk.workspace(-1, z),
        ).baddbmm_(walk.groups(linear, box), above)
        out = walk.result(2, box)
        if affine is None or mean is None:
            torch.add(above, dz, out=out)
        else:
            # z sits on the bounds exactly where ReLU6 has no slope
            torch.ops.aten.hardtanh_backward.grad_input(dz, z, 0, 6, grad_input=dz)
            dbias += dz.sum((0, 2))
            values = torch.sub(walk.read(1, box), mean[:, None], out=walk.workspace(1, z))
            dweight += values.mul_(dz).sum((0, 2))
            torch.addcmul(above, dz, affine[0][:, None], out=out)
        walk.store(2, box, out)
    if mean is not None:
        weight, _, _, variance = (t.to(walk.dtype) for t in norm)
        deviation = (variance + eps).sqrt()
        dweight /= deviation
        if batch_statistics:
            number = max(1, x.numel() // x.shape[1])
            slope = -weight / deviation**2 * dweight / number
            _add_affine(grad_x, x, slope, -weight / deviation * dbias / number - slope * mean)
    return grad_x, torch.stack([dweight, dbias])


def _add_affine(grad_x: Tensor, x: Tensor, slope: Tensor, constant: Tensor) -> None:
    """``grad_x += slope x + constant`` in place, (C,) each."""
    walk = Walk(grad_x, x)
    for box in walk:
        out = walk.result(0, box)
        torch.add(walk.read(0, box), constant[:, None], out=out)
        out.addcmul_(walk.read(1, box), slope[:, None])
        walk.store(0, box, out)
