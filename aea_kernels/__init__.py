"""Linear-normalised attention for images, augmented with shared references and the whole batch, without the map."""

from .backends import use_backend
from .conversion import (
    Conversion,
    ConversionReport,
    LinearAttentionProcessor,
    ReluAttentionProcessor,
    convert,
    from_nonlocal,
)
from .explain import Plan, explain
from .functional import (
    attend,
    batch_attention,
    learned_query_attention,
    linear_attention,
    moments,
    reference_attention,
    summarize,
)
from .modules import NORM_EPS, NORM_MOMENTUM, AugmentedAttention, update_running_statistics
from .summary import KeySummary, Moments, sum_over_processes

__all__ = [
    "NORM_EPS",
    "NORM_MOMENTUM",
    "AugmentedAttention",
    "Conversion",
    "ConversionReport",
    "KeySummary",
    "LinearAttentionProcessor",
    "Moments",
    "Plan",
    "ReluAttentionProcessor",
    "attend",
    "batch_attention",
    "convert",
    "explain",
    "from_nonlocal",
    "learned_query_attention",
    "linear_attention",
    "moments",
    "reference_attention",
    "sum_over_processes",
    "summarize",
    "update_running_statistics",
    "use_backend",
]
