"""Several processes that train one network, as `torchrun` starts them: their device, and what they
share.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from aeanet.distributed import ProcessError, is_loss_of_process, process_count
from aeanet.networks.base import Network
from aeanet.networks.layers import pool_over_processes


def training_device() -> torch.device:
    """The accelerator if there is one; with several processes, a GPU if each has its own. Else the
    CPU.
    """
    if process_count() > 1:
        return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, such as gradients, by their mean over the processes: the same bits on all of
    them.
    """
    if process_count() == 1:
        return
    joint = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(joint)
    joint /= process_count()
    for tensor, mean in zip(
        tensors, joint.split([tensor.numel() for tensor in tensors]), strict=True
    ):
        tensor.copy_(mean.view_as(tensor))


def mean_over_processes(values: list[float], device: torch.device) -> list[float]:
    """Each number's mean over the processes, the same bits on all of them."""
    if process_count() == 1:
        return values
    joint = torch.tensor(values, dtype=torch.float64, device=device)
    average_over_processes([joint])
    return joint.tolist()


@contextmanager
def training_as_one(model: Network) -> Iterator[None]:
    """Within it, the networks of all processes see one batch: see `layers.pool_over_processes`.

    Raises ProcessError for the error that PyTorch raises when another process ended.
    """
    if process_count() > 1:
        pool_over_processes(model, distributed.group.WORLD)
    try:
        yield
    except Exception as error:
        if not is_loss_of_process(error):
            raise
        raise ProcessError(
            "Another process of this training ended or no longer answers; its own message says why, and "
            "--resume goes on from the latest checkpoint."
        ) from error
    finally:
        pool_over_processes(model, None)
