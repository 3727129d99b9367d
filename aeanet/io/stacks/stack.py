"""Planes that are read when they are asked for."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import ImageError, decoding
from aeanet.io.pixel_size import PixelSize
from aeanet.io.stacks.contents import AxesError, Contents, Step, checked_axes

PlaneReader = Callable[[int], NDArray]
"""The number of a plane, from 0 in the order of the axes -> its values, (Y, X) or (Y, X, S)."""


class Stack(AbstractContextManager["Stack"]):
    """Planes of one size with named axes, of which each is read when it is asked for.

    It is like an array: `stack[3]` reads one plane of a volume, `np.asarray(stack)` all of them. It
    closes its file at the end of a `with`, or by `close`. Threads can share it; they read one after
    the other.

    Args:
        contents: what it holds.
        read: gives the values of a plane.
        path: of the file; None for what is in no file.
        resources: what is to be closed with it.
    """

    def __init__(
        self,
        contents: Contents,
        read: PlaneReader,
        path: Path | None = None,
        resources: ExitStack | None = None,
    ) -> None:
        self.contents = contents
        self.path = path
        self._read = read
        self._resources = resources or ExitStack()
        self._lock = Lock()  # threads that read share the place in the file

    @classmethod
    def of_array(cls, values: Any, axes: str, steps: Mapping[str, Step] | None = None) -> "Stack":
        """An array, or what is like one (dask, Zarr), as a stack.

        Args:
            values: the array.
            axes: a letter for each of its axes, such as "ZYX" (`Contents`).
            steps: as in `Contents`.

        Raises:
            AxesError: if the axes do not fit to it.
        """
        axes = checked_axes(axes, values.shape)
        contents = Contents(axes, tuple(values.shape), np.dtype(values.dtype), steps or {})
        return cls(contents, lambda plane: values[contents.index(plane)])

    @property
    def axes(self) -> str:
        """A letter each: of T (time), Z (depth) and C (channel), then Y, X, and S for colours."""
        return self.contents.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.contents.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the values in the file."""
        return self.contents.dtype

    @property
    def steps(self) -> Mapping[str, Step]:
        """From one position to the next, for each axis of which the file states it."""
        return self.contents.steps

    @property
    def pixel_size(self) -> PixelSize | None:
        """Of each plane, if the file states it."""
        return self.contents.pixel_size

    @property
    def planes(self) -> int:
        """How many there are."""
        return self.contents.planes

    def name_of(self, number: int) -> str:
        """Such as "plane 7 (T 2, Z 3) of a.tif", all from 1."""
        whose = "" if self.path is None else f" of {self.path}"
        return self.contents.name_of(number) + whose

    def plane(self, number: int) -> NDArray:
        """The values of a plane, (Y, X) or (Y, X, S).

        Args:
            number: from 0 in the order of the axes.

        Raises:
            ImageError: naming the plane, if it cannot be read or has another shape.
            IndexError: if there is no such plane.
        """
        if not 0 <= number < self.planes:
            raise IndexError(f"plane {number} of a stack of {self.planes} planes")
        with self._lock, decoding(Path(self.name_of(number))):
            values = np.asarray(self._read(number))
        wanted = self.shape[len(self.contents.leading) :]
        if values.shape != wanted:
            shapes = [" x ".join(map(str, shape)) for shape in (values.shape, wanted)]
            raise ImageError(
                f"{self.name_of(number)} has {shapes[0]} values, wanted {shapes[1]} as in others."
            )
        return values

    def cropped(self, rows: int) -> "Stack":
        """The first rows of each plane, such as those above an information bar."""
        at = self.axes.index("Y")
        shape = *self.shape[:at], rows, *self.shape[at + 1 :]
        contents = replace(self.contents, shape=shape)
        return Stack(contents, lambda number: self.plane(number)[:rows], self.path, self._resources)

    def channel(self, wanted: str) -> "Stack":
        """One channel, by its name or its number from 1; the stack itself where it has no axis C.

        Raises:
            AxesError: if there is none or several of that name.
        """
        # Without an axis C there is one channel. Names count where each channel has one: a stack
        # that was given other axes than its file states may have more of them, or fewer.
        count = self.contents.sizes.get("C", 1)
        channels = self.contents.channels
        if len(channels) != count:
            channels = ()

        # a name counts before a number, as among the images of a file
        names = [name.casefold() for name in channels]
        numbers = [index for index, name in enumerate(names) if name == wanted.casefold()]
        if not numbers and wanted.isdecimal() and 1 <= int(wanted) <= count:
            numbers = [int(wanted) - 1]
        if len(numbers) != 1:
            listed = f" ({', '.join(channels)})" if channels else ""
            held = f"{count} channel{'s' * (count != 1)}{listed}"
            raise AxesError(f"{self.path} holds {held}; none or several are called {wanted!r}.")
        if "C" not in self.axes:
            return self

        # what is left has no axis of channels, and its planes are some of those here
        at = self.axes.index("C")
        axes, shape = self.axes.replace("C", ""), self.shape[:at] + self.shape[at + 1 :]
        contents = replace(self.contents, axes=axes, shape=shape, channels=())
        every = np.arange(self.planes).reshape(self.contents.leading)
        planes = every.take(numbers[0], at).ravel().tolist()
        return Stack(
            contents, lambda number: self.plane(planes[number]), self.path, self._resources
        )

    # as NumPy's arrays

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray:
        keys = list(key) if isinstance(key, tuple) else [key]
        if any(part is Ellipsis for part in keys):
            at = next(index for index, part in enumerate(keys) if part is Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)

        # The keys of the leading axes choose planes, the others a part of each.
        leading = self.contents.leading
        numbers = np.arange(self.planes).reshape(leading)
        chosen = np.asarray(numbers[tuple(keys[: len(leading)])])
        within = tuple(keys[len(leading) :])
        planes = [self.plane(int(number))[within] for number in chosen.ravel()]
        if not planes:
            return np.empty((*chosen.shape, *self.shape[len(leading) :]), self.dtype)
        return np.stack(planes).reshape((*chosen.shape, *planes[0].shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        if copy is False:
            raise ValueError("a stack is read into a new array, so it cannot be had without a copy")
        return np.asarray(self[...], dtype)

    def to_dask(self) -> Any:
        """A dask array with a chunk for each plane, which is read when it is computed.

        Raises:
            ModuleNotFoundError: if dask is not installed.
        """
        from dask.array import from_array

        leading = len(self.contents.leading)
        chunks = (1,) * leading + self.shape[leading:]
        nothing = np.empty((0,) * self.ndim, self.dtype)
        return from_array(self, chunks=chunks, name=False, asarray=True, meta=nothing)

    # as files

    def close(self) -> None:
        self._resources.close()

    def __exit__(self, *_: object) -> None:
        self.close()
