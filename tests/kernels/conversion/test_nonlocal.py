"""Non-local blocks in mode `dot_product`, converted, against their originals: results and all
gradients in float64.
"""

from collections.abc import Callable
from functools import partial

import originals_nonlocal as originals
import pytest
import torch
from equality import assert_exact, randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import aea_kernels as aea

SPATIAL = {1: (9,), 2: (5, 7), 3: (2, 5, 4)}


def mmcv_block(dimension: int, channels: int, **options: object) -> nn.Module:
    # the library that these blocks come from is in the extra foreign, which the tests of the others
    # do not need
    cnn = pytest.importorskip("mmcv.cnn", reason="the package mmcv (mmcv-lite) is not installed")
    module = cnn.bricks.non_local
    return getattr(module, f"NonLocal{dimension}d")(
        channels, zeros_init=False, mode="dot_product", **options
    )


def alexhex_block(dimension: int, channels: int, **options: object) -> nn.Module:
    return getattr(originals, f"NONLocalBlock{dimension}D")(channels, **options)


def batch_norm(dimension: int) -> dict[str, str]:
    return {"type": f"BN{dimension}d"}


CASES: dict[str, tuple[int, Callable[[], nn.Module]]] = {}
for d in (1, 2, 3):
    for pooled in (False, True):
        CASES[f"mmcv {d}d {pooled=}"] = d, partial(mmcv_block, d, 6, sub_sample=pooled)
        CASES[f"alexhex {d}d {pooled=}"] = (
            d,
            partial(alexhex_block, d, 6, sub_sample=pooled, bn_layer=False),
        )
        CASES[f"mmcv {d}d {pooled=} bn"] = (
            d,
            partial(mmcv_block, d, 6, sub_sample=pooled, norm_cfg=batch_norm(d)),
        )
        CASES[f"alexhex {d}d {pooled=} bn"] = d, partial(alexhex_block, d, 6, sub_sample=pooled)
CASES["mmcv reduction 1"] = 2, partial(mmcv_block, 2, 6, reduction=1)
CASES["mmcv GroupNorm"] = 2, partial(mmcv_block, 2, 6, norm_cfg={"type": "GN", "num_groups": 2})
CASES["alexhex no bias"] = 2, partial(alexhex_block, 2, 6, bias=False)
CASES["alexhex no bias, no bn"] = (
    2,
    partial(alexhex_block, 2, 6, bias=False, bn_layer=False, sub_sample=False),
)
for norm in ("batchnorm", "layernorm", "none"):
    for pool in (None, (1, 2, 2), (2, 2, 2)):
        block = partial(originals.Nonlocal, 6, 4, pool, "dot_product", norm)
        CASES[f"SlowFast {norm} {pool}"] = 3, block
for bias in (True, False):
    CASES[f"pytorchvideo {bias=}"] = (
        3,
        partial(originals.pytorchvideo_block, 6, 2, None, None, bias),
    )
pool_3d = nn.MaxPool3d((1, 2, 2))
CASES["pytorchvideo pool"] = (
    3,
    lambda: originals.pytorchvideo_block(6, 3, pool_3d, nn.BatchNorm3d(6), True),
)


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("name", CASES)
def test_converted_equals_original(name: str, training: bool) -> None:
    dimension, make = CASES[name]
    x = torch.randn(2, 6, *SPATIAL[dimension], dtype=torch.float64)
    assert_exact(randomised(make()), x, training=training)


