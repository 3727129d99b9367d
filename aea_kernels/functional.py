"""The public operators: what they accept, who computes, and the call.

Layout of `torch.nn.functional.scaled_dot_product_attention`: query (B, H, N, E), key (B, H, L, E),
value (B, H, L, D). Strides are free, nothing is copied whole. Sums are kept in float32 (float64 for
float64), results in the input's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import reference
from .backends import backend_name, resolved
from .block.function import AttentionBlock, BlockSpec, project_first
from .block.normed import NormedBlock
from .block.route import route
from .block.spec import ChannelNorm, Norm, Projections
from .core.autograd import ApplyMatrix, MomentsOf, OuterSum
from .core.checks import (
    check,
    check_features,
    check_key_value,
    check_not_traced,
    check_positions,
    check_query_key_value,
    check_summary,
    check_summary_tensor,
    is_tensor,
)
from .core.dtypes import acc_dtype, without_autocast
from .core.transforms import transformed
from .summary import KeySummary, Moments, count_like

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def linear_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0) -> Tensor:
    """Self-attention ``A_s``: ``scale * Q (K^T V) / L`` (Eqs. 1 and 2) without the (N x L) map.

    Args:
        query: (B, H, N, E).
        key: (B, H, L, E); value: (B, H, L, D).
        scale: multiplies the scores; the paper's network uses E ** -0.5.

    Returns:
        (B, H, N, D) in the inputs' dtype; zeros where there are no keys.

    Raises:
        ValueError: shapes or devices that do not fit together.
        TypeError: not a tensor, a dtype other than float16, bfloat16, float32, float64, or mixed
            dtypes.
    """
    check_query_key_value(query, key, value)
    if backend_name() == "naive":
        with without_autocast(query.device):
            return reference.linear_attention(query, key, value, scale=scale)
    return attend(query, summarize(key, value), scale=scale)


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    *,
    scale: float = 1.0,
) -> Tensor:
    """Attention augmented with shared references, ``A_R`` (Eq. 4), without concatenation.

    Args:
        query, key, value, scale: as in `linear_attention`.
        reference_key: (H, R, E); reference_value: (H, R, D); keys and values that every image of
            the batch sees.

    Returns:
        (B, H, N, D): ``scale * Q (K^T V + K_R^T V_R) / (L + R)``.

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_query_key_value(query, key, value)
    heads, references = key.shape[1], reference_key.shape[-2] if is_tensor(reference_key, 3) else 0
    check(
        "reference_key", reference_key, (heads, references, key.shape[3]), "(H, R, E)", like=query
    )
    check(
        "reference_value",
        reference_value,
        (heads, references, value.shape[3]),
        "(H, R, D)",
        like=query,
    )
    if backend_name() == "naive":
        with without_autocast(query.device):
            return reference.reference_attention(
                query, key, value, reference_key, reference_value, scale=scale
            )
    shared = summarize(reference_key[None], reference_value[None])
    return attend(query, summarize(key, value) + shared, scale=scale)


def batch_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float = 1.0,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Batch-aware attention ``A_batch`` (Eq. 5): every query sees the keys of the whole batch.

    Args:
        query, key, value, scale: as in `linear_attention`.
        group: also the batches of every process of this group; D x E numbers a head travel.

    Returns:
        (B, H, N, D).

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_query_key_value(query, key, value)
    if backend_name() == "naive":
        if group is not None:
            raise ValueError(
                "group is a process group, but backend 'naive' computes in one process: leave group out"
            )
        with without_autocast(query.device):
            return reference.batch_attention(query, key, value, scale=scale)
    summary = summarize(key, value).sum_over_batch()
    return attend(query, summary if group is None else summary.all_reduce(group), scale=scale)


def learned_query_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0
) -> Tensor:
    """Attention with a learned query, ``A_Q`` (Eq. 3): invariant, not equivariant, to permutations
    of the positions.

    Args:
        query: (H, M, E), shared by the batch.
        key: (B, H, L, E); value: (B, H, L, D).
        scale: multiplies the scores.

    Returns:
        (B, H, M, D): ``scale * Q (K^T V) / L``.

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_key_value(key, value)
    rows = query.shape[-2] if is_tensor(query, 3) else 0
    check("query", query, (key.shape[1], rows, key.shape[3]), "(H, M, E)", like=key)
    if backend_name() == "naive":
        with without_autocast(key.device):
            return reference.learned_query_attention(query, key, value, scale=scale)
    return attend(query.expand(key.shape[0], *query.shape), summarize(key, value), scale=scale)


def summarize(key: Tensor, value: Tensor) -> KeySummary:
    """All that attention needs of its keys: the sum over positions of v k^T, and their number.
    Summaries add.

    Args:
        key: (B, H, L, E); value: (B, H, L, D).

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_key_value(key, value)
    if backend_name() == "naive":
        with without_autocast(key.device):
            wide = acc_dtype(key.dtype)
            state = value.to(wide).mT @ key.to(wide)
    else:
        state = OuterSum.apply(value, key, backend_name())
    return KeySummary(state, count_like(state, key.shape[2]))


