"""The kernels, one idea a file: sums of outer products, matrices applied, their derivatives,
statistics, and the C x C algebra.
"""

from .apply import apply_kernel
from .features_backward import features_backward_kernel
from .fold import fold_kernel
from .fold_backward import fold_backward_kernel, scores_kernel
from .matrix_backward import matrix_backward_kernel
from .outer import outer_kernel
from .phi_apply import phi_apply_kernel, phi_matrix_backward_kernel
from .phi_outer import phi_outer_backward_kernel, phi_outer_kernel
from .reduce import reduce_splits_kernel
from .statistics import join_statistics_kernel, statistics_kernel

__all__ = [
    "apply_kernel",
    "features_backward_kernel",
    "fold_backward_kernel",
    "fold_kernel",
    "join_statistics_kernel",
    "matrix_backward_kernel",
    "outer_kernel",
    "phi_apply_kernel",
    "phi_matrix_backward_kernel",
    "phi_outer_backward_kernel",
    "phi_outer_kernel",
    "reduce_splits_kernel",
    "scores_kernel",
    "statistics_kernel",
]
