"""The standard errors of the planes of a stack."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from aeanet.inference.error import error_of_enlarged
from aeanet.inference.prediction import RunOptions
from aeanet.inference.restored import Restored
from aeanet.inference.stacks import StackRestorer
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

    def restore(self, number: int, **options: Unpack[RunOptions]) -> Restored:
        """The standard error of a plane, without its restoration.

        Args:
            number: of the plane, from 0.
            options: of `RunOptions`, in place of those given before.

        Raises:
            ImageError: if the plane cannot be read.
        """
        image, exposure, enlarged = self._shown(number)
        error = error_of_enlarged(
            self.model, enlarged, exposure, self.magnification, **(self.options | options)
        )
        name, unit = Path(self.stack.name_of(number)), image.high - image.low
        return Restored(
            name,
            name,
            image,
            exposure=exposure,
            magnification=self.magnification,
            unit=unit,
            error=error,
        )


def planes_by(model: Network, stack: Stack, **arguments: Any) -> StackRestorer:
    """`StackErrors` for a network of errors, else `StackRestorer`, with its arguments."""
    if isinstance(model, ErrorNetwork):
        return StackErrors(model, stack, **arguments)
    return StackRestorer(model, stack, **arguments)
