"""The primitives as Triton kernels, computed in `kernels/`.

`primitives.py` and `families.py` say what is launched. `products.py` launches the two shapes of
work, `algebra.py` the C x C algebra between them. `launching.py` launches a kernel, and
`operands.py` is what it takes. `tiles.py` says how much of a feature map a program holds.
"""

from ...block.norms import keys, pivot
from .families import (
    outer_sum_and_squares,
    outer_sum_and_squares_backward,
    phi_apply,
    phi_apply_backward,
    phi_outer_sum,
    phi_outer_sum_backward,
)
from .primitives import (
    apply_matrix,
    apply_matrix_backward,
    apply_to_features,
    attend_to_moments,
    attend_to_moments_backward,
    features_backward,
    moments,
    outer_sum,
    statistics,
)

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
