"""Volumes, time series and other files of several planes, read and written plane by plane."""

from aeanet.io.stacks.contents import AxesError, Contents, Step
from aeanet.io.stacks.opening import find_stack, open_stack
from aeanet.io.stacks.stack import Stack
from aeanet.io.stacks.unfinished import Unfinished, begin, finish, unfinished
from aeanet.io.stacks.writing import stack_name

__all__ = [
    "AxesError",
    "Contents",
    "Stack",
    "Step",
    "Unfinished",
    "begin",
    "find_stack",
    "finish",
    "open_stack",
    "stack_name",
    "unfinished",
]