def attend(query: Tensor, summary: KeySummary, *, scale: float = 1.0) -> Tensor:
    """``scale / count * Q state^T``: queries (B, H, N, E) against summarised keys -> (B, H, N, D).

    A summary of batch 1 (`KeySummary.sum_over_batch`) serves every image.

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_not_traced()
    check_positions("query", query, "(B, H, N, E)")
    check_summary(summary, KeySummary)
    state = summary.state
    batch, heads, _, width = query.shape
    if (
        state.dim() != 4
        or state.shape[0] not in (1, batch)
        or state.shape[1] != heads
        or state.shape[3] != width
    ):
        raise ValueError(
            f"summary.state has shape {tuple(state.shape)}, expected (B, H, D, E) with B = 1 or {batch}, H = {heads}, "
            f"E = {width} as in query"
        )
    check_summary_tensor(state, "state", query, "query")
    weight = scale / summary.count.clamp(min=1)
    return apply_matrix(query, (state * weight[:, None, None, None]).expand(batch, -1, -1, -1))


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    """M a at every position: a (B, H, N, A), M (B, H, O, A) in the accumulation dtype -> (B, H, N,
    O) in a's dtype.
    """
    if backend_name() == "naive":
        with without_autocast(a.device):
            return (a.to(matrix.dtype) @ matrix.mT).to(a.dtype)
    return ApplyMatrix.apply(a, matrix, backend_name())


def moments(x: Tensor) -> Moments:
    """Sum over positions of xh xh^T, xh = (x, 1): Gram matrix, sums and count of a feature map (B,
    C, *spatial).

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_features(x)
    if backend_name() == "naive":
        with without_autocast(x.device):
            flat = x.flatten(2).to(acc_dtype(x.dtype))
            flat = torch.cat([flat, torch.ones_like(flat[:, :1])], 1)
            return Moments(flat @ flat.mT)
    return Moments(MomentsOf.apply(x, backend_name()))


def attention_block(
    x: Tensor,
    norm: Norm | ChannelNorm | None,
    projections: Projections,
    references: Tensor | None,
    *,
    heads: int,
    scale: float,
    reference_images: int | None = None,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The whole block of Fig. 3, ``x + output(attention(q(z), k(z), v(z)))``, z = ReLU6(BN(x)), as
    ``x + M zh``.

    Args:
        x: feature map (B, C, *spatial), 1, 2 or 3 spatial axes, any strides.
        norm: BN and ReLU6 before the projections; or GroupNorm, LayerNorm or RMSNorm without an
            activation; or None.
        projections: weights (out, in) and biases (out,).
        references: (R, C) or None, projected by key and value as they are.
        reference_images: how many images, from the first, take ``A_R``; the others take ``A_batch``
            among themselves. None: all of them, as in prediction.
        group: processes over which the batch-aware keys and BN's statistics are pooled.

    Returns:
        y like x; mean and biased variance (C,) of x over batch and space where BN takes them from
        x, else None.

    Raises:
        ValueError, TypeError: x is not such a feature map.
    """
    check_features(x)
    reference_images = x.shape[0] if reference_images is None else reference_images
    if isinstance(norm, ChannelNorm):
        y = _normed_block(x, norm, projections, references, heads, scale, reference_images, group)
        return y, None, None
    batch_statistics = norm is not None and norm.mean is None
    if backend_name() == "naive":
        y = reference.attention_block(
            x,
            norm,
            projections,
            references,
            heads=heads,
            scale=scale,
            reference_images=reference_images,
        )
        if not batch_statistics:
            return y, None, None
        variance, mean = torch.var_mean(
            x.detach().transpose(0, 1).flatten(1).double(), 1, correction=0
        )
        return y, mean, variance
    *tensors, eps = (None, None, None, None, 0.0) if norm is None else norm
    spec = BlockSpec(heads, scale, reference_images, eps, batch_statistics, group, backend_name())
    keys, values = projections.key_weight.shape[0], projections.value_weight.shape[0]
    # the block's own Function has first derivatives only; the other route is made of operators that
    # have all of them
    if transformed() or route(x.shape[1], keys, values, heads, x.dtype, x.device) == "project":
        with without_autocast(x.device):
            return project_first(x, norm, projections, references, spec)
    return AttentionBlock.apply(x, *tensors, references, spec, *projections)


def _normed_block(
    x: Tensor,
    norm: ChannelNorm,
    projections: Projections,
    references: Tensor | None,
    heads: int,
    scale: float,
    reference_images: int,
    group: ProcessGroup | None,
) -> Tensor:
    """`attention_block` with a norm of `norms.py`."""
    kind, weight, bias, eps, groups = norm
    if backend_name() == "naive":
        options: dict[str, Any] = {
            "heads": heads,
            "scale": scale,
            "reference_images": reference_images,
        }
        return reference.attention_block(x, oracle_norm(norm), projections, references, **options)
    spec = BlockSpec(heads, scale, reference_images, eps, False, group, backend_name())
    keys, values = projections.key_weight.shape[0], projections.value_weight.shape[0]
    whole = kind != "group" and resolved(spec.backend, x.device) == "triton"
    if (
        transformed()
        or route(x.shape[1], keys, values, heads, x.dtype, x.device, whole) == "project"
    ):
        with without_autocast(x.device):
            return project_first(x, norm, projections, references, spec)[0]
    y: Tensor = NormedBlock.apply(x, weight, bias, references, kind, groups, spec, *projections)[0]
    return y


def oracle_norm(norm: ChannelNorm) -> Callable[[Tensor], Tensor]:
    """The norm of x (B, C, *spatial) word for word."""
    kind, weight, bias, eps, groups = norm

    def z_of(x: Tensor) -> Tensor:
        scale = x.new_ones(x.shape[1]) if weight is None else weight
        shift = x.new_zeros(x.shape[1]) if bias is None else bias
        if kind == "group":
            return reference.group_norm(x, scale, shift, eps, groups)
        return (reference.layer_norm if kind == "layer" else reference.rms_norm)(
            x, scale, shift, eps
        )

    return z_of
