"""Processes of a test, forked from one that has the imports behind it."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

import torch.multiprocessing

IMPORTED = (
    "torch._dynamo",  # which an optimiser imports
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "aea_kernels.backends.triton",
    "aeanet.training",
    "aeanet.figures",
    "aeanet.inference.files",
)


def forking() -> ForkServerContext:
    """Its processes have the environment variables of the first of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def run_ranks(main: Callable[..., None], arguments: Iterable[Any], ranks: int) -> None:
    """`main(rank, *arguments)` in as many processes; raises what one of them raised."""
    forking()
    torch.multiprocessing.start_processes(
        main, tuple(arguments), nprocs=ranks, start_method="forkserver"
    )


def start_ranks(main: Callable[..., None], arguments: Iterable[Any]) -> list[BaseProcess]:
    """Two processes of `main(*arguments)`, in the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        forking().Process(target=_in_environment, args=(rank, port, main, *arguments))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    return processes


def _in_environment(rank: int, port: int, main: Callable[..., None], *arguments: Any) -> None:
    where = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_PORT": port,
    }
    os.environ |= {name: str(value) for name, value in where.items()} | {"MASTER_ADDR": "127.0.0.1"}
    main(*arguments)


def end(ranks: list[BaseProcess], seconds: float = 120) -> list[int | None]:
    """Their exit codes; who is alive after `seconds` is killed, and has none."""
    for process in ranks:
        process.join(seconds)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    return codes
