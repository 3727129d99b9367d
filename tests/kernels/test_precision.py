"""float32 as the sum of numbers of bfloat16: its error beside plain float32, and the ends of its
range.
"""

import math

import pytest
import torch
from strategies import normal

import aea_kernels as aea
from aea_kernels.backends.triton import primitives

pytestmark = [
    pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numpy's, of infinity and NaN
]

LARGEST = torch.finfo(torch.float32).max
EXACT = {"highest": 2**-22, "high": 2**-14}
"""The relative error of a single product."""


@pytest.fixture(params=EXACT)
def setting(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def ieee_products():
    aea.set_ieee_products(True)
    yield
    aea.set_ieee_products(False)


def relative_error(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


def moments_error(x):
    """Of 8,192 positions of 64 channels, against float64; and that of PyTorch in float32."""
    exact = torch.einsum("bchw,bdhw->bcd", x.double(), x.double())
    plain = torch.einsum("bchw,bdhw->bcd", x, x)
    found = primitives.moments(x, "none", [], 0.0, None, 1)[:, :64, :64]
    return relative_error(found, exact), relative_error(plain, exact)


@pytest.mark.parametrize("scale", [1.0, 1e15, 1e-15])
def test_error_of_a_sum_over_positions(setting, scale):
    found, plain = moments_error(scale * normal(1, 64, 64, 128, dtype=torch.float32))
    assert found < (plain if setting == "highest" else 64 * plain)


def test_ordinary_units_have_the_error_of_float32(ieee_products):
    found, plain = moments_error(normal(1, 64, 64, 128, dtype=torch.float32))
    assert found < 2 * plain


def test_error_of_a_matrix_at_every_position(setting):
    x, matrix = (
        normal(1, 1, 512, 64, dtype=torch.float32),
        normal(1, 1, 64, 64, dtype=torch.float32, seed=1),
    )
    exact, plain = x.double() @ matrix.double().mT, x @ matrix.mT
    found = primitives.apply_matrix(x, matrix)
    bound = 2 if setting == "highest" else 128
    assert relative_error(found, exact) < bound * relative_error(plain, exact)


def products_of(*numbers):
    """All products of two of the numbers, as a kernel computes them and as PyTorch does."""
    a = torch.tensor(numbers)
    return primitives.outer_sum(a[None, None, None], a[None, None, None])[0, 0], torch.outer(a, a)


def test_single_products_over_most_of_the_range(setting):
    """From 2^-100 on no part is too small for a bfloat16."""
    numbers = [math.copysign(2.0**n / 3, n) for n in range(-48, 64, 7)]
    found, expected = products_of(0.0, 1.0, 1 + 2**-23, -1 / 3, *numbers)
    torch.testing.assert_close(found, expected, rtol=EXACT[setting], atol=0)


def test_infinity_and_nan_are_what_they_are_in_float32(setting):
    found, expected = products_of(math.inf, -math.inf, math.nan, 0.0, 1.0, -255.0, 1 / 3, 1e-30)
    torch.testing.assert_close(found, expected, rtol=EXACT[setting], atol=0, equal_nan=True)


def test_a_sum_with_infinity_or_nan_spoils_its_own_row_and_column_alone(setting):
    x = normal(1, 4, 8, 8, dtype=torch.float32)
    x[0, 1, 3, 3], x[0, 2, 4, 4] = math.inf, math.nan
    found = primitives.moments(x, "none", [], 0.0, None, 1)[0]
    finite = torch.tensor([True, False, False, True, True])
    assert torch.equal(found.isfinite(), finite[:, None] & finite)
    assert found[1, 1] == math.inf
    assert found[2].isnan().all()


def test_numbers_at_the_upper_end_of_the_range():
    """Six products know the largest number; a product beyond it is infinity or NaN."""
    found, expected = products_of(LARGEST, -LARGEST, 1.0, 0.0, 2.0**-100)
    torch.testing.assert_close(found[:2, 2:], expected[:2, 2:], rtol=EXACT["highest"], atol=0)
    assert not found[:2, :2].isfinite().any()


def test_numbers_at_the_lower_end_of_the_range(setting):
    """Of what lies below 2^-110, nothing smaller than 2^-134 is seen; the smallest are zero."""
    small = torch.tensor([2.0**-115 / 3, 2.0**-126 / 3, 2.0**-133, 2.0**-149])
    found = primitives.outer_sum(small[None, None, None], torch.ones(1, 1, 1, 1))[0, 0, :, 0]
    torch.testing.assert_close(found, small, rtol=EXACT[setting], atol=2.0**-134)
    assert found[3] == 0
