"""Where the tests run: on a CPU, with Triton's kernels in its interpreter, or with ``--device
cuda`` on a GPU, or with ``--device compiled`` on a CPU as they are compiled.

Properties are tried on the same examples in every session; `--hypothesis-profile=explore` draws
others each time.
"""

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # processes that share the cores wait for each other where each has a thread for every core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import torch
from compiled_device import CompiledDevice
from hypothesis import settings

settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")


def pytest_addoption(parser):
    parser.addoption(
        "--every-kernel",
        action="store_true",
        help="build every kernel for every architecture, dtype and number of channels (minutes)",
    )
    parser.addoption(
        "--device",
        default="cpu",
        help="of the kernel tests: cpu interprets the kernels, compiled runs them on a CPU as they "
        "are compiled for a GPU (needs ttsem), cuda runs them on one",
    )
    parser.addoption(
        "--compiled-record", metavar="JSON", help="write there what ran with --device compiled"
    )


def pytest_configure(config):
    """Triton reads the variable once, when the first test module imports it."""
    device = config.getoption("--device")
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    elif device == "compiled":
        os.environ.pop("TRITON_INTERPRET", None)
        config.pluginmanager.register(CompiledDevice(config))
    else:
        torch.set_default_device(device)
        # float32 means float32, as in PyTorch's matrix products
        torch.backends.cudnn.allow_tf32 = False


def pytest_collection_finish():
    """What the imports left stays: no later collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()
