"""The primitives of `families/ops.py` as Triton kernels.

Sums are fused where a tile holds all channels of a head. The backward passes of wider heads, and
heads without positions, take plain operations, with copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.dtypes import acc_dtype, empty_positions
from ...families import plain
from . import kernels
from .launching import launch_over_positions, plan_over_positions
from .operands import FeatureMap, Matrix, operator_map
from .products import launch_reduction
from .tiles import LaunchPlan


def phi_outer_sum(key: Tensor, value: Tensor, phi: str) -> tuple[Tensor, Tensor]:
    batch, heads, positions, width = key.shape
    shape = batch, heads, width, value.shape[3] + 1
    if 0 in (batch, heads, positions, width, value.shape[3]):
        return plain.phi_outer_sum(key, value, phi)
    sums, maximum = _outer_sum(key, value, phi, shape[2:])
    if maximum is None:
        maximum = sums.new_empty(batch * heads, 0)
    return sums.view(shape), maximum.view(batch, heads, -1)


def phi_outer_sum_backward(
    grad_sums: Tensor, key: Tensor, value: Tensor, maximum: Tensor, phi: str
) -> tuple[Tensor, Tensor]:
    matrix, constant = grad_sums[..., :-1], grad_sums[..., -1].contiguous()
    grads = _outer_backward(key, value, matrix, maximum, constant, None, phi)
    if grads is None:
        grads = plain.phi_outer_sum_backward(grad_sums, key, value, maximum, phi)
        return _like(key, grads[0]), _like(value, grads[1])
    return grads


def phi_apply(query: Tensor, matrix: Tensor, phi: str, eps: float) -> Tensor:
    # queries without channels are a sum over nothing: zeros
    y = empty_positions(query, matrix.shape[3] - (phi == "relu"))
    if query.numel() * y.shape[3] == 0:
        return y.zero_()

    # the matrix in a unit of its own, which the division takes out again
    linear, divisor, least, _ = _in_range(matrix, phi, eps)
    x_map, y_map = operator_map(query), operator_map(y)
    plan = _plan("phi_apply", query, y_map, x_map)
    launch_over_positions(
        kernels.phi_apply_kernel,
        plan,
        query,
        None,
        x=x_map,
        matrix=_matrix(linear),
        y=y_map,
        divisor=divisor,
        eps=least,
        heads=query.shape[1],
        PHI=phi,
        ONE_TILE=plan.one_tile,
    )
    return y


def phi_apply_backward(
    grad_output: Tensor, query: Tensor, matrix: Tensor, phi: str, eps: float
) -> tuple[Tensor, Tensor]:
    # queries without channels have a gradient without numbers
    batch, heads, _, width = query.shape
    grad_query = empty_positions(query, width)
    if width == 0:
        return grad_query, matrix.new_zeros(matrix.shape)

    # plain operations for heads that no tile holds, and where there are no positions
    maps = [operator_map(t) for t in (grad_output, query, grad_query)]
    plan = _plan("phi_matrix_backward", query, *maps)
    if not plan.one_tile or query.numel() * grad_output.numel() == 0:
        grads = plain.phi_apply_backward(grad_output, query, matrix, phi, eps)
        return grad_query.copy_(grads[0]), grads[1].contiguous()

    # the matrix in a unit of its own, as forward
    linear, divisor, least, unit = _in_range(matrix, phi, eps)
    rows = matrix.shape[3]
    partial = matrix.new_empty(batch * heads, plan.splits, rows, width)
    launch_over_positions(
        kernels.phi_matrix_backward_kernel,
        plan,
        query,
        partial,
        grad_output=maps[0],
        a=maps[1],
        matrix=_matrix(linear),
        grad_a=maps[2],
        partial=partial,
        divisor=divisor,
        eps=least,
        heads=heads,
        PHI=phi,
    )

    # the gradient of the matrix itself, from that of the matrix in its unit
    grad_matrix = _reduce(partial)[0].view(batch, heads, rows, width)
    return grad_query, (grad_matrix.mT / unit).contiguous()


def outer_sum_and_squares(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, positions, width = a.shape
    columns = b.shape[3]
    if 0 in (batch, heads, positions, width, columns):
        return plain.outer_sum_and_squares(a, b)
    sums, _ = _outer_sum(a, b, "squares", (width + 1, columns + 1))
    sums = sums.view(batch, heads, width + 1, columns + 1)
    product, a_squares, b_squares = sums[:, :, :-1, :-1], sums[:, :, :-1, -1], sums[:, :, -1, :-1]
    return product.contiguous(), a_squares.contiguous(), b_squares.contiguous()


def outer_sum_and_squares_backward(
    grad_product: Tensor, grad_a_squares: Tensor, grad_b_squares: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    constants = 2 * grad_a_squares.contiguous(), 2 * grad_b_squares.contiguous()
    grads = _outer_backward(a, b, grad_product, None, *constants, "squares")
    if grads is None:
        squares = grad_a_squares, grad_b_squares
        grads = plain.outer_sum_and_squares_backward(grad_product, *squares, a, b)
        return _like(a, grads[0]), _like(b, grads[1])
    return grads


def _in_range(
    matrix: Tensor, phi: str, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """What `phi_apply` applies, (B, H, D, E), and for "relu" divides by, (B, H, E), with eps, (B,
    H); and the unit, (B, H, 1, 1), that these are relative to: sums over many positions are beyond
    the range of float16, in which products are computed.
    """
    if phi == "exp":
        return matrix.mT, None, None, matrix.new_ones(())
    largest = matrix[..., -1].amax(-1)
    unit = torch.where(largest > 0, largest, 1)
    matrix = matrix / unit[..., None, None]
    tiny = torch.finfo(matrix.dtype).tiny if eps > 0 else 0.0
    least = (eps / unit).clamp(min=tiny)  # one over it is finite
    linear, divisor = matrix[..., :-1].mT, matrix[..., -1].contiguous()
    return linear, divisor, least.contiguous(), unit[..., None, None]


# ---- launches ------------------------------------------------------------------------------------


def _plan(
    kernel: str, x: Tensor, rows: FeatureMap, columns: FeatureMap, *more: FeatureMap
) -> LaunchPlan:
    images, positions = x.shape[0] * x.shape[1], x.shape[2]
    channels = rows.channels, columns.channels
    return plan_over_positions(kernel, *channels, images, positions, x, rows, columns, *more)


def _matrix(matrix: Tensor) -> Matrix:
    """Matrices (B, H, O, E) as kernels take them."""
    flat = matrix.flatten(0, 1)
    return Matrix(flat, *flat.stride())


def _outer_sum(
    a: Tensor, b: Tensor, phi: str, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """Sums of `shape` of each image and head, (B * H, *shape), and for "exp" the maxima that they
    are relative to, (B * H, A).
    """
    # a head of an image is an image of its own
    a_map, b_map = operator_map(a), operator_map(b)
    plan = _plan("phi_outer", a, a_map, b_map)
    images, dtype = a.shape[0] * a.shape[1], acc_dtype(a.dtype)

    # sums of each part of the positions; with "exp" relative to the maxima of that part
    partial = a.new_empty(images, plan.splits, *shape, dtype=dtype)
    maxima = None
    if phi == "exp":
        maxima = a.new_empty(images, plan.splits, a.shape[3], dtype=dtype)
    launch_over_positions(
        kernels.phi_outer_kernel,
        plan,
        a,
        partial,
        a=a_map,
        x=b_map,
        partial=partial,
        maxima=maxima,
        heads=a.shape[1],
        PHI=phi,
    )
    return _reduce(partial, maxima)


def _reduce(partial: Tensor, maxima: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Partial sums (images, splits, A, W) joined over the splits, (images, A, W), and their maxima,
    (images, A).
    """
    images, splits, rows, width = partial.shape
    if splits == 1:
        return partial[:, 0], None if maxima is None else maxima[:, 0]
    result = partial.new_empty(images, rows, width)
    maximum = None if maxima is None else partial.new_empty(images, rows)
    launch_reduction(partial, result, maxima=maxima, maximum=maximum, reference_images=images)
    return result, maximum


