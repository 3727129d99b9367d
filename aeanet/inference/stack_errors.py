"""The standard errors of the planes of a stack."""

from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from aeanet.inference.error import error_of_enlarged
from aeanet.inference.prediction import RunOptions
from aeanet.inference.restored import Restored
from aeanet.inference.stacks import LoadedPlane, StackRestorer
from aeanet.io.stacks import Contents, Stack
from aeanet.networks.base import Network
from aeanet.networks.error import ErrorNetwork


class StackErrors(StackRestorer):
    """Estimates the standard errors of the planes one by one, where `StackRestorer` restores them.

    Arguments are those of `StackRestorer`. `values` gives them in the values of the file, float32.
    """

    model: ErrorNetwork

    def contents(self) -> Contents:
        """Of the standard errors."""
        return replace(super().contents(), dtype=np.dtype(np.float32))

    def restore_loaded(self, loaded: LoadedPlane, **options: Unpack[RunOptions]) -> Restored:
        """The standard error of a plane, without its restoration."""
        error = error_of_enlarged(
            self.model,
            loaded.enlarged,
            loaded.plane.exposure,
            self.magnification,
            **(self.options | options),
        )
        return replace(loaded.plane, error=error)


def planes_by(model: Network, stack: Stack, **arguments: Any) -> StackRestorer:
    """`StackErrors` for a network of errors, else `StackRestorer`, with its arguments."""
    planes = StackErrors if isinstance(model, ErrorNetwork) else StackRestorer
    return planes(model, stack, **arguments)
