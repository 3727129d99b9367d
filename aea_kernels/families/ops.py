"""The primitives of the families as torch operators, as those of `core/ops.py`.

Notation: phi is applied to queries and keys number by number, ``max(x, 0)`` for "relu" and ``exp(x
- maximum)`` for "exp", with a maximum that is a constant where derivatives are concerned: what is
made of the results does not depend on it. Sums and matrices are in the accumulation dtype.
"""

from __future__ import annotations

from torch import Tensor

from ..core.dtypes import acc_dtype, empty_positions
from ..core.ops import operator


def _empty(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=acc_dtype(x.dtype))


@operator
def phi_outer_sum(key: Tensor, value: Tensor, phi: str, backend: str) -> tuple[Tensor, Tensor]:
    """Sum over positions of phi(k) (v, 1)^T, (B, H, E, D+1): one read of each.

    Args:
        key: (B, H, L, E); value: (B, H, L, D).
        phi: "relu" or "exp".

    Returns:
        The sums, and for "exp" the maximum of k over the positions that they are relative to, (B,
        H, E); it is -inf without positions. For "relu" the maximum is empty, (B, H, 0).
    """
    batch, heads, _, width = key.shape
    maximum = _empty(key, batch, heads, width if phi == "exp" else 0)
    return _empty(key, batch, heads, width, value.shape[3] + 1), maximum


@operator
def phi_outer_sum_backward(
    grad_sums: Tensor, key: Tensor, value: Tensor, maximum: Tensor, phi: str, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of `phi_outer_sum` like key and value: one read and one write of each."""
    return empty_positions(key, key.shape[3]), empty_positions(value, value.shape[3])


@operator
def phi_apply(query: Tensor, matrix: Tensor, phi: str, eps: float, backend: str) -> Tensor:
    """``phi(q) M / divisor`` at every position: one read, one write.

    Args:
        query: (B, H, N, E).
        matrix: (B, H, E, D) for "exp", where the divisor is the sum of phi(q), so M is applied to
            the softmax of q over its channels; (B, H, E, D+1) for "relu", where the divisor is the
            last column of ``phi(q) M``, plus eps.

    Returns:
        (B, H, N, D) in query's dtype.
    """
    return empty_positions(query, matrix.shape[3] - (phi == "relu"))


@operator
def phi_apply_backward(
    grad_output: Tensor, query: Tensor, matrix: Tensor, phi: str, eps: float, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of `phi_apply` like query and matrix: two reads, one write."""
    return empty_positions(query, query.shape[3]), _empty(query, *matrix.shape)


@operator
def outer_sum_and_squares(a: Tensor, b: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over positions of a b^T, a^2 and b^2, (B, H, A, E), (B, H, A), (B, H, E): one read of
    each.

    Args:
        a: (B, H, N, A); b: (B, H, N, E).
    """
    shape = a.shape[:2]
    return (
        _empty(a, *shape, a.shape[3], b.shape[3]),
        _empty(a, *shape, a.shape[3]),
        _empty(a, *shape, b.shape[3]),
    )


@operator
def outer_sum_and_squares_backward(
    grad_product: Tensor,
    grad_a_squares: Tensor,
    grad_b_squares: Tensor,
    a: Tensor,
    b: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of `outer_sum_and_squares` like a and b: one read and one write of each."""
    return empty_positions(a, a.shape[3]), empty_positions(b, b.shape[3])