def _outer_backward(
    a: Tensor,
    b: Tensor,
    matrix: Tensor,
    maximum: Tensor | None,
    a_constant: Tensor,
    b_constant: Tensor | None,
    phi: str,
) -> tuple[Tensor, Tensor] | None:
    """The gradients of both maps in one pass; None where a tile does not hold all channels, or a
    map holds no numbers.
    """
    # both gradients are laid out as their maps
    grad_a, grad_b = empty_positions(a, a.shape[3]), empty_positions(b, b.shape[3])
    maps = [operator_map(t) for t in (a, b, grad_a, grad_b)]
    plan = _plan("phi_outer_backward", a, *maps)
    if not plan.one_tile or a.numel() * b.numel() == 0:
        return None

    # grad_a and grad_b are written as a and b are read
    arguments: dict[str, Any] = dict(zip(("a", "b", "grad_a", "grad_b"), maps, strict=True))
    launch_over_positions(
        kernels.phi_outer_backward_kernel,
        plan,
        a,
        None,
        matrix=_matrix(matrix),
        maximum=maximum.contiguous() if maximum is not None and phi == "exp" else None,
        a_constant=a_constant,
        b_constant=b_constant,
        heads=a.shape[1],
        PHI=phi,
        **arguments,
    )
    return grad_a, grad_b


def _like(x: Tensor, values: Tensor) -> Tensor:
    """The values in x's dtype and layout."""
    return empty_positions(x, values.shape[3]).copy_(values)
