"""Several processes that work as one: how many there are, which one this is, and their group."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from aeanet.errors import UserError, sentence_or_raise

# For a process that does not answer. In training, rank 0 also restores pairs; in prediction, a pass
# over all tiles lies between two exchanges.
PATIENCE = timedelta(minutes=10)
TILES_PATIENCE = timedelta(days=1)


class ProcessError(UserError):
    """Another process of this run has ended."""


class AgreedError(UserError):
    """An error of one process that all processes of its group raise, so that all can go on with
    something else.
    """


def _launched() -> bool:
    return all(name in os.environ for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))


def process_count() -> int:
    """The number of processes that work together: 1 unless a launcher such as `torchrun` started
    them.
    """
    return int(os.environ["WORLD_SIZE"]) if _launched() else 1


def rank() -> int:
    """The number of this process, from 0. Only rank 0 writes files that all share."""
    return int(os.environ["RANK"]) if _launched() else 0


@contextmanager
def agreeing(group: ProcessGroup | None) -> Iterator[None]:
    """Within it, an error that the user can mend, in any process of `group`, becomes an AgreedError
    in all of them.

    They wait for each other at its end, and exchange nothing within it. Without a group, errors
    stay as they are.
    """
    sentence: str | None = None
    try:
        yield
    except Exception as error:
        if group is None:
            raise
        sentence = sentence_or_raise(error)
    if group is not None:
        said: list[str | None] = [None] * group.size()
        dist.all_gather_object(said, sentence, group)
        if any(said):
            raise AgreedError(next(filter(None, said)))


def is_loss_of_process(error: Exception) -> bool:
    """Whether PyTorch raised `error` because another process ended or no longer answers."""
    if process_count() == 1 or not isinstance(error, RuntimeError):
        return False
    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


@contextmanager
def all_processes(patience: timedelta = PATIENCE) -> Iterator[ProcessGroup | None]:
    """The group of the processes that `torchrun` started, with NCCL if each has a GPU, else gloo;
    None for one process.

    If a process ends, or lets the others wait for longer than `patience`, they raise ProcessError
    when they next exchange something.
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
                "Another process of this run has ended or no longer answers; its own message says "
                "why."
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
