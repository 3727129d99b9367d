"""The primitives in PyTorch operations: any device, any dtype, no Triton.

Two shapes of work, each the other's adjoint: an outer product summed over positions, and a matrix
applied at every position. Both walk over chunks of positions small enough to stay in the cache
(`walking.py`), so a feature map is read once a pass and nothing of its size is written but the
result. Sums run in a fixed order: same inputs, same bits.

What each primitive computes, its shapes and its notation stand in `core/ops.py`; for those of
`families.py` in `families/ops.py`.
"""

from ...block.norms import keys, pivot
from .block import (
    apply_to_features,
    attend_to_moments,
    attend_to_moments_backward,
    features_backward,
    moments,
    statistics,
)
from .families import (
    outer_sum_and_squares,
    outer_sum_and_squares_backward,
    phi_apply,
    phi_apply_backward,
    phi_outer_sum,
    phi_outer_sum_backward,
)
from .operators import apply_matrix, apply_matrix_backward, outer_sum

__all__ = [
    "apply_matrix",
    "apply_matrix_backward",
    "apply_to_features",
    "attend_to_moments",
    "attend_to_moments_backward",
    "features_backward",
    "keys",
    "moments",
    "outer_sum",
    "outer_sum_and_squares",
    "outer_sum_and_squares_backward",
    "phi_apply",
    "phi_apply_backward",
    "phi_outer_sum",
    "phi_outer_sum_backward",
    "pivot",
    "statistics",
]
