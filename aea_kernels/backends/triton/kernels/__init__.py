"""The kernels, one idea a file: sums of outer products, matrices applied, their derivatives,
statistics, algebra.
"""

from .apply import apply_kernel
from .backward import features_backward_kernel, matrix_backward_kernel, outer_backward_kernel
from .folding import fold_backward_kernel, fold_kernel, scores_kernel
from .outer import outer_kernel
from .reduce import reduce_splits_kernel
from .statistics import join_statistics_kernel, statistics_kernel

__all__ = [
    "apply_kernel",
    "features_backward_kernel",
    "fold_backward_kernel",
    "fold_kernel",
    "join_statistics_kernel",
    "matrix_backward_kernel",
    "outer_backward_kernel",
    "outer_kernel",
    "reduce_splits_kernel",
    "scores_kernel",
    "statistics_kernel",
]
