"""These tests are of the measuring, not of the kernels: the eager backend is enough."""

import pytest
import torch

import aea_kernels as aea


@pytest.fixture(autouse=True)
def backend():
    with aea.use_backend("eager"):
        torch.manual_seed(0)
        yield "eager"
