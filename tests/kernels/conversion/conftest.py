"""What is computed is the operators' own; here it is enough that the right operator is called: the
eager backend.
"""

import pytest
import torch

import aea_kernels as aea


@pytest.fixture(autouse=True)
def backend():
    with aea.use_backend("eager"):
        torch.manual_seed(0)
        yield "eager"
