"""Kernels are compiled in several processes before anything is timed: the compiler's cache holds
them from then on.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress

import torch

from aea_kernels.backends import selfcheck
from aea_kernels.core.precision import multiplication

from ..cases import arithmetic, block_case
from ..contenders import TRITON, backend_of
from .blocks import Case, cases
from .checks import samples_of, ways
from .visit import Visit

PARTS = 4
"""Into so many jobs the samples of each dtype and precision are divided."""


def build(visit: Visit) -> None:
    """All that the other stages launch. On a CPU there is nothing to build."""
    if visit.device.type != "cuda":
        return
    workers = max(1, (os.cpu_count() or 2) - 2)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    jobs: set[Future[None]] = {pool.submit(build_block, case) for case in cases(visit.tiny)}
    jobs |= {pool.submit(build_samples, *way, part) for way in ways() for part in range(PARTS)}
    while jobs and visit.left > 0:
        _, jobs = wait(jobs, timeout=visit.left, return_when=FIRST_COMPLETED)
    visit.put("build", "jobs left out", len(jobs))
    pool.shutdown(wait=False, cancel_futures=True)


def build_block(case: Case) -> None:
    """What a block of this kind launches, for a map that takes no time. Who times it then meets
    its errors.
    """
    device = torch.device("cuda")
    shape = (*case.shape[:2], 16, 16)
    how = arithmetic(case.precision or "highest", device)
    with (
        suppress(Exception),
        how,
        backend_of(TRITON, device),
    ):  # whoever times it says what is wrong
        run, inputs = block_case(device, TRITON, shape, case.dtype, case.backward)
        run(*inputs[0])
        torch.cuda.synchronize()


def build_samples(dtype: torch.dtype, precision: str, part: int) -> None:
    """Every fourth of the samples of `verify`."""
    device = torch.device("cuda")
    with arithmetic(precision, device):
        for sample in samples_of(dtype, device, tiny=False)[part::PARTS]:
            with suppress(Exception):
                selfcheck.fault(sample, multiplication(dtype))
