"""Non-local blocks as other libraries have them, written a second time from the paper: class names,
names of the parts and arguments are theirs. Scores are materialised.
"""

from torch import Tensor, nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.MaxPool1d(2), 2: nn.MaxPool2d((2, 2)), 3: nn.MaxPool3d((1, 2, 2))}


def attended(query: Tensor, key: Tensor, value: Tensor, mode: str) -> Tensor:
    """(N, E, *spatial) each -> (N, E, positions of the query): Eq. 1 of the paper with the map in
    memory.
    """
    scores = query.flatten(2).mT @ key.flatten(2)  # (N, positions, keys)
    if mode == "dot_product":
        scores = scores / scores.shape[-1]
    elif mode == "softmax":
        scores = (scores * query.shape[1] ** -0.5).softmax(-1)
    else:  # softmax over the other axis
        scores = scores.softmax(1)
    return (scores @ value.flatten(2).mT).mT


class _NonLocalBlockND(nn.Module):
    """AlexHex7/Non-local_pytorch. There each mode is a file of its own with the same class names
    and parts.
    """

    mode = "dot_product"

    def __init__(
        self,
        in_channels,
        inter_channels=None,
        dimension=2,
        sub_sample=True,
        bn_layer=True,
        bias=True,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.inter_channels = inter_channels or max(1, in_channels // 2)
        conv = CONV[dimension]
        self.g, self.theta, self.phi = (
            conv(in_channels, self.inter_channels, 1, bias=bias) for _ in range(3)
        )
        self.W = conv(self.inter_channels, in_channels, 1, bias=bias)
        if bn_layer:
            self.W = nn.Sequential(self.W, BATCH_NORM[dimension](in_channels))
        if sub_sample:
            self.g = nn.Sequential(self.g, POOL[dimension])
            self.phi = nn.Sequential(self.phi, POOL[dimension])

    def forward(self, x, return_nl_map=False):
        y = attended(self.theta(x), self.phi(x), self.g(x), self.mode).unflatten(2, x.shape[2:])
        z = x + self.W(y)
        return (z, self.theta(x).flatten(2).mT @ self.phi(x).flatten(2)) if return_nl_map else z


class NONLocalBlock1D(_NonLocalBlockND):
    def __init__(self, in_channels, **options):
        super().__init__(in_channels, dimension=1, **options)


class NONLocalBlock2D(_NonLocalBlockND):
    def __init__(self, in_channels, **options):
        super().__init__(in_channels, dimension=2, **options)


class NONLocalBlock3D(_NonLocalBlockND):
    def __init__(self, in_channels, **options):
        super().__init__(in_channels, dimension=3, **options)


class Nonlocal(nn.Module):
    """SlowFast."""

    def __init__(
        self, dim, dim_inner, pool_size=None, instantiation="softmax", norm_type="batchnorm"
    ):
        super().__init__()
        self.instantiation, self.norm_type = instantiation, norm_type
        self.conv_theta, self.conv_phi, self.conv_g = (
            nn.Conv3d(dim, dim_inner, 1) for _ in range(3)
        )
        self.conv_out = nn.Conv3d(dim_inner, dim, 1)
        self.use_pool = pool_size is not None and max(pool_size) > 1
        if norm_type == "batchnorm":
            self.norm = nn.BatchNorm3d(dim)
        elif norm_type == "layernorm":
            self.norm = nn.GroupNorm(1, dim, affine=False)
        if self.use_pool:
            self.pool = nn.MaxPool3d(pool_size, stride=pool_size, padding=[0, 0, 0])

    def forward(self, x):
        keys = self.pool(x) if self.use_pool else x
        y = attended(self.conv_theta(x), self.conv_phi(keys), self.conv_g(keys), self.instantiation)
        y = self.conv_out(y.unflatten(2, x.shape[2:]))
        return x + (y if self.norm_type == "none" else self.norm(y))


class NonLocal(nn.Module):
    """pytorchvideo."""

    def __init__(
        self,
        *,
        conv_theta,
        conv_phi,
        conv_g,
        conv_out,
        pool=None,
        norm=None,
        instantiation="dot_product",
    ):
        super().__init__()
        self.conv_theta, self.conv_phi, self.conv_g, self.conv_out = (
            conv_theta,
            conv_phi,
            conv_g,
            conv_out,
        )
        self.pool, self.norm, self.instantiation = pool, norm, instantiation

    def forward(self, x):
        keys = x if self.pool is None else self.pool(x)
        y = attended(self.conv_theta(x), self.conv_phi(keys), self.conv_g(keys), self.instantiation)
        y = self.conv_out(y.unflatten(2, x.shape[2:]))
        return x + (y if self.norm is None else self.norm(y))


def pytorchvideo_block(
    dim: int, inner: int, pool: nn.Module | None, norm: nn.Module | None, bias: bool
) -> NonLocal:
    convs = {f"conv_{name}": nn.Conv3d(dim, inner, 1, bias=bias) for name in ("theta", "phi", "g")}
    return NonLocal(**convs, conv_out=nn.Conv3d(inner, dim, 1, bias=bias), pool=pool, norm=norm)


class Softmax2D(NONLocalBlock2D):
    """The same class name base and the same parts, with a softmax over the keys."""

    mode = "softmax"


class OtherAxis2D(NONLocalBlock2D):
    mode = "softmax over queries"
