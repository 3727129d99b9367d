"""Several processes as one: who they are, and the group in which they exchange."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from aeanet.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


PATIENCE = timedelta(minutes=10)  # in training, with a process that does not answer: rank 0 restores pairs meanwhile
TILES_PATIENCE = timedelta(days=1)  # in prediction: between two exchanges lies a pass over all tiles


class ProcessError(UserError):
    """Work that lost one of its processes."""


def _launched() -> bool:
    return all(name in os.environ for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))


def process_count() -> int:
    """How many processes work together; 1 unless a launcher such as `torchrun` says otherwise."""
    return int(os.environ["WORLD_SIZE"]) if _launched() else 1


def rank() -> int:
    """Which of the processes this is; only rank 0 writes files that all share."""
    return int(os.environ["RANK"]) if _launched() else 0


def is_loss_of_process(error: Exception) -> bool:
    """Whether PyTorch raised `error` because another process ended or no longer answers."""
    if process_count() == 1 or not isinstance(error, RuntimeError):
        return False
    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


@contextmanager
def all_processes(patience: timedelta = PATIENCE) -> "Iterator[ProcessGroup | None]":
    """Within it, the processes that `torchrun` started are a group: NCCL where each has a GPU, else gloo.

    None where this process runs by itself. A process that ends, or lets the others wait for longer than `patience`,
    makes them raise ProcessError in their next exchange.
    """
    if process_count() == 1:
        yield None
        return
    cuda = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=patience)
        yield dist.group.WORLD
    except Exception as error:
        if is_loss_of_process(error):
            raise ProcessError(
                "Another process of this run has ended or no longer answers; its own message says why."
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
            gc.collect()  # Lightning's trainer refers to itself and the group, whose threads could abort Python's end
