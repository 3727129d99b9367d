"""The strategies of `aea_kernels.testing`, with as many examples as suit the backend under test."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st

from aea_kernels.testing import UnmeasurableError
from aea_kernels.testing.strategies import attention_blocks as blocks
from aea_kernels.testing.strategies import normal, spatial_shapes, tensors

__all__ = ["EXAMPLES", "HERE", "blocks", "for_all", "normal", "spatial_shapes", "tensors"]

HERE = torch.empty(0).device
"""Where the tests run."""

EXAMPLES = {"eager": 40, "triton": 6}
"""Of every property; the interpreter is a thousand times slower than a kernel."""


def for_all(
    interpreted: int = EXAMPLES["triton"], **strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`hypothesis.given` with as many examples as suit the backend under test: `interpreted` for
    "triton".
    """
    examples = EXAMPLES | {"triton": interpreted}
    # on a GPU every smaller example may compile for seconds, hundreds of them to shrink one failure
    phases = [phase for phase in Phase if phase != Phase.shrink or HERE.type == "cpu"]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def informative(*args: Any, **kwargs: Any) -> None:
            try:
                test(*args, **kwargs)
            except UnmeasurableError as error:
                # a symmetry that had to hold, as with one position, or images that are all the same
                if "changes x" not in str(error) and "the same everywhere" not in str(error):
                    raise
                reject()

        runs = {
            name: settings(max_examples=n, phases=phases)(given(**strategies)(informative))
            for name, n in examples.items()
        }
        fixtures = dict(inspect.signature(runs["eager"]).parameters)
        named = "backend" in fixtures

        def run(backend: str, **arguments: Any) -> None:
            runs[backend](**arguments, **({"backend": backend} if named else {}))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        fixtures["backend"] = inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in fixtures.values()]
        )
        return run

    return decorate
