"""What every kernel test shares: the backends under test."""

import pytest

import aea_kernels as aea
from aea_kernels import planning


@pytest.fixture(params=["eager", "triton"], scope="module", autouse=True)
def backend(request):
    """The same suite for every backend; the oracle is called by its own name and needs none.

    In the interpreter there are few multiprocessors, so that each program walks over several tiles and an image has
    several splits. A device has its own.
    """
    if request.param == "triton":
        # Triton exists for Linux only; the eager backend needs none
        pytest.importorskip("triton", reason="the package triton is not installed")
    with aea.use_backend(request.param), pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "H100", (90, 6))
        yield request.param
