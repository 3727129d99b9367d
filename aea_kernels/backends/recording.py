"""What a call would launch, written down instead of launched.

The call is made on tensors of the meta device, which hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Launch:
    """One kernel, or with backend "eager" one walk over the positions. Counted from shapes, not
    measured.
    """

    name: str
    reads: float = 0
    writes: float = 0
    """Of feature maps, in tensors of the input's size. An address counts once for each program that
    loads it.
    """
    flops: int = 0
    workspace: int = 0
    """Bytes of partial sums and C x C matrices that it writes."""
    products: str = ""
    """How it multiplies, of `core.precision.multiplication`; empty where it has no large products,
    and with backend "eager"."""
    shared: float = 0
    """Bytes of factors of these products that it reads from shared memory: an estimate."""
    waits_for: str = ""
    """"memory", "arithmetic", "shared memory" or "host", whichever takes longest; empty with
    backend "eager"."""


EAGER_WALKS = {
    "apply_matrix": (1, 1, 1),
    "apply_matrix_backward": (2, 1, 2),
    "attend_to_moments": (1, 1, 1),
    "attend_to_moments_backward": (2, 0, 1),
    "features_backward": (2, 1, 2),
    "keys": (0, 0, 0),
    "moments": (1, 0, 1),
    "outer_sum": (2, 0, 1),
    "outer_sum_and_squares": (2, 0, 1),
    "outer_sum_and_squares_backward": (2, 2, 2),
    "phi_apply": (1, 1, 1),
    "phi_apply_backward": (2, 1, 2),
    "phi_outer_sum": (2, 0, 1),
    "phi_outer_sum_backward": (2, 2, 2),
    "pivot": (0, 0, 0),
    "statistics": (1, 0, 0),
}
"""Of each primitive of the eager backend: feature maps read and written, and products with a C x C
matrix.
"""


def launches_of(
    call: Callable[[], Any],
    elements: int,
    channels: int,
    backend: str,
    device: tuple[int, int] | None,
) -> list[Launch]:
    """What `call` launches.

    Args:
        call: on meta tensors.
        elements: of a feature map that counts as one tensor; channels: its C.
        backend: "eager" or "triton".
        device: architecture and number of multiprocessors of the GPU to plan for; None: an H100's.

    Raises:
        RuntimeError: kernels are asked for, and the package triton is not installed.
    """
    # a product with a C x C matrix takes 2 C FLOPs for each number of a map
    if backend == "eager":
        return _eager_launches(call, 2 * elements * channels)

    # what plans launches imports Triton, which `explain` of the eager backend does without
    try:
        primitives = import_module(".triton", __package__)
        launching = import_module(".triton.launching", __package__)
        tiles = import_module(".triton.tiles", __package__)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"kernels cannot be planned: {error}") from error

    def run(operator: Any, *arguments: Any) -> Any:
        return getattr(primitives, operator._opname)(*arguments[:-1])

    # the primitives run as ever, but for their launches
    with launching.recording(device) as recorded, _Primitives(run):
        call()

    # without a plan: sums that are joined, and C x C algebra; no feature map is read
    found = []
    for name, plan, written in recorded:
        if plan is None:
            found.append(Launch(name, workspace=written))
            continue
        one, shared = max(elements, 1), tiles.shared_bytes(plan, (device or tiles.H100)[0])
        moved = plan.reads / one, plan.writes / one
        found.append(Launch(name, *moved, plan.flops, written, plan.precision, shared))
    return found


def _eager_launches(call: Callable[[], Any], product_flops: int) -> list[Launch]:
    """The walks of `call` over feature maps, with `product_flops` in a C x C product over one."""
    launches: list[Launch] = []

    def walk(operator: Any, *arguments: Any) -> Any:
        name = operator._opname
        reads, writes, products = EAGER_WALKS[name]
        if reads:
            launches.append(Launch(name, reads, writes, products * product_flops))
        names = [argument.name for argument in operator._schema.arguments]
        if dict(zip(names, arguments, strict=True)).get("batch_statistics"):
            launches.append(Launch(name, 2, 1))  # through BN's mean and variance
        return operator(*arguments)

    with _Primitives(walk):
        call()
    return launches


class _Primitives(TorchDispatchMode):
    """Runs the operators ``aea::`` on meta tensors by `run`, and all others as they are."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.namespace == "aea":
            return self.run(function, *args)
        return function(*args, **kwargs or {})
