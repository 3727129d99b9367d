"""Blocks of the other families, converted, against their originals: results and all gradients in
float64.
"""

from collections.abc import Callable
from functools import partial

import originals_families as originals
import pytest
import torch
from equality import assert_exact, randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import aea_kernels as aea
from aea_kernels.conversion.replacing import convolved
from aea_kernels.core.float64 import everything_in_float64


def diffusers_processors():
    # the library that these blocks come from is in the extra foreign, which the tests of the others
    # do not need
    return pytest.importorskip(
        "diffusers.models.attention_processor", reason="the package diffusers is not installed"
    )


def sana_multiscale(**options: object) -> nn.Module:
    return diffusers_processors().SanaMultiscaleLinearAttention(
        6, 6, attention_head_dim=3, **options
    )


def sana(processor: str = "SanaLinearAttnProcessor2_0", **options: object) -> nn.Module:
    module = diffusers_processors()
    return module.Attention(
        6, heads=2, dim_head=3, processor=getattr(module, processor)(), **options
    )


RMS_AND_RESIDUAL = {"norm_type": "rms_norm", "residual_connection": True}
MAP, TOKENS = (2, 6, 5, 7), (6, 9, 6)
CASES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "LiteMLA": (MAP, partial(originals.LiteMLA, 6, 4, dim=3)),
    "LiteMLA, no other scale, bias": (
        MAP,
        partial(originals.LiteMLA, 6, 6, dim=2, scales=(), use_bias=True),
    ),
    "LiteMLA, two scales, timm's eps": (
        MAP,
        partial(originals.LiteMLA, 6, 6, dim=3, scales=(3, 5), eps=1e-5),
    ),
    "LiteMLA, fewer positions than channels": (
        (1, 6, 1, 2),
        partial(originals.LiteMLA, 6, 6, heads=1, dim=8),
    ),
    "SANA multiscale": (MAP, sana_multiscale),
    "SANA multiscale, rms norm, residual": (
        MAP,
        partial(sana_multiscale, norm_type="rms_norm", residual_connection=True),
    ),
    "SANA": (TOKENS, sana),
    "SANA, norms and biases": (
        TOKENS,
        partial(sana, qk_norm="rms_norm_across_heads", kv_heads=2, bias=True),
    ),
    "SANA, guidance": (TOKENS, partial(sana, "PAGIdentitySanaLinearAttnProcessor2_0")),
    "SANA, guidance and classes": (TOKENS, partial(sana, "PAGCFGSanaLinearAttnProcessor2_0")),
    "LinearAttention": (MAP, partial(originals.LinearAttention, 6, heads=2, dim_head=4)),
    "LinearAttention, one head, one memory": (
        MAP,
        partial(originals.LinearAttention, 6, 1, 5, num_mem_kv=1),
    ),
    "earlier LinearAttention": (MAP, partial(originals.EarlierLinearAttention, 6)),
    "earlier LinearAttention, not divided": (
        MAP,
        partial(originals.EarlierLinearAttention, 6, divided=False),
    ),
    "Restormer": (MAP, partial(originals.Attention, 6, 2, False)),
    "Restormer, bias, one head": (MAP, partial(originals.Attention, 6, 1, True)),
    "XCA": (TOKENS, partial(originals.XCA, 6, 2)),
    "XCA, bias": (TOKENS, partial(originals.XCA, 6, 3, qkv_bias=True)),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("name", CASES)
def test_converted_equals_original(name: str, training: bool) -> None:
    shape, make = CASES[name]
    with everything_in_float64():  # some originals cast to float32 inside
        assert_exact(randomised(make()), torch.randn(shape, dtype=torch.float64), training=training)


