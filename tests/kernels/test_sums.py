"""Sums in float32 over many positions keep their digits, whatever the width and the layout."""

import pytest
import torch
from strategies import HERE

import aea_kernels as aea
from aea_kernels.core.autograd import ApplyMatrix

EAGER = pytest.mark.parametrize("backend", ["eager"], indirect=True)


def repeated(width, different, times):
    """(positions, width): `different` random positions, `times` over; and the exact sum of their
    outer products, (width, width).
    """
    generator = torch.Generator().manual_seed(width)
    rows = torch.rand(different, width, generator=generator).to(HERE)
    exact = rows.double().T @ rows.double() * times
    return rows.repeat(times, 1), exact


def assert_close(sums, exact, bound=1e-5):
    assert (sums - exact).abs().max() <= bound * exact.abs().max()


@EAGER
@pytest.mark.parametrize("width", range(1, 17))
@pytest.mark.parametrize("different", [1, 1 << 12])
def test_tokens_of_every_width(backend, width, different):
    """Up to 2^22 positions, all alike or not; rounding of like ones has one sign and adds up."""
    for positions in (1 << 12, 1 << 18, 1 << 22):
        rows, exact = repeated(width, different, positions // different)
        tokens = rows[None, None]
        assert_close(aea.summarize(tokens, tokens).state[0, 0], exact)


@EAGER
@pytest.mark.parametrize(("images", "positions"), [(1, 1 << 21), (3, 33_001), (40, 2_001)])
@pytest.mark.parametrize("channels_first", [False, True])
def test_every_sum_over_one_value(backend, images, positions, channels_first):
    """In every family and both layouts; one image has many chunks, few large or many small ones
    share one.
    """
    rows, exact = repeated(5, 1, positions)
    total = rows[:1].double() * positions
    tokens = rows.expand(images, 1, positions, 5).contiguous()
    if channels_first:
        tokens = tokens.mT.contiguous().mT
    for image in range(images):
        assert_close(aea.summarize(tokens, tokens).state[image, 0], exact)
        channels = aea.summarize_channels(tokens, tokens)
        assert_close(channels.products[image, 0], exact)
        assert_close(channels.query_squares[image, 0], exact.diagonal())
        relu = aea.summarize_relu(tokens, tokens).sums[image, 0]
        assert_close(relu, torch.cat([exact, total.mT], 1))
        gram = aea.moments(tokens.mT[:, 0]).gram[image]
        assert_close(gram[:-1, :-1], exact)


@EAGER
def test_a_gradient_that_sums_over_one_value(backend):
    rows, exact = repeated(3, 1, 1 << 21)
    tokens = rows[None, None]
    matrix = torch.eye(3, device=HERE)[None, None].requires_grad_()
    y = ApplyMatrix.apply(tokens.detach().requires_grad_(), matrix, "eager")
    (grad,) = torch.autograd.grad(y, matrix, tokens)
    assert_close(grad[0, 0], exact)


@pytest.mark.parametrize("norm", ["group", "layer", "rms"])
def test_the_number_of_keys_is_exact_whatever_products_are_rounded_to(norm, backend):
    """On processors that multiply bfloat16, PyTorch rounds factors to it with this setting."""
    setting = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        block = aea.AugmentedAttention(64, references=0, norm=norm, groups=4).eval()
        gram = block.summarize(torch.randn(1, 64, 9, 57)).gram
    finally:
        torch.set_float32_matmul_precision(setting)
    assert gram[0, -1, -1] == 9 * 57
