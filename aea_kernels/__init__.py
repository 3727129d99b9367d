"""Linear-normalised attention for images, augmented with shared references and the whole batch, without the map."""

from .backends import use_backend
from .explain import explain
from .functional import (
    attend,
    batch_attention,
    learned_query_attention,
    linear_attention,
    moments,
    reference_attention,
    summarize,
)
from .modules import AugmentedAttention
from .summary import KeySummary, Moments

__all__ = [
    "AugmentedAttention",
    "KeySummary",
    "Moments",
    "attend",
    "batch_attention",
    "explain",
    "learned_query_attention",
    "linear_attention",
    "moments",
    "reference_attention",
    "summarize",
    "use_backend",
]
