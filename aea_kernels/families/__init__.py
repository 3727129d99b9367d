"""Global attention with other scores whose keys enter by sums over positions too: three families,
one file each.

Each is two passes over queries, keys and values, with a summary of the keys between them that adds
over tiles, images and processes. `ops.py` has the primitives, `autograd.py` their derivatives.

On Triton kernels a head of up to 128 channels is read once and its gradient written once in each
backward pass. A wider head costs more. Forward, it is read once for every 128 channels of the other
side, and queries of a softmax twice. Backward, plain operations stand around the kernels of the
first family: they read and write maps of the head's size 20 to 30 times, half of them in float32,
in place of 3 or 4 times, and hold up to five such maps at a time.
"""

from .channel import (
    ChannelSummary,
    attend_channels,
    channel_attention,
    channel_map,
    summarize_channels,
)
from .efficient import SoftmaxSummary, attend_softmax, efficient_attention, summarize_softmax
from .relu import ReluSummary, attend_relu, relu_linear_attention, summarize_relu

__all__ = [
    "ChannelSummary",
    "ReluSummary",
    "SoftmaxSummary",
    "attend_channels",
    "attend_relu",
    "attend_softmax",
    "channel_attention",
    "channel_map",
    "efficient_attention",
    "relu_linear_attention",
    "summarize_channels",
    "summarize_relu",
    "summarize_softmax",
]
