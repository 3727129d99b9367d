"""Keys pooled over processes: two gloo ranks must be one rank with both batches."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import run_ranks
from strategies import HERE, normal
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import aea_kernels as aea

NORMS = ("batch", "group")


def inputs():
    return [normal(4, 2, 6, 3, seed=seed).requires_grad_() for seed in range(3)]


def block_and_images(norm: str):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=2, norm=norm, groups=2).double().train()
    torch.nn.init.uniform_(block.norm.weight, 0.5, 2)
    torch.nn.init.normal_(block.norm.bias)
    x = 3 + normal(4, 6, 5, seed=1)
    return block, x.requires_grad_()


def other_families(q, k, v, images=slice(None), pool=lambda summary: summary):
    """Outputs of the images with the keys of all processes, and their gradients by q, k and v; keys
    far apart.
    """
    q, k, v = inputs = [
        t.detach()[images].requires_grad_()
        for t in (q, k + 20 * torch.arange(4).view(4, 1, 1, 1), v)
    ]
    outputs = [
        aea.attend_relu(q, pool(aea.summarize_relu(k, v).sum_over_batch())),
        aea.attend_softmax(q, pool(aea.summarize_softmax(k, v).sum_over_batch())),
        aea.attend_channels(
            v, pool(aea.summarize_channels(q, k).sum_over_batch()), torch.ones(2).double()
        ),
    ]
    gradients = torch.autograd.grad(sum(y.square().sum() for y in outputs), inputs)
    return [t.detach() for t in (*outputs, *gradients)]


def rank_main(rank: int, folder: str, backend: str, device: torch.device) -> None:
    torch.set_default_device(device)
    aea.use_backend(backend)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    group = dist.group.WORLD
    mine = slice(2 * rank, 2 * rank + 2)
    tensors = inputs()
    q, k, v = (t[mine] for t in tensors)
    y = aea.batch_attention(q, k, v, group=group)
    y.square().sum().backward()
    moments = aea.moments(q.movedim(1, 2).flatten(2)).sum_over_batch().all_reduce(group)
    families = other_families(*tensors, mine, lambda summary: summary.all_reduce(group))

    blocks = {}
    for norm in NORMS:
        block, x = block_and_images(norm)
        block.group = group
        images = [rank, 2 + rank]  # the first takes the references, the second the batch
        y_block = block(x[images])
        y_block.square().sum().backward()
        blocks[norm] = {
            "y": y_block.detach(),
            "x": x.grad[images],
            "parameters": [p.grad for p in block.parameters()],
            "buffers": dict(block.named_buffers()),
        }
    torch.save(
        {
            "y": y.detach(),
            "gradients": [t.grad[mine] for t in tensors],
            "moments": moments.gram.detach(),
            "families": families,
            "blocks": blocks,
        },
        Path(folder) / f"{rank}.pt",
    )
    dist.barrier()
    dist.destroy_process_group()


def test_a_copy_of_a_block_has_its_process_group():
    """As of running averages of the weights, which copy the network."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        block = aea.AugmentedAttention(6, references=2, group=dist.group.WORLD)
        network = torch.nn.ModuleDict({"block": block, "same": block})
        twin = torch.optim.swa_utils.AveragedModel(network).module
        assert twin["block"] is twin["same"]
        assert twin["block"].group is block.group
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(twin.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert not any(p is q for p, q in zip(twin.parameters(), network.parameters(), strict=True))


def test_two_ranks_are_one(backend):
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(rank_main, (folder, backend, HERE), 2)
        ranks = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]
    tensors = inputs()
    y = aea.batch_attention(*tensors)
    y.square().sum().backward()
    torch.testing.assert_close(torch.cat([r["y"] for r in ranks]), y)
    for i, t in enumerate(tensors):
        torch.testing.assert_close(torch.cat([r["gradients"][i] for r in ranks]), t.grad)
    moments = aea.moments(tensors[0].movedim(1, 2).flatten(2)).sum_over_batch()
    torch.testing.assert_close(ranks[0]["moments"], moments.gram)
    for found, expected in zip(
        zip(*(r["families"] for r in ranks), strict=True), other_families(*tensors), strict=True
    ):
        torch.testing.assert_close(torch.cat(found), expected)

    for norm in NORMS:
        block, x = block_and_images(norm)
        y = block(x)
        y.square().sum().backward()
        found = [rank["blocks"][norm] for rank in ranks]
        torch.testing.assert_close(torch.stack([r["y"] for r in found], 1).flatten(0, 1), y)
        torch.testing.assert_close(torch.stack([r["x"] for r in found], 1).flatten(0, 1), x.grad)
        for i, parameter in enumerate(block.parameters()):
            torch.testing.assert_close(
                found[0]["parameters"][i] + found[1]["parameters"][i], parameter.grad
            )
        for name, buffer in block.named_buffers():
            for rank in found:
                torch.testing.assert_close(rank["buffers"][name], buffer)


def test_layers_sharded_apart_from_their_block_are_named(tmp_path):
    """FSDP2 gathers a unit when it is called, and the block reads its layers without a call."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/it", rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    try:
        for layer in ("query", "output", "norm"):
            block = aea.AugmentedAttention(6, references=2)
            fully_shard(getattr(block, layer), mesh=mesh)
            with pytest.raises(TypeError, match=f"{layer}.weight is a DTensor.* as one unit"):
                block(torch.zeros(2, 6, 4))
        block = aea.AugmentedAttention(6, references=2)
        expected = block(torch.ones(2, 6, 4))
        fully_shard(block, mesh=mesh)
        torch.testing.assert_close(block(torch.ones(2, 6, 4)), expected)
    finally:
        dist.destroy_process_group()
