"""The families' primitives: what each computes, its shapes and its notation stand in
`families/ops.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.dtypes import empty_positions
from .walking import Walk, add_product, sum_of_products, sum_of_squares


def phi_outer_sum(key: Tensor, value: Tensor, phi: str) -> tuple[Tensor, Tensor]:
    """The maximum is that of the chunks so far; sums are rescaled where a chunk has a larger."""
    walk = Walk(key.mT, value.mT, batch_axes=2)
    batch, heads, _, width = key.shape
    # apart from each other, as products of many small matrices are fast where the result is
    # contiguous
    product = key.new_zeros(batch, heads, width, value.shape[3], dtype=walk.sum_dtype)
    total = key.new_zeros(batch, heads, width, 1, dtype=walk.sum_dtype)
    maximum = key.new_full(
        (batch, heads, width if phi == "exp" else 0, 1), -torch.inf, dtype=walk.dtype
    )

    # k inside the chunk, and the sums of its images so far
    for chunk in walk:
        k, product_here, total_here = (
            walk.read(0, chunk),
            walk.groups(product, chunk),
            walk.groups(total, chunk),
        )

        # exp(k - maximum), with the maximum until now: sums before it are brought to it
        if phi == "exp":
            highest, largest = walk.groups(maximum, chunk), k.amax(-1, keepdim=True)
            largest.clamp_(min=torch.finfo(k.dtype).min)  # nothing can be subtracted from -inf
            if not walk.begins(chunk):
                torch.maximum(largest, highest, out=largest)
                rescaled = (highest - largest).exp_()
                product_here.mul_(rescaled)
                total_here.mul_(rescaled)
            highest.copy_(largest)
            mapped = torch.sub(k, largest, out=walk.workspace(-1, k)).exp_()
        else:
            mapped = torch.clamp(k, min=0, out=walk.workspace(-1, k))

        # the sum of phi(k) v^T, and that of phi(k) as last column
        add_product(product_here, mapped, walk.read(1, chunk))
        total_here.add_(mapped.sum(-1, keepdim=True))
    return torch.cat([product, total], -1).to(walk.dtype), maximum[..., 0]


def phi_outer_sum_backward(
    grad_sums: Tensor, key: Tensor, value: Tensor, maximum: Tensor, phi: str
) -> tuple[Tensor, Tensor]:
    grad_key, grad_value = (
        empty_positions(key, key.shape[3]),
        empty_positions(value, value.shape[3]),
    )
    walk = Walk(key.mT, value.mT, grad_key.mT, grad_value.mT, batch_axes=2)

    # no keys, or keys of -inf alone, have a maximum of -inf, which cannot be subtracted
    matrix, constant = grad_sums[..., :-1], grad_sums[..., -1:]
    finite = maximum[..., None].clamp(min=torch.finfo(maximum.dtype).min)

    # through: the gradient of phi(k), times the derivative of phi
    for chunk in walk:
        k, matrix_here = walk.read(0, chunk), walk.groups(matrix, chunk)
        mapped = walk.workspace(-1, k)
        if phi == "exp":
            torch.sub(k, walk.groups(finite, chunk), out=mapped).exp_()
        else:
            torch.clamp(k, min=0, out=mapped)

        # dv = M^T phi(k), and for phi(k) M v + the gradient of its sum
        walk.store(3, chunk, torch.bmm(matrix_here.mT, mapped, out=walk.result(3, chunk)))
        through = torch.baddbmm(
            walk.groups(constant, chunk),
            matrix_here,
            walk.read(1, chunk),
            out=walk.result(2, chunk),
        )

        # the derivative of phi, which phi itself tells
        if phi == "exp":
            through.mul_(mapped)
        else:
            torch.ops.aten.threshold_backward.grad_input(through, mapped, 0, grad_input=through)
        walk.store(2, chunk, through)
    return grad_key, grad_value


def phi_apply(query: Tensor, matrix: Tensor, phi: str, eps: float) -> Tensor:
    y = empty_positions(query, matrix.shape[3] - (phi == "relu"))
    if query.shape[3] == 0:
        return y.zero_()
    walk = Walk(query.mT, y.mT, batch_axes=2)
    for chunk in walk:
        share, _, linear = _share(walk, 0, chunk, walk.groups(matrix, chunk), phi, eps)
        walk.store(1, chunk, torch.bmm(linear.mT, share, out=walk.result(1, chunk)))
    return y


def phi_apply_backward(
    grad_output: Tensor, query: Tensor, matrix: Tensor, phi: str, eps: float
) -> tuple[Tensor, Tensor]:
    """With d the divisor at a position, p = phi / d, u = M dy and c = p . u: the derivative by phi
    is u / d, less c / d times that of d; M gets the sum of p dy^T, what d is made of that of -c p.
    """
    grad_query = empty_positions(query, query.shape[3])
    if query.shape[3] == 0:
        return grad_query, matrix.new_zeros(matrix.shape)
    walk = Walk(grad_output.mT, query.mT, grad_query.mT, batch_axes=2)

    # sums of p dy^T, and with "relu" of -c p: the gradient of the divisor's weights
    product = query.new_zeros(
        *query.shape[:2], query.shape[3], grad_output.shape[3], dtype=walk.sum_dtype
    )
    total = product.new_zeros(*query.shape[:2], query.shape[3], 0 if phi == "exp" else 1)
    for chunk in walk:
        matrix_here = walk.groups(matrix, chunk)
        share, inverse, linear = _share(walk, 1, chunk, matrix_here, phi, eps)
        above = walk.read(0, chunk)
        add_product(walk.groups(product, chunk), share, above)

        # u less c, both divided by d; with "relu" c is that of the divisor
        through = torch.bmm(linear, above, out=walk.result(2, chunk))
        common = torch.mul(share, through, out=walk.workspace(-3, share)).sum(1, keepdim=True)
        if phi == "exp":
            through.sub_(common).mul_(share)
        else:
            walk.groups(total, chunk).sub_(sum_of_products(share, common))
            through.addcmul_(common.expand_as(through), matrix_here[..., -1:], value=-1).mul_(
                inverse
            )
            torch.ops.aten.threshold_backward.grad_input(through, share, 0, grad_input=through)
        walk.store(2, chunk, through)
    return grad_query, torch.cat([product, total], -1).to(walk.dtype)


def outer_sum_and_squares(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    walk = Walk(a.mT, b.mT, batch_axes=2)
    product = a.new_zeros(*a.shape[:2], a.shape[3], b.shape[3], dtype=walk.sum_dtype)
    squares = [t.new_zeros(*t.shape[:2], t.shape[3], 1, dtype=walk.sum_dtype) for t in (a, b)]
    for chunk in walk:
        maps = [walk.read(i, chunk) for i in range(2)]
        add_product(walk.groups(product, chunk), maps[0], maps[1])
        for total, x in zip(squares, maps, strict=True):
            walk.groups(total, chunk).add_(sum_of_squares(x, -1))
    product, *squares = (t.to(walk.dtype) for t in (product, *squares))
    return product, squares[0][..., 0], squares[1][..., 0]


def outer_sum_and_squares_backward(
    grad_product: Tensor, grad_a_squares: Tensor, grad_b_squares: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    # each map is written as it is read
    grad_a, grad_b = empty_positions(a, a.shape[3]), empty_positions(b, b.shape[3])
    walk = Walk(a.mT, b.mT, grad_a.mT, grad_b.mT, batch_axes=2)

    # a gets M b + 2 da_squares a, and b the same with M^T
    sides = [
        (grad_product, 2 * grad_a_squares[..., None]),
        (grad_product.mT, 2 * grad_b_squares[..., None]),
    ]
    for chunk in walk:
        maps = [walk.read(i, chunk) for i in range(2)]
        for i, (matrix, factor) in enumerate(sides):
            out = walk.result(2 + i, chunk)
            torch.mul(maps[i], walk.groups(factor, chunk), out=out)
            walk.store(2 + i, chunk, out.baddbmm_(walk.groups(matrix, chunk), maps[1 - i]))
    return grad_a, grad_b


def _share(
    walk: Walk, i: int, chunk: int, matrix: Tensor, phi: str, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """phi of map `i` inside `chunk` divided, (G, E, N), one over what it is divided by, (G, 1, N),
    and M, (G, E, D).
    """
    q = walk.read(i, chunk)
    mapped = walk.workspace(-1, q)
    if phi == "exp":
        # softmax over the channels: the divisor is the sum of phi
        linear = matrix
        inverse = (
            torch.sub(q, q.amax(1, keepdim=True), out=mapped)
            .exp_()
            .sum(1, keepdim=True)
            .reciprocal_()
        )
    else:
        # the divisor is the last column of M applied to phi, plus eps
        linear, weights = matrix[..., :-1], matrix[..., -1:]
        inverse = torch.bmm(weights.mT, torch.clamp(q, min=0, out=mapped)).add_(eps).reciprocal_()
    return mapped.mul_(inverse), inverse, linear
