"""The primitives of `families/ops.py` as Triton kernels: those of `primitives.py`, with phi before
the products.

Sums are fused where a tile holds all channels of a head. Wider heads take plain operations, with
copies, around the kernels of the first family in their backward passes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.dtypes import acc_dtype, empty_positions
from . import kernels
from .launching import FeatureMap, Matrix, launch_over_positions, operator_map, plan_over_positions
from .primitives import apply_matrix, outer_sum
from .products import launch_matrix_backward, launch_reduction
from .tiles import Launch


def phi_outer_sum(key: Tensor, value: Tensor, phi: str) -> tuple[Tensor, Tensor]:
    batch, heads, positions, width = key.shape
    shape, dtype = (batch, heads, width, value.shape[3] + 1), acc_dtype(key.dtype)
    if 0 in (batch, heads, positions, width, value.shape[3]):
        return _sums_of_few(key, value, phi)
    maps = operator_map(key), operator_map(value)
    plan = _plan("phi_outer", key, *maps)
    partial = key.new_empty(batch * heads, plan.splits, *shape[2:], dtype=dtype)
    maxima = key.new_empty(batch * heads, plan.splits, width, dtype=dtype) if phi == "exp" else None
    _outer(plan, key, *maps, partial, maxima, heads, phi)
    sums, maximum = _reduce(partial, maxima)
    maximum = key.new_empty(batch * heads, 0, dtype=dtype) if maximum is None else maximum
    return sums.view(shape), maximum.view(batch, heads, -1)


def phi_outer_sum_backward(
    grad_sums: Tensor, key: Tensor, value: Tensor, maximum: Tensor, phi: str
) -> tuple[Tensor, Tensor]:
    matrix, constant = grad_sums[..., :-1], grad_sums[..., -1].contiguous()
    grads = _outer_backward(key, value, matrix, maximum, constant, None, phi)
    if grads is not None:
        return grads
    mapped, slope = _phi_and_slope(key, maximum[:, :, None] if phi == "exp" else None)
    grad_key = slope * (apply_matrix(value, matrix) + constant[:, :, None])
    return _like(key, grad_key), apply_matrix(_like(key, mapped), matrix.mT)


def phi_apply(query: Tensor, matrix: Tensor, phi: str, eps: float) -> Tensor:
    heads = query.shape[1]
    y = empty_positions(query, matrix.shape[3] - (phi == "relu"))
    if query.numel() * y.shape[3] == 0:
        return y.zero_()
    linear, divisor, least, _ = _in_range(matrix, phi, eps)
    maps, flat = (operator_map(query), operator_map(y)), linear.flatten(0, 1)
    plan = _plan("phi_apply", query, maps[1], maps[0], *maps)
    launch_over_positions(
        kernels.apply_kernel,
        plan,
        query,
        None,
        x=maps[0],
        norm=None,
        matrix=Matrix(flat, *flat.stride()),
        y=maps[1],
        divisor=divisor,
        eps=least,
        heads=heads,
        groups=flat.shape[0],
        HOMOGENEOUS=False,
        RESIDUAL=False,
        PHI=phi,
        ONE_TILE=plan.one_tile,
    )
    return y


def phi_apply_backward(
    grad_output: Tensor, query: Tensor, matrix: Tensor, phi: str, eps: float
) -> tuple[Tensor, Tensor]:
    batch, heads, _, width = query.shape
    rows, grad_query = matrix.shape[3], empty_positions(query, width)
    if width == 0:
        return grad_query, matrix.new_zeros(matrix.shape)
    maps = operator_map(grad_output), operator_map(query), operator_map(grad_query)
    plan = _plan("phi_matrix_backward", query, maps[0], maps[1], *maps)
    linear, divisor, least, unit = _in_range(matrix, phi, eps)
    if not plan.one_tile or query.numel() * linear.shape[2] == 0:
        grad_query, grad_matrix = _phi_apply_backward_in_steps(
            grad_output, query, linear, divisor, least
        )
    else:
        partial = query.new_empty(
            batch * heads, plan.splits, rows, width, dtype=acc_dtype(query.dtype)
        )
        launch_matrix_backward(
            plan, query, maps, linear, partial, divisor=divisor, eps=least, phi=phi
        )
        grad_matrix = _reduce(partial)[0].view(batch, heads, rows, width)
    return grad_query, (grad_matrix.mT / unit).contiguous()


def outer_sum_and_squares(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, positions, width = a.shape
    columns, dtype = b.shape[3], acc_dtype(a.dtype)
    if 0 in (batch, heads, positions, width, columns):
        wide_a, wide_b = a.to(dtype), b.to(dtype)
        return wide_a.mT @ wide_b, wide_a.square().sum(-2), wide_b.square().sum(-2)
    maps = operator_map(a), operator_map(b)
    plan = _plan("phi_outer", a, *maps)
    partial = a.new_empty(batch * heads, plan.splits, width + 1, columns + 1, dtype=dtype)
    _outer(plan, a, *maps, partial, None, heads, "squares")
    sums = _reduce(partial)[0].view(batch, heads, width + 1, columns + 1)
    return (
        sums[:, :, :-1, :-1].contiguous(),
        sums[:, :, :-1, -1].contiguous(),
        sums[:, :, -1, :-1].contiguous(),
    )


def outer_sum_and_squares_backward(
    grad_product: Tensor, grad_a_squares: Tensor, grad_b_squares: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    constants = 2 * grad_a_squares.contiguous(), 2 * grad_b_squares.contiguous()
    grads = _outer_backward(a, b, grad_product, None, *constants, "squares")
    if grads is not None:
        return grads
    grad_a = apply_matrix(b, grad_product) + constants[0][:, :, None] * a
    grad_b = apply_matrix(a, grad_product.mT) + constants[1][:, :, None] * b
    return _like(a, grad_a), _like(b, grad_b)


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
    least = (eps / unit).clamp(
        min=torch.finfo(matrix.dtype).tiny if eps > 0 else 0.0
    )  # one over it is finite
    return matrix[..., :-1].mT, matrix[..., -1].contiguous(), least, unit[..., None, None]


# ---- launches ------------------------------------------------------------------------------------


def _plan(
    kernel: str, x: Tensor, rows: FeatureMap, columns: FeatureMap, *maps: FeatureMap
) -> Launch:
    images, positions = x.shape[0] * x.shape[1], x.shape[2]
    return plan_over_positions(
        kernel, rows.channels, columns.channels, images, positions, x, *(maps or (rows, columns))
    )


def _outer(
    plan: Launch, a: Tensor, a_map: FeatureMap, x_map: FeatureMap, partial: Tensor, maxima: Tensor | None, heads: int,
    phi: str,
) -> None:  # fmt: skip
    launch_over_positions(
        kernels.outer_kernel,
        plan,
        a,
        partial,
        a=a_map,
        x=x_map,
        norm=None,
        partial=partial,
        maxima=maxima,
        heads=heads,
        GRAM=False,
        HOMOGENEOUS=True,
        PHI=phi,
        ONE_TILE=False,
        BLOCK_ALL=plan.tiles.block_k,
    )


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
    a: Tensor, b: Tensor, matrix: Tensor, maximum: Tensor | None, a_constant: Tensor, b_constant: Tensor | None,
    phi: str,
) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    """The gradients of both maps in one pass; None where a tile does not hold all channels."""
    grad_a, grad_b = empty_positions(a, a.shape[3]), empty_positions(b, b.shape[3])
    maps = [operator_map(t) for t in (a, b, grad_a, grad_b)]
    plan = _plan("phi_outer_backward", a, maps[0], maps[1], *maps)
    if a.numel() * b.numel() == 0:
        return grad_a.zero_(), grad_b.zero_()
    if not plan.one_tile:
        return None
    flat = matrix.flatten(0, 1)
    launch_over_positions(
        kernels.outer_backward_kernel,
        plan,
        a,
        None,
        a=maps[0],
        b=maps[1],
        matrix=Matrix(flat, *flat.stride()),
        maximum=maximum.contiguous() if maximum is not None and phi == "exp" else None,
        a_constant=a_constant,
        b_constant=b_constant,
        grad_a=maps[2],
        grad_b=maps[3],
        heads=a.shape[1],
        PHI=phi,
    )
    return grad_a, grad_b


# ---- heads without positions, and wider than a tile ----------------------------------------------


def _sums_of_few(key: Tensor, value: Tensor, phi: str) -> tuple[Tensor, Tensor]:
    """`phi_outer_sum` where an axis is empty."""
    shape, dtype = (*key.shape[:2], key.shape[3]), acc_dtype(key.dtype)
    lowest = key.new_full((*key.shape[:2], 1, key.shape[3]), -torch.inf, dtype=dtype)
    maximum = torch.cat([lowest, key.to(dtype)], 2).amax(2) if phi == "exp" else lowest[:, :, 0, :0]
    mapped, _ = _phi_and_slope(key, maximum[:, :, None] if phi == "exp" else None)
    sums = key.new_zeros(*shape, value.shape[3] + 1, dtype=dtype)
    sums[..., -1] = mapped.sum(2)
    return sums, maximum


def _phi_and_slope(x: Tensor, maximum: Tensor | None) -> tuple[Tensor, Tensor]:
    """phi and its derivative in the accumulation dtype: "exp" with a maximum, else "relu"."""
    x = x.to(acc_dtype(x.dtype))
    if maximum is None:
        return torch.relu(x), (x > 0).to(x.dtype)
    mapped = (x - maximum.masked_fill(maximum == -torch.inf, 0)).exp()
    return mapped, mapped


def _phi_apply_backward_in_steps(
    grad_output: Tensor, query: Tensor, matrix: Tensor, divisor: Tensor | None, eps: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As the kernel, for what `_in_range` returns: the second is (B, H, D, E), for "relu" (B, H,
    D+1, E).
    """
    if divisor is None or eps is None:
        mapped = query.to(matrix.dtype).softmax(-1)
        through = apply_matrix(grad_output, matrix.mT)
        grad_query = mapped * (through - (mapped * through).sum(-1, keepdim=True))
        return _like(query, grad_query), outer_sum(grad_output, _like(query, mapped))
    mapped, slope = _phi_and_slope(query, None)
    weights = divisor[:, :, None]
    total = (mapped * weights).sum(-1, keepdim=True) + eps[:, :, None, None]
    through = apply_matrix(grad_output, matrix.mT) / total
    common = -(mapped * through).sum(-1, keepdim=True) / total
    grad_query = slope * (through + common * weights)
    grad_matrix = outer_sum(grad_output, _like(query, mapped / total))
    return _like(query, grad_query), torch.cat(
        [grad_matrix, (common * mapped).sum(2, keepdim=True)], 2
    )


def _like(x: Tensor, values: Tensor) -> Tensor:
    """The values in x's dtype and layout."""
    return empty_positions(x, values.shape[3]).copy_(values)
