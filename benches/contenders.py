"""What a user would write or pick instead: each an adapter of a few lines, with the same inputs and
weights.

A contender that cannot run here raises `Unavailable` with the reason; one that computes another
function says so in `OTHER_FUNCTIONS`, and is timed without being checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import aea_kernels as aea
from aea_kernels import backends, reference

Operator = Callable[[Tensor, Tensor, Tensor], Tensor]

OURS, BEFORE = "aea", "before"
TRITON, EAGER, COMPILED = "aea (Triton)", "aea (eager)", "torch.compile of aea"
BACKENDS = {TRITON: "triton", EAGER: "eager"}
"""What a contender has to be computed by. All others get "auto"."""
OUR_NAMES = (TRITON, EAGER, OURS)
"""This library, the fastest on a GPU first. Records of before these names had `OURS` alone."""
PRODUCTS, COPY = "two library products", "copy"
OTHER_FUNCTIONS = {
    "softmax (SDPA)": "softmax instead of division by the number of keys",
    "flash-linear-attention": "causal",
    PRODUCTS: "PyTorch's, and nothing else",
    COPY: "one read, one write",
}
"""Contenders that compute something else, and what."""


class Unavailable(Exception):
    """This contender cannot run here; the message says why."""


def backend_of(name: str, device: torch.device) -> aea.use_backend:
    """The backend of a contender, chosen from here to the end of the `with` block.

    Raises:
        Unavailable: it cannot run on that device.
    """
    backend = BACKENDS.get(name, "auto")
    try:
        backends.primitives(backend, device)
    except RuntimeError as error:
        raise Unavailable(str(error).partition(",")[0]) from error
    return aea.use_backend(backend)


def fits_in_memory(map_bytes: int, device: torch.device) -> None:
    """Raises Unavailable where an attention map of so many bytes would not fit, twice over."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    if 2 * map_bytes > free:
        raise Unavailable(f"its map needs {map_bytes / 1e9:,.1f} GB")


# ---- the operator on given queries, keys and values (B, H, N, E) ---------------------------------


def _reordered(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q @ ((k.mT @ v) / k.shape[2])


def _materialised(q: Tensor) -> Operator:
    batch, heads, positions, _ = q.shape
    fits_in_memory(batch * heads * positions * positions * q.element_size(), q.device)
    return reference.linear_attention


def _softmax(q: Tensor) -> Operator:
    if q.device.type == "cpu" and q.shape[2] > 20_000:
        raise Unavailable("minutes a call on a CPU")
    if q.dtype == torch.float32 and q.shape[2] > 10**6:
        raise Unavailable("about half a minute a call on an H200")
    return torch.nn.functional.scaled_dot_product_attention


def _flash_bidirectional(q: Tensor) -> Operator:
    try:
        from flash_bla.ops.simple_la.fused import simple_la
    except ImportError as error:
        raise Unavailable("flash_bla is not installed") from error
    return lambda q, k, v: simple_la(q, k, v, scale=1 / k.shape[2])


def _flash_linear(q: Tensor) -> Operator:
    try:
        from fla.ops.linear_attn import chunk_linear_attn
    except ImportError as error:
        raise Unavailable("fla is not installed") from error

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output, _ = chunk_linear_attn(
            *(t.transpose(1, 2) for t in (q, k, v)), scale=1.0, normalize=False
        )
        return output.transpose(1, 2)

    return run


def _operator_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k.mT @ v
    return q @ torch.ones(q.shape[3], v.shape[3], dtype=q.dtype, device=q.device)


OPERATORS: dict[str, Callable[[Tensor], Operator]] = {
    TRITON: lambda q: aea.linear_attention,
    EAGER: lambda q: aea.linear_attention,
    COMPILED: lambda q: torch.compile(aea.linear_attention, dynamic=False),
    "plain eager": lambda q: _reordered,
    "torch.compile": lambda q: torch.compile(_reordered, dynamic=False),
    "map (naive, NonLocal2d)": _materialised,
    "softmax (SDPA)": _softmax,
    "flash-bidirectional-linear-attention": _flash_bidirectional,
    "flash-linear-attention": _flash_linear,
    PRODUCTS: lambda q: _operator_products,
    COPY: lambda q: lambda q, k, v: q.clone(),
}


# ---- the whole block from x (B, C, H, W), all with the weights of one block ----------------------


class PlainBlock(nn.Module):
    """The block in prediction as one writes it in PyTorch: product reordered, so no map, but
    nothing folded.
    """

    def __init__(self, block: aea.AugmentedAttention) -> None:
        super().__init__()
        self.block = block

    def _project(self, z: Tensor, projection: nn.Linear) -> Tensor:
        """(B, C, *spatial) -> (B, H, S, E)."""
        weight = projection.weight[(..., *[None] * (z.dim() - 2))]
        y = torch.nn.functional.conv2d(z, weight, projection.bias)
        return y.flatten(2).unflatten(1, (self.block.heads, -1)).mT

    def forward(self, x: Tensor) -> Tensor:
        # norm, clamp and projections, each a pass over the feature map
        block = self.block
        assert block.norm is not None
        z = torch.nn.functional.relu6(block.norm(x))
        q, k, v = (self._project(z, p) for p in (block.query, block.key, block.value))

        # what the references add to the summary of the keys
        summary, count = k.mT @ v, k.shape[2]  # (B, H, E, D)
        if block.references is not None:
            raw = block.references.T[None, :, :, None].to(x.dtype)  # (1, C, R, 1)
            summary = summary + self._project(raw, block.key).mT @ self._project(raw, block.value)
            count += len(block.references)

        # (B, H, S, D) back to channels, the output projection, and the residual
        attended = (q @ summary * (block.scale / count)).mT.flatten(1, 2).unflatten(2, x.shape[2:])
        return x + torch.nn.functional.conv2d(
            attended, block.output.weight[..., None, None], block.output.bias
        )


class TwoProducts(nn.Module):
    """The two matrix products that the folded block cannot do without: X X^T and M X, once for each
    image.
    """

    def __init__(self, block: aea.AugmentedAttention) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(block.channels, block.channels) / block.channels)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        flat @ flat.mT
        return (self.matrix.to(x) @ flat).view_as(x)


