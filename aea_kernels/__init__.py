"""Linear-normalised attention for images, augmented with shared references and the whole batch,
without the map.
"""

import warnings
from importlib import import_module
from types import ModuleType

from . import reference
from .backends import chosen_backend, use_backend
from .conversion import (
    Conversion,
    ConversionReport,
    LinearAttentionProcessor,
    ReluAttentionProcessor,
    convert,
    from_nonlocal,
)
from .core.precision import set_ieee_products
from .explain import Plan, explain
from .families import (
    ChannelSummary,
    ReluSummary,
    SoftmaxSummary,
    attend_channels,
    attend_relu,
    attend_softmax,
    channel_attention,
    efficient_attention,
    relu_linear_attention,
    summarize_channels,
    summarize_relu,
    summarize_softmax,
)
from .functional import (
    attend,
    batch_attention,
    learned_query_attention,
    linear_attention,
    moments,
    reference_attention,
    summarize,
)
from .graphs import graphed
from .nn import NORM_EPS, NORM_MOMENTUM, AugmentedAttention, update_running_statistics
from .summary import KeySummary, Moments, sum_over_processes

__all__ = [
    "NORM_EPS",
    "NORM_MOMENTUM",
    "AugmentedAttention",
    "ChannelSummary",
    "Conversion",
    "ConversionReport",
    "KeySummary",
    "LinearAttentionProcessor",
    "Moments",
    "Plan",
    "ReluAttentionProcessor",
    "ReluSummary",
    "SoftmaxSummary",
    "attend",
    "attend_channels",
    "attend_relu",
    "attend_softmax",
    "batch_attention",
    "channel_attention",
    "chosen_backend",
    "convert",
    "efficient_attention",
    "explain",
    "from_nonlocal",
    "graphed",
    "learned_query_attention",
    "linear_attention",
    "moments",
    "reference",
    "reference_attention",
    "relu_linear_attention",
    "set_ieee_products",
    "sum_over_processes",
    "summarize",
    "summarize_channels",
    "summarize_relu",
    "summarize_softmax",
    "update_running_statistics",
    "use_backend",
]

_RENAMED = {"decompositions": "export", "modules": "nn", "naive": "reference"}


def __getattr__(name: str) -> ModuleType:
    """Modules by the names that they had before."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    now = _RENAMED[name]
    warnings.warn(
        f"aea_kernels.{name} is now aea_kernels.{now}; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=2,
    )
    return import_module(f".{now}", __name__)
