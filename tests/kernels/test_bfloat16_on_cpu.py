"""The block in bfloat16 on a processor that multiplies it. PyTorch computes the same, if slowly, on
one that does not, so these tests run anywhere.
"""

import copy

import pytest
import torch
from oracle import block_as_function, oracle

import aea_kernels as aea
from aea_kernels import testing
from aea_kernels.backends.eager import bfloat16, block
from aea_kernels.backends.eager.prologue import prologue

pytestmark = pytest.mark.parametrize("backend", ["eager"], indirect=True)
LAYOUTS = ["contiguous", "channels_last", "sliced"]
EPS = torch.finfo(torch.bfloat16).eps


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """Says whether the processor multiplies bfloat16; at first it does."""

    def become(native: bool) -> None:
        monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda device: native)

    become(True)
    return become


def maps(*shape, layout="contiguous", offset=1.0):
    x = offset + torch.randn(shape)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        x = torch.cat([x, x], -1)[..., ::2]
    return x.bfloat16()


@pytest.fixture
def small_chunks(monkeypatch):
    """Small maps are taken too, in chunks of 64 positions and pieces of 16."""
    monkeypatch.setattr(bfloat16, "LEAST_POSITIONS", 1)
    monkeypatch.setattr("aea_kernels.backends.eager.walking.CHUNK_BYTES_BFLOAT16", 64 * 32 * 2)
    monkeypatch.setattr(bfloat16, "PIECE_POSITIONS", 16)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("training", [False, True])
def test_error_budget_over_many_chunks(backend, layout, norm, training, small_chunks):
    torch.manual_seed(0)
    net = aea.AugmentedAttention(32, references=8, norm=norm).train(training)
    x = maps(3, 32, 9, 23, layout=layout).requires_grad_()
    parameters = [
        (p + 0.1 * torch.randn_like(p)).bfloat16().detach().requires_grad_()
        for p in net.parameters()
    ]
    ours = block_as_function(net, backend)
    testing.assert_within_error_budget(ours, oracle(net), x, *parameters)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_statistics_have_the_digits_of_float32(layout, offset, small_chunks):
    torch.manual_seed(0)
    x = maps(3, 32, 9, 23, layout=layout, offset=offset)
    mean, variance = block.statistics(x)
    exact = x.double()
    centre, spread = exact.mean((0, 2, 3)), exact.var((0, 2, 3), correction=0)
    torch.testing.assert_close(mean, centre, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance, spread, rtol=1e-5, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_of_products_lose_less_than_one_rounding(layout, small_chunks):
    """Every piece is rounded once, and what is rounded is the sum, not its terms."""
    torch.manual_seed(0)
    x = maps(2, 32, 20, 40, layout=layout)
    identity = prologue("none", [], 0.0, torch.float32)
    exact = torch.nn.functional.pad(x.double().flatten(2), (0, 0, 0, 1), value=1)
    expected = exact @ exact.mT
    error = (block._gram(x, identity) - expected).norm() / expected.norm()
    assert 0 < error < EPS / 8  # of 50 pieces: a rounding's 0.29 EPS over their root


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_long_rows_lose_no_digits(layout):
    """Of a constant channel nothing may be left but zero: batch norm divides by its variance."""
    x = maps(1, 32, 256, 300, layout=layout, offset=0.0)
    x[:, ::2] = 100.5
    mean, variance = block.statistics(x)
    assert (mean[::2] == 100.5).all()
    assert (variance[::2] == 0).all()
    exact = x.double()
    torch.testing.assert_close(variance, exact.var((0, 2, 3), correction=0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_does_not_matter(dtype, small_chunks):
    torch.manual_seed(0)
    x, net = maps(2, 32, 12, 12), aea.AugmentedAttention(32, references=4).bfloat16().train()
    expected = net(x)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.testing.assert_close(net(x), expected, rtol=0, atol=0)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("norm", ["layer", "rms", "group"])
def test_norms_that_need_float32_keep_it(norm, native, small_chunks):
    torch.manual_seed(0)
    x = maps(2, 32, 12, 12)
    net = aea.AugmentedAttention(32, references=4, norm=norm, groups=4).bfloat16().train()
    on = net(x)
    native(False)
    torch.testing.assert_close(net(x), on, rtol=0, atol=0)


def test_elsewhere_factors_are_in_float32(native, small_chunks):
    torch.manual_seed(0)
    x, net = maps(2, 32, 12, 12), aea.AugmentedAttention(32, references=4).bfloat16().eval()
    exact = copy.deepcopy(net).double()(x.double())
    found = net(x)
    native(False)
    wide = net(x)
    assert (wide - exact).norm() < (found - exact).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_other_dtypes_are_not_concerned(dtype, native, small_chunks):
    torch.manual_seed(0)
    x, net = maps(2, 32, 12, 12).to(dtype), aea.AugmentedAttention(32).to(dtype).eval()
    on = net(x)
    native(False)
    torch.testing.assert_close(net(x), on, rtol=0, atol=0)


def test_small_maps_are_faster_in_float32(native):
    torch.manual_seed(0)
    x, net = maps(2, 32, 12, 12), aea.AugmentedAttention(32).bfloat16().eval()
    on = net(x)
    native(False)
    torch.testing.assert_close(net(x), on, rtol=0, atol=0)
