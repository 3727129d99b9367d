"""Volumes, time series and other files of several planes, read and written plane by plane."""

from aeanet.io.stacks.contents import AxesError, Contents, Step
from aeanet.io.stacks.opening import open_stack
from aeanet.io.stacks.stack import Stack

__all__ = ["AxesError", "Contents", "Stack", "Step", "open_stack"]