class MaterialisedBlock(nn.Module):
    """The block with its map, as the paper's equations have it."""

    def __init__(self, block: aea.AugmentedAttention) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        # refused before the map is formed: a machine out of memory measures nothing
        positions = x.shape[2] * x.shape[3]
        fits_in_memory(
            len(x) * self.block.heads * positions * positions * x.element_size(), x.device
        )

        # in training the batch has statistics of its own, in prediction the running ones are used
        block = self.block
        weight, bias = block.norm.weight, block.norm.bias
        statistics = block.norm.running_mean, block.norm.running_var
        statistics = (None, None) if block.training else statistics
        projections = block.query, block.key, block.value, block.output

        # the reference takes plain tensors; in training half of the images attend to the references
        return reference.attention_block(
            x,
            (weight, bias, *statistics, block.norm.eps),
            tuple(t for p in projections for t in (p.weight, p.bias)),
            block.references,
            heads=block.heads,
            scale=block.scale,
            reference_images=len(x) // 2 if block.training else len(x),
        )


class Copy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


BLOCKS: dict[str, Callable[[aea.AugmentedAttention], nn.Module]] = {
    TRITON: lambda block: block,
    EAGER: lambda block: block,
    COMPILED: lambda block: torch.compile(block, dynamic=False),
    "plain eager": PlainBlock,
    "torch.compile": lambda block: torch.compile(PlainBlock(block), dynamic=False),
    "map (naive, NonLocal2d)": MaterialisedBlock,
    PRODUCTS: TwoProducts,
    COPY: lambda block: Copy(),
}


def make_block(channels: int, references: int = 64) -> aea.AugmentedAttention:
    """A block in prediction mode whose BN is not the identity."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(channels, references=references).eval()
    assert block.norm is not None
    nn.init.uniform_(block.norm.weight, 0.5, 2)
    nn.init.normal_(block.norm.bias)
    return block


def runner(module: nn.Module, backward: bool) -> Callable[[Tensor, Tensor], Any]:
    """What is timed of a block, with x and the gradient of its result."""
    parameters = [p for p in module.parameters() if p.requires_grad]

    def forward(x: Tensor, dy: Tensor) -> Any:
        with torch.inference_mode():
            return module(x)

    def forward_backward(x: Tensor, dy: Tensor) -> Any:
        return torch.autograd.grad(module(x), [x, *parameters], dy, allow_unused=True)

    return forward_backward if backward else forward
