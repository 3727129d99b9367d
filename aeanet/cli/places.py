"""Places of results where a file is already: it is kept unless the user gives --overwrite, and
always if it is an input.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from aeanet.errors import UserError
from aeanet.io.atomic import same_file


class TargetError(UserError):
    """A result whose place is taken by a file that is to be kept."""


def check_place(file: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise TargetError if a result would replace one of the `inputs`, or without `overwrite` any
    file.
    """
    if not os.path.lexists(file):
        return
    if any(same_file(path, file) for path in inputs):
        raise TargetError(f"{file} would replace an input image; choose another place with --out.")
    if not overwrite:
        raise TargetError(f"{file} is already there; replace it with --overwrite.")
