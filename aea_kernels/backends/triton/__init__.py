"""The primitives as Triton kernels, computed in `kernels/`.

`primitives.py` and `families.py` say what is launched. `products.py` launches the two shapes of
work, `algebra.py` the C x C algebra between them, and `launching.py` hands tensors over.
"""

from .primitives import (
    apply_matrix,
    apply_matrix_backward,
    apply_to_features,
    attend_to_moments,
    attend_to_moments_backward,
    attend_to_normed,
    attend_to_normed_backward,
    features_backward,
    moments,
    normed_features_backward,
    normed_keys,
    normed_moments,
    outer_sum,
    pivot,
    statistics,
)

__all__ = [
    "apply_matrix",
    "apply_matrix_backward",
    "apply_to_features",
    "attend_to_moments",
    "attend_to_moments_backward",
    "attend_to_normed",
    "attend_to_normed_backward",
    "features_backward",
    "moments",
    "normed_features_backward",
    "normed_keys",
    "normed_moments",
    "outer_sum",
    "pivot",
    "statistics",
]
