"""No false alarms: networks that are equivariant by their construction, built at random, are found
to be so.
"""

import os

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from orientations import Lift, OverOrientations, Regular, ToVector
from torch import nn

import aea_kernels as aea
from aea_kernels.testing import (
    UnmeasurableError,
    assert_equivariant,
    averaged_kernels,
    d4,
    equivariance_report,
    permutations,
    rotations,
    translations,
)
from aea_kernels.testing.strategies import normal

NETWORKS = 1000 if os.environ.get("AEANET_THOROUGH") else 60
GROUPS = {
    "permutations": permutations,
    "d4": d4,
    "translations": translations(4, circular=True),
    "rotations": rotations,
}


class Residual(nn.Module):
    def __init__(self, inner, weight):
        super().__init__()
        self.inner, self.weight = inner, weight

    def forward(self, x):
        return x + self.weight * self.inner(x)


class ChannelAttention(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels):
        super().__init__()
        self.pool, self.excite = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, channels)

    def forward(self, x):
        return x * self.excite(self.pool(x).flatten(1)).sigmoid()[..., None, None]


class ChannelsLast(nn.Module):
    """As in ConvNeXt: LayerNorm and an MLP over the last axis."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.up, self.act = (
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.GELU(),
        )
        self.down = nn.Linear(2 * channels, channels)

    def forward(self, x):
        return self.down(self.act(self.up(self.norm(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)


class SoftmaxAttention(nn.Module):
    """torch's own attention over the positions as tokens."""

    def __init__(self, channels):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x):
        z = x.flatten(2).transpose(1, 2)
        return self.attention(z, z, z, need_weights=False)[0].transpose(1, 2).reshape(x.shape)


CHANNELS = 4
POINTWISE = {
    "1x1": lambda: nn.Conv2d(CHANNELS, CHANNELS, 1),
    "batch norm": lambda: nn.BatchNorm2d(CHANNELS),
    "group norm": lambda: nn.GroupNorm(2, CHANNELS),
    "instance norm": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softmax": lambda: nn.Softmax(1),
    "channel attention": lambda: ChannelAttention(CHANNELS),
    "channels last": lambda: ChannelsLast(CHANNELS),
    "softmax attention": lambda: SoftmaxAttention(CHANNELS),
    "linear attention": lambda: aea.AugmentedAttention(CHANNELS, references=3),
}
LOCAL = {
    "3x3": lambda mode: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode=mode),
    "depthwise": lambda mode: nn.Conv2d(
        CHANNELS, CHANNELS, 5, padding=2, groups=CHANNELS, padding_mode=mode
    ),
    "max pooling": lambda mode: nn.MaxPool2d(2),
    "average pooling": lambda mode: nn.AvgPool2d(2),
    "nearest": lambda mode: nn.Upsample(scale_factor=2),
}


def oriented(draw):
    """Layers whose channels permute with rotations, and end in an image, a vector or as they
    are.
    """
    fields = draw(st.integers(1, 3))
    layers = [Lift(CHANNELS, fields)]
    for name in draw(st.lists(st.sampled_from(["relu", "gelu", "tanh", "regular"]), max_size=4)):
        if name == "regular":
            after = draw(st.integers(1, 3))
            layers.append(Regular(fields, after))
            fields = after
        else:
            layers.append(POINTWISE[name]())
    end = draw(st.sampled_from(["image", "vector", "as they are"]))
    layers += {"image": [OverOrientations()], "vector": [ToVector(fields)]}.get(end, [])
    return layers


@st.composite
def networks(draw, group):
    """A network, equivariant to the group, and an input for it. Pooling and upsampling keep a
    stride that divides 4.
    """
    stride, layers = 1, []
    names = [*POINTWISE, *([] if group == "permutations" else LOCAL)]
    if group == "rotations":
        layers = oriented(draw)
        names = ["tanh"]
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=6)):
        if name in POINTWISE:
            layer = POINTWISE[name]()
            weight = draw(st.sampled_from([None, 1.0, 1e-3]))
            inplace = name == "relu"
            layers.append(layer if weight is None or inplace else Residual(layer, weight))
        elif "pooling" in name or name == "nearest":
            after = stride / 2 if name == "nearest" else stride * 2
            if 1 <= after <= 4:
                stride = after
                layers.append(LOCAL[name]("zeros"))
        else:
            layers.append(LOCAL[name]("circular" if group == "translations" else "zeros"))

    # values of different sizes, so that rounding shows
    network = nn.Sequential(*layers)
    seed = draw(st.integers(0, 2**16))
    size = draw(st.sampled_from([0.1, 1.0, 3.0]))
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.copy_(
                size * normal(*parameter.shape, seed=seed + i) / max(parameter[0].numel(), 1) ** 0.5
            )
    if group == "d4":
        network = averaged_kernels(network, d4)

    images, training = draw(st.integers(1, 3)), draw(st.booleans())
    sides = draw(st.sampled_from([(8, 8), (8, 12), (16, 8)]))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.float64]))
    x = normal(images, CHANNELS, *sides, dtype=dtype, seed=seed + 100)
    return network.to(dtype).train(training), x


@settings(max_examples=NETWORKS, suppress_health_check=list(HealthCheck))
@given(data=st.data(), group=st.sampled_from(sorted(GROUPS)))
def test_a_network_that_is_equivariant_raises_no_alarm(data, group):
    network, x = data.draw(networks(group))
    try:
        assert_equivariant(network, x, GROUPS[group])
    except UnmeasurableError as error:
        # an activation that is zero everywhere: such a network shows nothing
        assume("the same everywhere" not in str(error))
        raise
    report = equivariance_report(network, x, GROUPS[group])
    assert not report.culprits(GROUPS[group]), str(report)
    assert report.layer(GROUPS[group], "").accumulated.verdict.holds
