"""Several processes that work as one: how many there are, which one this is, their group, and what
they exchange.
"""

import atexit
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from aeanet.errors import UserError, sentence_or_raise

# How long a process waits for one that does not answer: in training, where rank 0 also restores
# pairs, and in prediction, where a pass over all tiles lies between two exchanges.
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


def training_device() -> torch.device:
    """The accelerator if there is one; with several processes, a GPU if each has its own. Else the
    CPU.
    """
    if process_count() > 1:
        return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, such as gradients, by their mean over the processes: the same bits on all of
    them.
    """
    if process_count() == 1:
        return
    joint = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(joint)
    joint /= process_count()
    means = joint.split([tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def mean_over_processes(values: list[float], device: torch.device) -> list[float]:
    """Each number's mean over the processes, exchanged on `device`: the same bits on all of
    them.
    """
    if process_count() == 1:
        return values
    joint = torch.tensor(values, dtype=torch.float64, device=device)
    average_over_processes([joint])
    return joint.tolist()


def gathered(value: Any, group: ProcessGroup | None) -> list[Any]:
    """What each process of a group has; of one process, what it has itself."""
    if group is None:
        return [value]
    values: list[Any] = [None] * group.size()
    dist.all_gather_object(values, value, group)
    return values


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
    for said in gathered(sentence, group):
        if said is not None:
            raise AgreedError(said)


@contextmanager
def naming_lost_processes(sentence: str) -> Iterator[None]:
    """Within it, what PyTorch raises when another process ended becomes a ProcessError with this
    sentence.
    """
    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or any(w in str(error).lower() for w in words)
        if process_count() == 1 or not lost:
            raise
        raise ProcessError(sentence) from error


@contextmanager
def all_processes(patience: timedelta = PATIENCE) -> Iterator[ProcessGroup | None]:
    """The group of the processes that `torchrun` started, with NCCL if each has a GPU, else gloo;
    None for one process.

    Raises:
        ProcessError: a process has ended, or lets the others wait for longer than `patience`; when
            they next exchange something.
    """
    if process_count() == 1:
        yield None
        return
    # Its functions take the group of all processes as a default argument. Imported while that group
    # is there, as building a network may do, it keeps the group's threads beyond its end and into
    # Python's, which they can turn into an abort.
    import torch.distributed.nn.functional

    # NCCL needs a GPU for each process of this machine
    cuda = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    lost = "Another process of this run has ended or no longer answers; its own message says why."
    try:
        with naming_lost_processes(lost):
            dist.init_process_group("nccl" if cuda else "gloo", timeout=patience)
            yield dist.group.WORLD
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
            # An error and a future that hold each other hold the group too, in the frames of the
            # error. They are freed while Python still works, and the group's threads end with them.
            atexit.register(gc.collect)
