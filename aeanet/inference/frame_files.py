"""Repeated scans from files: one image in each, or the planes of one stack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aeanet.data.frames import FrameError
from aeanet.errors import sentence_or_raise
from aeanet.inference.brightness import micrograph_of, survey
from aeanet.inference.stacks import specimen_rows
from aeanet.io.images import Micrograph, read_image
from aeanet.io.stacks import AxesError, Stack, open_stack


@dataclass
class ReadFrames:
    """Frames of one size, by name.

    Attributes:
        images: the frames, in order.
        unread: what is wrong with those that cannot be read.
        doubt: why they may be no scans of one field; "" where nothing speaks against it.
    """

    images: dict[str, Micrograph] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    doubt: str = ""


def read_frames(
    files: Sequence[Path],
    *,
    keep_bar: bool = False,
    chosen: str | None = None,
    on_frame: Callable[[str, float], None] | None = None,
) -> ReadFrames:
    """Read frames from two or more files, or all planes of one stack.

    Args:
        files: images, or one stack or folder of numbered slices.
        keep_bar: keep the information bar of the microscope as part of each frame.
        chosen: which of several images in each file it is, as in `read_image`.
        on_frame: called with the name of each frame and the share that is done before it.

    Raises:
        FrameError: fewer than two can be read, or they differ in size.
        ImageError, AxesError: a stack that cannot be opened.
    """
    # one file may be a stack; who chooses among its images says that it is none
    told = on_frame or (lambda name, share: None)
    if len(files) == 1 and chosen is None:
        found = _planes(files[0], keep_bar, told)
    else:
        found = ReadFrames()

        # a frame that cannot be read is named, and the others do without it
        for done, file in enumerate(files):
            told(file.name, done / len(files))
            try:
                found.images[str(file)] = read_image(file, keep_bar=keep_bar, image=chosen)
            except Exception as error:
                found.unread[str(file)] = sentence_or_raise(error)
    _check(found)
    return found


def _planes(file: Path, keep_bar: bool, told: Callable[[str, float], None]) -> ReadFrames:
    """The planes of a stack, which all have the same black and white."""
    # channels differ by more than noise and drift, so they are no frames
    found = ReadFrames()
    with _open(file) as whole:
        channels = whole.contents.sizes.get("C", 1)
        if channels > 1:
            raise FrameError(f"{file} holds {channels} channels; frames of one field are wanted.")
        if "Z" in whole.axes:  # ImageJ calls any stack so, so it is no reason to refuse it
            found.doubt = (
                f"{file} says that its planes are slices of a volume (axis Z). If so, the result "
                "mixes depths: frames are to show one field. `aeanet restore` takes volumes."
            )

        # bar, black and white are those of all planes, so that frames stay comparable
        stack = whole if keep_bar or whole.planes < 2 else whole.cropped(specimen_rows(whole))
        known = survey(stack, fits_range=False)
        for number in range(stack.planes):
            name = f"{stack.contents.name_of(number)} of {file.name}"
            told(name, number / stack.planes)
            if number in known.damaged:
                found.unread[name] = known.damaged[number]
            else:
                found.images[name] = micrograph_of(stack, number, known.channels[0])
    return found


def _open(file: Path) -> Stack:
    """The stack, also if it does not say what its axis is: a frame is a frame."""
    try:
        return open_stack(file)
    except AxesError:
        return open_stack(file, axes="TYX")


def _check(found: ReadFrames) -> None:
    """Raise FrameError unless there are two frames, of one size."""
    # one frame given is another mistake than one frame that is left of several
    number = len(found.images) + len(found.unread)
    if number == 1 and not found.unread:
        raise FrameError(
            "One frame is given (a file counts once), two or more are wanted; `aeanet restore` "
            "takes one."
        )
    if len(found.images) < 2:
        reasons = " ".join(found.unread.values())
        raise FrameError(
            f"{len(found.images)} of {number} frames could be read, two or more are wanted: "
            f"{reasons}"
        )

    # bars count: a frame may be smaller by the bar that was found in it alone
    first, *others = found.images
    for name in others:
        if found.images[name].pixels.shape != found.images[first].pixels.shape:
            sizes = " and ".join(f"{n} has {_size(found.images[n])}" for n in (first, name))
            raise FrameError(f"Frames of one size are wanted, but {sizes}.")


def _size(frame: Micrograph) -> str:
    height, width = frame.pixels.shape
    without = f" without its bar of {frame.bar} rows" if frame.bar else ""
    return f"{width} x {height} px{without}"
