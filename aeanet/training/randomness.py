"""Random number generators and the switch for deterministic algorithms, which a training sets for
itself alone.
"""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of every generator: "python" and "numpy" as JSON takes them, "torch" a list, CPU
    first, then GPUs.
    """
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002 (other libraries may use it)
    assert isinstance(numpy, dict)
    numpy["state"] = numpy["state"] | {"key": numpy["state"]["key"].tolist()}
    generators = [torch.get_rng_state()]
    if torch.cuda.is_available():
        generators += torch.cuda.get_rng_state_all()
    return {"python": random.getstate(), "numpy": numpy, "torch": generators}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Undo what happened to the generators since `random_state`."""
    kind, words, gauss = state["python"]
    random.setstate((kind, tuple(words), gauss))
    numpy = state["numpy"]
    key = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})  # noqa: NPY002
    cpu, *gpus = state["torch"]
    torch.set_rng_state(cpu)
    if torch.cuda.is_available() and len(gpus) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(gpus)


@contextmanager
def seeded_randomness(seed: int) -> Iterator[None]:
    """Within it, the generators begin at `seed`; afterwards they are as they were."""
    before = random_state()
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        yield
    finally:
        set_random_state(before)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Within it, if wanted, PyTorch uses only algorithms that give the same bits every time."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    # With a fixed workspace cuBLAS repeats itself.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
