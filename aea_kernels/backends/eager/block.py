"""The block's primitives on feature maps x (B, C, *spatial), for every prologue."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...block import folding, norms
from ...core.dtypes import acc_dtype, empty_features
from . import bfloat16
from .prologue import Identity, prologue
from .walking import (
    Walk,
    add_constants,
    add_matrix_product,
    add_product,
    sum_of_products,
    sum_over_positions,
)


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every chunk is centred on its own mean before it is squared and the chunks are combined as by
    Chan, Golub & LeVeque (1979), so a large mean costs no digits.
    """
    # outside of a CPU there is one chunk, and PyTorch has an operation for it
    walk = Walk(x, narrow_factors=True)
    if len(walk) == 1 and not walk.in_cache:
        variance, mean = torch.var_mean(walk.read(0, 0), (0, 2), correction=0)
        return mean.double(), variance.double()

    # joined to those of the chunks before: the distance of their means is a part of the spread
    mean, spread = x.new_zeros(2, x.shape[1], dtype=torch.float64)
    count = 0
    for chunk in walk:
        number, mean_here, spread_here = _chunk_statistics(walk, chunk)
        delta = mean_here - mean
        mean = mean + delta * (number / (count + number))
        spread = spread + spread_here + delta**2 * (count * number / (count + number))
        count += number
    return mean, spread / max(count, 1)


def _chunk_statistics(walk: Walk, chunk: int) -> tuple[int, Tensor, Tensor]:
    """How many values a channel has in a chunk, their mean and sum of squares about it, (C,)
    float64 each.
    """
    values = walk.factor(0, chunk)  # (G, C, N)
    number = values.shape[0] * values.shape[2]
    if walk.in_bfloat16:
        mean, variance = bfloat16.mean_and_variance(values)
        return number, mean.double(), number * variance.double()
    centre = values.mean((0, 2))
    deviation = torch.sub(values, centre[:, None], out=walk.workspace(-1, values))
    residue = deviation.mean((0, 2)).double()  # what rounding left in `centre`
    squares = deviation.square_().sum((0, 2)).double() - number * residue**2
    return number, centre.double() + residue, squares


def moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    references: Tensor | None,
    reference_images: int,
) -> Tensor:
    per_image = _gram(x, prologue(kind, parameters, eps, acc_dtype(x.dtype)))
    per_group = folding.sum_groups(per_image, reference_images)
    return folding.add_references(per_group, references, reference_images)


def attend_to_moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    affine: Tensor | None,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    composed = norms.compose_groups(matrix, affine, len(x))
    of_tile = prologue(kind, parameters, eps, acc_dtype(x.dtype))
    return _apply(x, of_tile, composed, residual=True), matrix


def apply_to_features(x: Tensor, matrix: Tensor) -> Tensor:
    return _apply(x, prologue("none", [], 0.0, acc_dtype(x.dtype)), matrix, residual=False)


def attend_to_moments_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    affine: Tensor | None,
    gram: Tensor,
    matrix: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    matrix_grad = _outer(grad_output, x, prologue(kind, parameters, eps, acc_dtype(x.dtype)))
    affine_grad = gram.new_empty(0)
    if affine is not None:
        per_image = folding.expand_groups(matrix, len(x))
        matrix_grad, affine_grad = norms.compose_backward(matrix_grad, per_image, affine)
    matrix_grad = folding.sum_groups(matrix_grad, reference_images)
    gram_grad, *rest = folding.fold_backward(
        matrix_grad, gram, references, reference_images, projections, heads, scale
    )
    return [gram_grad, affine_grad, *rest]


def features_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    batch_statistics: bool,
    matrix: Tensor,
    gram_grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the batch statistics send back is added to grad_x at the end, which is written twice and
    read once. No product is computed twice.
    """
    of_tile = prologue(kind, parameters, eps, acc_dtype(x.dtype))
    matrix, gram_grad = (folding.expand_groups(m, len(x)) for m in (matrix, gram_grad))
    grad_x = _through_tiles(grad_output, x, of_tile, matrix, gram_grad)
    parameter_grads = of_tile.parameter_grads(norms.empty_gradients(x, kind))
    if batch_statistics:
        number = max(1, x.numel() // x.shape[1])
        _add_affine(grad_x, x, *of_tile.through_statistics(parameter_grads, number))
    return grad_x, parameter_grads


def _through_tiles(
    grad_output: Tensor, x: Tensor, of_tile: Identity, matrix: Tensor, gram_grad: Tensor
) -> Tensor:
    """The gradient of x where the prologue's parameters are constants, for matrices (B, ...)."""
    # the 1 of uh is a constant: its column of M and its row of dG + dG^T are left out
    grad_x = torch.empty_like(x)
    walk = Walk(grad_output, x, grad_x)
    linear, through_moments = matrix[..., :-1].mT, gram_grad[:, :-1, :-1]
    constant = gram_grad[:, :-1, -1:]

    # du = M^T grad_output + (dG + dG^T) uh, then through the prologue
    for chunk in walk:
        here = [walk.groups(m, chunk) for m in (constant, through_moments, linear)]
        above = walk.read(0, chunk)
        du = torch.baddbmm(here[0], here[2], above, out=walk.workspace(-1, above))
        above = walk.after_product(0, chunk, above)
        u = of_tile.features(walk, 1, chunk)
        du.baddbmm_(here[1], u)
        out = walk.destination(2, chunk)
        of_tile.backward(walk, 1, chunk, u, du, above, out)
        walk.store(2, chunk, out)
    return grad_x


