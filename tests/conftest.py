"""Triton's kernels run in its interpreter: it reads the variable once, when the first test module imports it."""

import os

os.environ["TRITON_INTERPRET"] = "1"


def pytest_addoption(parser):
    parser.addoption(
        "--every-kernel",
        action="store_true",
        help="build every kernel for every architecture, dtype and number of channels, not only a selection (minutes)",
    )
