"""The primitives in PyTorch operations: any device, any dtype, no Triton.

Two shapes of work, each the other's adjoint: an outer product summed over positions, and a matrix
applied at every position. Both walk over boxes of positions small enough to stay in the cache
(`walking.py`), so a feature map is read once a pass and nothing of its size is written but the
result. Sums run in a fixed order: same inputs, same bits.

What each primitive computes, its shapes and its notation stand in `ops.py`; for those of
`families.py` in `families/ops.py`.
"""

from . import families
from .block import (
    apply_to_features,
    attend_to_moments,
    attend_to_moments_backward,
    features_backward,
    moments,
    statistics,
)
from .normed import (
    attend_to_normed,
    attend_to_normed_backward,
    normed_features_backward,
    normed_keys,
    normed_moments,
    pivot,
)
from .operators import apply_matrix, apply_matrix_backward, outer_sum

__all__ = [
    "apply_matrix",
    "apply_matrix_backward",
    "apply_to_features",
    "attend_to_moments",
    "attend_to_moments_backward",
    "attend_to_normed",
    "attend_to_normed_backward",
    "families",
    "features_backward",
    "moments",
    "normed_features_backward",
    "normed_keys",
    "normed_moments",
    "outer_sum",
    "pivot",
    "statistics",
]