def _add_affine(grad_x: Tensor, x: Tensor, slope: Tensor, constant: Tensor) -> None:
    """``grad_x += slope x + constant`` in place, (C,) each."""
    walk = Walk(grad_x, x)
    for chunk in walk:
        out = walk.result(0, chunk)
        torch.add(walk.any_dtype(0, chunk), constant[:, None], out=out)
        out.addcmul_(walk.any_dtype(1, chunk), slope[:, None])
        walk.store(0, chunk, out)


# ---- the two shapes of work: sums of outer products, and a matrix at every position --------------


def _gram(x: Tensor, of_tile: Identity) -> Tensor:
    """Moments of u of each image, (B, C+1, C+1)."""
    return _sums(Walk(x, narrow_factors=of_tile.narrow_factors), of_tile, x)


def _outer(grad_output: Tensor, x: Tensor, of_tile: Identity) -> Tensor:
    """Sum of grad_output uh^T over the positions of each image, (B, O, C+1)."""
    walk = Walk(x, grad_output, narrow_factors=of_tile.narrow_factors)
    return _sums(walk, of_tile, x, grad_output)


def _sums(walk: Walk, of_tile: Identity, x: Tensor, a: Tensor | None = None) -> Tensor:
    """Sum of a uh^T over the positions of each image, (B, A, C+1); `walk` is over x and a. Without
    a map a it is uh, so there are C + 1 rows.
    """
    # without a map a, u stands on both sides: C + 1 rows, of which the last follows by symmetry
    batch, rows = x.shape[0], (x if a is None else a).shape[1]
    of_moments, number = int(a is None), math.prod(x.shape[2:])

    # one chunk is one product; the sums of more are added up in the wider dtype
    if len(walk) == 1:
        u = of_tile.factor(walk, 0, 0)
        left = u if a is None else walk.factor(1, 0)
        products = sum_of_products(left, u)
        sums = torch.nn.functional.pad(products, (0, 1, 0, of_moments), value=number)
        sum_over_positions(left, out=sums[:, :rows, -1:])
    else:
        shape = batch, rows + of_moments, x.shape[1] + 1
        sums = x.new_full(shape, number if of_moments else 0, dtype=walk.sum_dtype)
        sums[:, :rows] = 0
        for chunk in walk:
            u = of_tile.factor(walk, 0, chunk)
            left = u if a is None else walk.factor(1, chunk)
            here = walk.groups(sums, chunk)[:, :rows]
            add_product(here[..., :-1], left, u)
            here[..., -1:].add_(sum_over_positions(left))
        sums = sums.to(walk.dtype)

    # the last row of moments is their last column, and the corner the number of positions
    if of_moments:
        sums[:, -1, :-1] = sums[:, :-1, -1]
    return sums


def _apply(x: Tensor, of_tile: Identity, matrix: Tensor, *, residual: bool) -> Tensor:
    """M uh, plus x with `residual`, for matrix (G, O, C+1)."""
    # uh is never formed: the last column of the matrix is a constant at every position
    y = empty_features(x, matrix.shape[1])
    walk = Walk(x, y, narrow_factors=of_tile.narrow_factors)
    matrix = folding.expand_groups(matrix, len(x))
    linear, constant = matrix[..., :-1].to(walk.factor_dtype), matrix[..., -1:]

    # out begins as x and the constants, and the product is added in place
    for chunk in walk:
        out, constant_here = walk.result(1, chunk), walk.groups(constant, chunk)
        if residual:
            add_constants(walk.any_dtype(0, chunk), constant_here, out)
        else:
            out.copy_(constant_here.expand_as(out))
        add_matrix_product(out, walk.groups(linear, chunk), of_tile.factor(walk, 0, chunk))
        walk.store(1, chunk, out)
    return y
