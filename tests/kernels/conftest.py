"""What every kernel test shares: the backends under test and hypothesis without deadlines."""

import pytest
from hypothesis import settings

import aea_kernels as aea

settings.register_profile("kernels", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("kernels")


@pytest.fixture(params=["eager", "triton"], scope="module", autouse=True)
def backend(request):
    """The same suite for every backend; the oracle is called by its own name and needs none."""
    with aea.use_backend(request.param):
        yield request.param
