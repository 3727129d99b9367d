"""Two gloo processes train as one with the joint batch."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aeanet.model import UShape, build_model
from aeanet.processes import pool_over_processes


def network(name: str) -> UShape:
    torch.manual_seed(0)
    model = build_model(name).double().train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lr, hr = (torch.rand(count, 1, 16, 24, dtype=torch.float64, generator=generator) for _ in range(2))
    return lr, hr


def share_of(rank: int, ranks: int) -> list[int]:
    """Each takes its part of the reference half of the joint batch, and its part of the batch-aware half."""
    half = 2 * ranks
    return [2 * rank, 2 * rank + 1, half + 2 * rank, half + 2 * rank + 1]


def rank_main(rank: int, ranks: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    model = network(name)
    pool_over_processes(model, dist.group.WORLD)
    lr, hr = (t[share_of(rank, ranks)] for t in images(4 * ranks))
    parallel = DistributedDataParallel(model)
    output = parallel(lr)
    loss = nn.functional.l1_loss(output, hr)
    loss.backward()
    result = {"loss": loss.detach(), "output": output.detach(), "buffers": dict(model.named_buffers())}
    torch.save(result | {"gradients": [p.grad for p in model.parameters()]}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize(("name", "ranks"), [("aeanet", 2), ("aeanet", 4), ("unet", 2)])
def test_ranks_train_as_one(name: str, ranks: int, tmp_path: Path) -> None:
    mp.spawn(rank_main, (ranks, name, str(tmp_path)), nprocs=ranks)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    model = network(name)
    lr, hr = images(4 * ranks)
    output = model(lr)
    loss = nn.functional.l1_loss(output, hr)
    loss.backward()
    torch.testing.assert_close(torch.stack([r["loss"] for r in results]).mean(), loss.detach())
    for rank, result in enumerate(results):
        torch.testing.assert_close(result["output"], output[share_of(rank, ranks)])
        for got, parameter in zip(result["gradients"], model.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad, rtol=1e-6, atol=1e-10)
        for key, buffer in model.named_buffers():
            torch.testing.assert_close(result["buffers"][key], buffer)


def test_a_single_process_is_untouched() -> None:
    model, plain = network("aeanet"), copy.deepcopy(network("aeanet"))
    pool_over_processes(model, None)
    lr, _ = images(4)
    assert torch.equal(model(lr), plain(lr))
