"""Where the tests run: on a CPU, with Triton's kernels in its interpreter, or with ``--device cuda`` on a GPU."""

import os

import torch


def pytest_addoption(parser):
    parser.addoption(
        "--every-kernel",
        action="store_true",
        help="build every kernel for every architecture, dtype and number of channels, not only a selection (minutes)",
    )
    parser.addoption("--device", default="cpu", help="of the kernel tests; cuda runs the kernels themselves")


def pytest_configure(config):
    """Triton reads the variable once, when the first test module imports it."""
    device = config.getoption("--device")
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    else:
        torch.set_default_device(device)
