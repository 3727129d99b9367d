"""Restoration of volumes, time series and other stacks, plane by plane."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray
from torch.distributed import ProcessGroup

from aeanet.imaging.exposure import Exposure, Outliers, within
from aeanet.imaging.precision import computing_in
from aeanet.inference.brightness import (
    Survey,
    channel_of,
    micrograph_of,
    result_type,
    survey,
)
from aeanet.inference.prediction import (
    RunOptions,
    at_magnification,
    chosen_precision,
    enlarged_as_shown,
    exposure_for,
    known_magnification,
    reader,
    super_resolve_enlarged,
)
from aeanet.inference.restored import Restored
from aeanet.inference.stack_keys import sum_over_images
from aeanet.inference.tiling import Read
from aeanet.io.images.bars import find_bar
from aeanet.io.images.micrograph import ImageError, Micrograph
from aeanet.io.images.reading import grey_of
from aeanet.io.stacks import AxesError, Contents, Stack, Step
from aeanet.networks.base import Network
from aeanet.networks.registry import given_model


class LoadedPlane(NamedTuple):
    """A plane of a stack, read and made ready for the network.

    Attributes:
        plane: with its image and what the model is shown of it, without a result.
        enlarged: the plane on the grid of the result, in the units of the network, (H, W).
    """

    plane: Restored
    enlarged: NDArray[np.float32]


class StackRestorer:
    """Restores the planes of a stack one by one.

    Args:
        model: any network, on any device.
        stack: the planes.
        magnification: of the result; by default the model's.
        per_plane: take black and white of each plane for itself, as for an image in a file of its
            own. Otherwise they are taken once for all planes of a channel.
        outliers: as in `prediction.super_resolve`.
        found: the survey of the stack; it is made when it is first needed.
        options: of `RunOptions`.
    """

    def __init__(
        self,
        model: Network,
        stack: Stack,
        *,
        magnification: float | None = None,
        per_plane: bool = False,
        outliers: Outliers = "keep",
        found: Survey | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        self.model = model
        self.stack = stack
        self.magnification = known_magnification(model, magnification)
        self.per_plane = per_plane
        self.outliers: Outliers = outliers
        self.options = options
        self._found = found

    @cached_property
    def found(self) -> Survey:
        """The survey of the stack."""
        return self._found or survey(self.stack, fits_range=self.model.fits_range)

    def contents(self) -> Contents:
        """Of the result: grey, with smaller pixels; all else as in the stack."""
        contents = self.stack.contents.restored(self.magnification)
        return replace(contents, dtype=result_type(self.stack))

    def restore(self, number: int, **options: Unpack[RunOptions]) -> Restored:
        """Restore a plane.

        Args:
            number: of the plane, from 0.
            options: of `RunOptions`, in place of those given before.

        Raises:
            ImageError: if it cannot be read.
        """
        return self.restore_loaded(self.load(number), **options)

    def load(self, number: int) -> LoadedPlane:
        """The first step of `restore`. It runs no network."""
        image, exposure = self._exposed(number)
        name = Path(self.stack.name_of(number))
        plane = Restored(
            name,
            name,
            image,
            exposure=exposure,
            magnification=self.magnification,
            unit=image.high - image.low,
        )
        enlarged = enlarged_as_shown(image.pixels, exposure, self.magnification)
        return LoadedPlane(plane, enlarged)

    def restore_loaded(self, loaded: LoadedPlane, **options: Unpack[RunOptions]) -> Restored:
        """The second step of `restore`."""
        result = super_resolve_enlarged(
            self.model,
            loaded.enlarged,
            loaded.plane.exposure,
            self.magnification,
            self.outliers,
            **(self.options | options),
        )
        return replace(loaded.plane, result=result)

    def attend_to_all_planes(self, group: ProcessGroup | None = None) -> None:
        """From now on the attention of each plane is over all planes that can be read, exactly.

        They are read once for each attention block and flip. A network without attention gives the
        same as before.

        Args:
            group: processes that share the planes.

        Raises:
            TilingError: as `tiling.run_tiles`.
        """
        # readers, not planes: each is loaded when its turn comes
        planes = [
            partial(self._region_reader, number)
            for number in range(self.stack.planes)
            if number not in self.found.damaged
        ]

        # keys fit only to features of the same precision and magnification
        flips = self.options.get("flips")
        precision = chosen_precision(self.model, self.options.get("precision", "auto"))
        device = next(self.model.parameters()).device
        with computing_in(precision, device), at_magnification(self.model, self.magnification):
            self.options["keys"] = sum_over_images(
                self.model,
                planes,
                self.contents().plane_shape,
                side=self.options.get("tile"),
                flips=self.model.flips if flips is None else flips,
                group=group,
            )

    def _exposed(self, number: int) -> tuple[Micrograph, Exposure]:
        """A plane, and what the network is shown of it."""
        if self.per_plane:
            image = micrograph_of(self.stack, number)
            return image, exposure_for(self.model, reader(image.pixels), image.pixels.shape)
        brightness = self.found.channels[channel_of(self.stack, number)]
        image = micrograph_of(self.stack, number, brightness)
        return image, brightness.exposure(image.pixels)

    def _region_reader(self, number: int) -> Read:
        """Gives any region of a plane on the grid of the result, as the network is shown it."""
        return reader(within(self.load(number).enlarged))

    def values(self, number: int) -> NDArray:
        """A restored plane in the type and range of the file, (H, W)."""
        return values_of(self.restore(number))


def values_of(restored: Restored) -> NDArray:
    """The result in the type and range of the image; without one the standard error in its values,
    float32.
    """
    assert restored.source is not None
    if restored.result is None:
        assert restored.error is not None
        return (restored.error * restored.unit).astype(np.float32)
    return restored.source.to_raw(restored.result)


def restore_stack(
    model: Network | str | os.PathLike[str],
    stack: Any,
    *,
    axes: str | None = None,
    steps: Mapping[str, Step] | None = None,
    magnification: float | None = None,
    per_plane: bool = False,
    outliers: Outliers = "keep",
    **options: Unpack[RunOptions],
) -> Any:
    """Restore a volume, a time series or another stack lazily: a plane when it is asked for.

    Before the first plane all planes are read once for the brightness that they share, unless
    `per_plane`.

    Args:
        model: any network, on any device, or the name of a shipped model, such as "sem", or
            the path of a model or run.
        stack: what `open_stack` gives, or an array in memory, of Zarr or of dask.
        axes: of an array: a letter each, such as "ZYX".
        steps: of an array: from one position to the next, such as {"Z": Step(30.0, "nm")}.
        magnification: result pixels per pixel along Y and X; by default that of the pairs the model
            was trained on.
        per_plane: take black and white of each plane for itself.
        outliers: as in `super_resolve`.
        options: tile, flips, precision, as in `super_resolve`.

    Returns:
        A `Stack` of the same axes, grey, in the type and range of `stack`; for dask's arrays one of
        dask with a chunk for each plane.

    Raises:
        AxesError: if the axes of an array are not given or do not fit.
        TypeError: for the path of a file.
        PredictionError: if the magnification is neither given nor known.
        ModelError: for an unknown name.
        ImageError: when a plane is asked for that cannot be read.
    """
    model = given_model(model)
    if isinstance(stack, str | os.PathLike):
        raise TypeError(f"stack is the path {os.fspath(stack)!r}: open it with aeanet.open_stack.")
    if axes is None and not isinstance(stack, Stack):
        raise AxesError("an array does not say what its axes are: give them, such as axes='ZYX'.")

    # an array becomes a stack, so that all below is for stacks
    given = stack if isinstance(stack, Stack) else Stack.of_array(stack, axes or "", steps)
    restorer = StackRestorer(
        model,
        given,
        magnification=magnification,
        per_plane=per_plane,
        outliers=outliers,
        **options,
    )

    # a stack again, whose planes are restored as they are asked for; dask is known by its name
    # alone
    result = Stack(restorer.contents(), restorer.values, given.path)
    is_dask = type(stack).__module__.partition(".")[0] == "dask"
    return result.to_dask() if is_dask else result


def specimen_rows(stack: Stack) -> int:
    """The rows of each plane above an information bar: the bar counts if the first plane, the
    middle one and the last one have it alike.
    """
    height = stack.contents.plane_shape[0]
    bars = set()
    for number in {0, stack.planes // 2, stack.planes - 1}:
        with suppress(ImageError):
            bars.add(find_bar(grey_of(stack.plane(number))))
    return height - bars.pop() if len(bars) == 1 else height