@settings(max_examples=12)
@given(
    kind=st.sampled_from(["LiteMLA", "LinearAttention", "Restormer"]),
    images=st.integers(1, 3),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    heads=st.integers(1, 3),
    width_of_head=st.integers(1, 4),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_sizes(
    kind: str,
    images: int,
    height: int,
    width: int,
    heads: int,
    width_of_head: int,
    channels_last: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    channels = heads * width_of_head
    module = {
        "LiteMLA": lambda: originals.LiteMLA(channels, 4, heads=heads, dim=width_of_head),
        "LinearAttention": lambda: originals.LinearAttention(channels, heads, width_of_head),
        "Restormer": lambda: originals.Attention(channels, heads, True),
    }[kind]()
    x = torch.randn(images, channels, height, width, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    with everything_in_float64():
        assert_exact(randomised(module), x, training=False)


def test_cross_attention_of_sana_equals_the_original() -> None:
    module = randomised(sana(cross_attention_dim=4))
    x, context = (
        torch.randn(2, 9, 6, dtype=torch.float64),
        torch.randn(2, 5, 4, dtype=torch.float64),
    )
    with everything_in_float64():
        expected = module(x, encoder_hidden_states=context)
        module.set_processor(aea.ReluAttentionProcessor())
        torch.testing.assert_close(
            module(x, encoder_hidden_states=context), expected, rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize(
    "name", ["LinearAttention", "earlier LinearAttention", "LiteMLA", "Restormer"]
)
def test_keys_add_over_tiles(name: str) -> None:
    """Of the projected map: rows of the whole attend to the sum of both halves' keys."""
    shape, make = CASES[name]
    module, x = randomised(make()).eval(), torch.randn(shape, dtype=torch.float64)
    aea.convert(module)
    expected = module(x)
    columns = slice(0, x.shape[3])
    module.keys = module.summarize(x, (slice(0, 3), columns)) + module.summarize(
        x, (slice(3, 5), columns)
    )
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)
    if name == "earlier LinearAttention":  # without a neighbourhood
        torch.testing.assert_close(module(x[:, :, :2]), expected[:, :, :2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["LinearAttention", "earlier LinearAttention", "LiteMLA", "Restormer"]
)
def test_keys_add_over_images_and_processes(name: str) -> None:
    shape, make = CASES[name]
    module, x = randomised(make()).eval(), torch.randn(shape, dtype=torch.float64)[:1]
    aea.convert(module)
    expected = module(x)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        module.keys = module.summarize(x).sum_over_batch().all_reduce()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)


class RMSNorm(nn.Module):
    """Another one of this name."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(1, keepdim=True) + 0.1).rsqrt() * self.g


def test_linear_attention_with_a_norm_of_its_own() -> None:
    module = originals.LinearAttention(6, 2, 4)
    module.norm = RMSNorm(6)
    assert_exact(randomised(module), torch.randn(MAP, dtype=torch.float64), training=True)


def test_positions_of_zeros_have_no_direction() -> None:
    """Nor has the gradient of the norm a number that is not finite there."""
    x = torch.randn(MAP, dtype=torch.float64)
    x[..., :3] = 0
    assert_exact(randomised(originals.LinearAttention(6, 2, 4)), x, training=True)


class Doubled(nn.Module):
    """As adapters are: it has the weight of what it wraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.weight, self.bias = inner, inner.weight, inner.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(x)


@pytest.mark.parametrize("hooked", [True, False], ids=["hook", "wrapper"])
@pytest.mark.parametrize(
    ("name", "part"), [("LinearAttention", "to_qkv"), ("SANA multiscale", "to_q"), ("XCA", "proj")]
)
def test_what_is_done_to_a_projection_afterwards_counts(name: str, part: str, hooked: bool) -> None:
    shape, make = CASES[name]
    module, x = randomised(make()).eval(), torch.randn(shape, dtype=torch.float64)
    report = aea.convert(module)
    if hooked:
        getattr(module, part).register_forward_hook(lambda part, inputs, y: 2 * y)
    else:
        setattr(module, part, Doubled(getattr(module, part)))
    with everything_in_float64():
        found = module(x)
        report.revert()
        torch.testing.assert_close(found, module(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("images", "groups", "bias"), [(1, 1, True), (3, 2, True), (2, 3, False)])
def test_a_convolution_as_a_product(
    images: int, groups: int, bias: bool, memory_format: torch.memory_format
) -> None:
    conv = nn.Conv2d(6, 12, 1, groups=groups, bias=bias).double()
    x = torch.randn(images, 6, 3, 5, dtype=torch.float64).to(memory_format=memory_format)
    torch.testing.assert_close(convolved(conv, x), conv(x), rtol=1e-12, atol=1e-12)


def test_a_mask_goes_to_the_original() -> None:
    module, x = randomised(originals.XCA(6, 2)), torch.randn(TOKENS, dtype=torch.float64)
    mask = torch.arange(9) < 4
    expected = module(x, mask=mask)
    aea.convert(module)
    assert torch.equal(module(x, mask=mask), expected)


class OwnNorm(originals.LiteMLA):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(originals.OtherAxis, 6), "computes something else"),
        (partial(originals.OtherMapAxis, 6, 2, True), "computes something else"),
        (partial(OwnNorm, 6, 6, dim=3), "computes something else"),
        (partial(originals.LiteMLA, 6, 6, dim=3, kernel_func=nn.GELU), "go through GELU, not ReLU"),
        (
            partial(originals.XCA, 6, 2, attn_drop=0.1),
            "attn_drop drops 0.1 of the scores in training",
        ),
        (partial(sana, "AttnProcessor2_0"), "softmax over positions is no sum over the keys"),
    ],
)
def test_what_looks_alike_is_left_alone(make: Callable[[], nn.Module], reason: str) -> None:
    module = make()
    cls = type(module)
    (entry,) = aea.convert(module, strict=False).modules
    assert entry.result == "left alone"
    assert reason in entry.why
    assert type(module) is cls


def test_in_half_precision_the_result_is_as_near_as_the_original() -> None:
    """bfloat16, against float64: the original's own casts to float32 lose no less."""
    module, x = originals.LiteMLA(32, 32), torch.randn(1, 32, 16, 16)
    with everything_in_float64():
        exact = randomised(module).eval()(x.double())
    low = module.bfloat16()
    before = (low(x.bfloat16()) - exact).abs().max()
    aea.convert(module)
    after = low(x.bfloat16())
    assert after.dtype == torch.bfloat16
    assert (after - exact).abs().max() <= 2 * before
