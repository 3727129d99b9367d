"""Repeated scans of one field: aligned, the bad ones left out, and fused into one image."""

from aeanet.data.frames.alignment import AlignedFrames, FrameError, align_frames
from aeanet.data.frames.fusing import FusedFrames, fuse_aligned, fuse_frames
from aeanet.data.frames.resampling import resample

__all__ = [
    "AlignedFrames",
    "FrameError",
    "FusedFrames",
    "align_frames",
    "fuse_aligned",
    "fuse_frames",
    "resample",
]
