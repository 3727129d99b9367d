"""What is computed is the operators' own; here it is enough that the right operator is called: the
eager backend.
"""

import pytest
import torch

import aea_kernels as aea


@pytest.fixture(autouse=True)
def backend(request):
    chosen = "triton" if request.config.getoption("--device") == "compiled" else "eager"
    with aea.use_backend(chosen):
        torch.manual_seed(0)
        yield chosen
