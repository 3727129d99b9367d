"""Every kernel, dtype, layout, alignment and norm on small maps, with several programs an image.

For compute-sanitizer on a GPU, and as compiled on a CPU:

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 9 \\
        python -m pytest -n 0 -m sanitizer tests/kernels --device cuda
    python -m pytest -m sanitizer tests/kernels --device compiled
"""

import copy

import pytest
import torch
from strategies import normal
from test_triton import LAYOUTS

import aea_kernels as aea
from aea_kernels.backends.triton import operands

pytestmark = [
    pytest.mark.sanitizer,
    pytest.mark.skipif(operands.INTERPRETED, reason="the other tests run in the interpreter"),
    pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Of the largest value, beside the eager backend in float64; 0.05 for dtypes of 16 bits."""
PRECISIONS = {"highest": 1e-4, "high": 1e-4, "medium": 0.01}
"""Of `torch.set_float32_matmul_precision`, and the tolerance with each."""


@pytest.fixture(autouse=True)
def several_programs(monkeypatch):
    """So many multiprocessors that programs share an image, where there is no GPU."""
    monkeypatch.setattr("aea_kernels.backends.triton.tiles.H100", (90, 8))


def step_of(block: aea.AugmentedAttention, x: torch.Tensor):
    """Output and the gradients of x and of all parameters."""
    block = copy.deepcopy(block)
    y = block(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])]


def assert_near(found, expected, tolerance: float) -> None:
    """Within `tolerance` of the largest value."""
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(float(theirs.detach().abs().max()), 1e-6)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance * scale)


def assert_block_is_right(block, x, tolerance: float) -> None:
    """Beside the eager backend in float64, which multiplies no factors in lower precision."""
    found = step_of(block, x)
    with aea.use_backend("eager"):
        expected = step_of(copy.deepcopy(block).double(), x.detach().double().requires_grad_())
    assert_near(found, expected, tolerance)


def drawn_block(channels: int, norm: str | None) -> aea.AugmentedAttention:
    torch.manual_seed(0)
    return aea.AugmentedAttention(channels, norm=norm, references=5, groups=4).train()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "norm", "layout", "width"),
    [
        (20, "batch", "contiguous", 15),
        (24, "batch", "contiguous", 16),  # 16 bytes at a time
        (24, "batch", "channels_last", 15),
        (130, "batch", "sliced", 15),
        (20, None, "expanded", 15),
        (20, None, "transposed", 15),
        (24, "group", "contiguous", 15),
        (24, "group", "channels_last", 16),
        (24, "layer", "contiguous", 16),
        (24, "rms", "channels_last", 15),
    ],
)
def test_a_block(dtype, channels, norm, layout, width):
    x = LAYOUTS[layout](normal(3, channels, 9, width, dtype=dtype)).requires_grad_()
    assert_block_is_right(drawn_block(channels, norm).to(dtype), x, TOLERANCES.get(dtype, 0.05))


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_block_in_less_than_float32(norm, precision):
    x = normal(3, 24, 9, 16, dtype=torch.float32).requires_grad_()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert_block_is_right(drawn_block(24, norm), x, PRECISIONS[precision])
    finally:
        torch.set_float32_matmul_precision(before)


def channel(query, key, value):
    return aea.channel_attention(query, key, value, query[0, :, 0, 0].detach())


OPERATORS = [
    aea.linear_attention,
    aea.batch_attention,
    aea.relu_linear_attention,
    aea.efficient_attention,
    channel,
]


@pytest.mark.parametrize(
    ("dtype", "width", "positions_inner"),
    [
        (torch.float32, 16, False),
        (torch.float32, 130, False),
        *((dtype, 24, inner) for dtype in DTYPES for inner in (False, True)),
        *((dtype, 23, False) for dtype in DTYPES),
    ],
)
def test_operators(dtype, width, positions_inner):
    shape = (2, 2, width, 72) if positions_inner else (2, 2, 72, width)
    drawn = [normal(*shape, dtype=dtype, seed=seed) for seed in range(3)]
    inputs = [(t.mT if positions_inner else t).requires_grad_() for t in drawn]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    for operator in OPERATORS:
        with aea.use_backend("eager"):
            y = operator(*exact)
            expected = [y, *torch.autograd.grad(y.square().sum(), exact)]
        ours = operator(*inputs)
        found = [ours, *torch.autograd.grad(ours, inputs, 2 * y.detach().to(dtype))]
        assert_near(found, expected, TOLERANCES.get(dtype, 0.05))
