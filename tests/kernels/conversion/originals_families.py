"""Blocks of the other families as other libraries have them, and variants that compute something
else.
"""

from torch import nn

from benches.known_networks.blocks import XCA
from benches.known_networks.diffusion import LinearAttention
from benches.known_networks.efficientvit import LiteMLA
from benches.known_networks.restormer import Attention

__all__ = ["XCA", "Attention", "LinearAttention", "LiteMLA"]


class OtherAxis(LinearAttention):
    """Softmax of q over positions, too."""

    query_axis = 3


class EarlierLinearAttention(LinearAttention):
    """Earlier versions: no memory, no norm before the projections, values divided by the number of
    positions or not.
    """

    def __init__(self, dim, heads=2, dim_head=4, divided=True):
        nn.Module.__init__(self)
        self.scale, self.heads, self.divided = dim_head**-0.5, heads, divided
        self.to_qkv = nn.Conv2d(dim, 3 * heads * dim_head, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x):
        maps = self.to_qkv(x).flatten(2)
        query, key, value = (t.unflatten(1, (self.heads, -1)) for t in maps.chunk(3, 1))
        value = value / maps.shape[2] if self.divided else value
        attended = (key.softmax(-1) @ value.mT).mT @ (query.softmax(-2) * self.scale)
        return self.to_out(attended.flatten(1, 2).unflatten(2, x.shape[2:]))


class OtherMapAxis(Attention):
    """Softmax of the map over the queries."""

    map_axis = -2