@settings(max_examples=15)
@given(
    images=st.integers(1, 3),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    channels=st.integers(1, 9),
    pooled=st.booleans(),
    norm=st.booleans(),
    training=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_sizes(
    images: int,
    height: int,
    width: int,
    channels: int,
    pooled: bool,
    norm: bool,
    training: bool,
    channels_last: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    module = randomised(originals.NONLocalBlock2D(channels, sub_sample=pooled, bn_layer=norm))
    x = torch.randn(images, channels, height, width, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    if training and norm and images * height * width < 16:
        training = False  # over few values BN's variance leaves no digits
    assert_exact(module, x, training=training)


def test_parametrised_weights_are_read_as_they_are() -> None:
    """Spectral normalisation, in prediction: the convolutions themselves are not called."""
    original = randomised(originals.NONLocalBlock2D(4, sub_sample=False))
    nn.utils.parametrizations.spectral_norm(original.theta)
    assert_exact(original, torch.randn(2, 4, 3, 5, dtype=torch.float64), training=False)


@pytest.mark.parametrize("pooled", [True, False])
def test_under_autocast_the_result_is_that_of_autocast(pooled: bool) -> None:
    original = originals.NONLocalBlock2D(4, sub_sample=pooled).eval()
    nn.init.normal_(original.W[1].weight)
    x = torch.randn(2, 4, 6, 8)
    with torch.autocast(x.device.type, torch.bfloat16):
        expected = original(x)
        aea.convert(original)
        got = original(x)
    assert got.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)


def test_the_map_is_still_to_be_had() -> None:
    original = randomised(originals.NONLocalBlock2D(4, sub_sample=False))
    x = torch.randn(1, 4, 3, 5, dtype=torch.float64)
    expected = original(x, return_nl_map=True)
    aea.convert(original)
    got = original(x, return_nl_map=True)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


class Strided(originals.NONLocalBlock2D):
    def __init__(self) -> None:
        super().__init__(4)
        self.phi = nn.Sequential(nn.Conv2d(4, 2, 3, padding=1), nn.MaxPool2d(2))


class AveragedKeys(originals.NONLocalBlock2D):
    def __init__(self) -> None:
        super().__init__(4)
        self.g, self.phi = (nn.Sequential(part[0], nn.AvgPool2d(2)) for part in (self.g, self.phi))


class NoResidual(originals.NONLocalBlock2D):
    def forward(self, x, return_nl_map=False):
        return super().forward(x) - x


class Gaussian(originals.NONLocalBlock2D):
    def __init__(self) -> None:
        super().__init__(4)
        del self.theta


class Concatenation(originals.NONLocalBlock2D):
    def __init__(self) -> None:
        super().__init__(4)
        self.concat_project = nn.Conv2d(4, 1, 1)


def with_hook() -> nn.Module:
    block = originals.NONLocalBlock2D(4)
    block.theta.register_forward_hook(lambda *_: None)
    return block


def with_own_forward() -> nn.Module:
    block = originals.NONLocalBlock2D(4)
    block.forward = lambda x: x
    return block


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: mmcv_other("embedded_gaussian"), "mode embedded_gaussian"),
        (lambda: mmcv_other("gaussian"), "mode gaussian"),
        (lambda: mmcv_other("concatenation"), "mode concatenation"),
        (partial(originals.Nonlocal, 4, 2), "mode softmax"),
        (lambda: originals.Softmax2D(4), "computes something else"),
        (lambda: originals.OtherAxis2D(4), "computes something else"),
        (lambda: NoResidual(4), "computes something else"),
        (Gaussian, "mode gaussian"),
        (Concatenation, "mode concatenation"),
        (Strided, "key has kernel_size"),
        (AveragedKeys, "subsampled by AvgPool2d, not by a max pool"),
        (with_hook, "theta has hooks, which would not run"),
        (with_own_forward, "its forward was replaced on the object"),
        (lambda: originals.NONLocalBlock2D(4).to("meta"), "meta device"),
    ],
)
def test_what_looks_alike_is_left_alone(make: Callable[[], nn.Module], reason: str) -> None:
    module = make()
    cls = type(module)
    (entry,) = aea.convert(module, strict=False).modules
    assert entry.result == "left alone"
    assert reason in entry.why
    assert type(module) is cls
    with pytest.raises(ValueError, match="was replaced; left alone were"):
        aea.convert(module)


def mmcv_other(mode: str) -> nn.Module:
    # the library that these blocks come from is in the extra foreign, which the tests of the others
    # do not need
    cnn = pytest.importorskip("mmcv.cnn", reason="the package mmcv (mmcv-lite) is not installed")
    return cnn.NonLocal2d(6, mode=mode)


@pytest.mark.parametrize("norm", [True, False])
def test_from_nonlocal_gives_the_same_results(norm: bool) -> None:
    original = randomised(originals.NONLocalBlock2D(6, sub_sample=False, bn_layer=norm)).eval()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    block = aea.from_nonlocal(original)
    assert isinstance(block, aea.AugmentedAttention)
    torch.testing.assert_close(block(x), original(x), rtol=1e-10, atol=1e-10)
    if not norm:
        torch.testing.assert_close(block.train()(x), original.train()(x), rtol=1e-10, atol=1e-10)
    aea.convert(original)
    torch.testing.assert_close(aea.from_nonlocal(original).eval()(x), block.eval()(x))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv2d(3, 3, 1), "no non-local block that is known"),
        (lambda: originals.NONLocalBlock2D(4), "keys are subsampled"),
        (lambda: originals.Softmax2D(4, sub_sample=False), "computes something else"),
        (
            lambda: originals.Nonlocal(4, 2, None, "dot_product", "layernorm"),
            "its output goes through GroupNorm",
        ),
    ],
)
def test_from_nonlocal_refuses(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(ValueError, match=f"cannot become AugmentedAttention: .*{reason}"):
        aea.from_nonlocal(make())
