"""Whole networks at the size of the paper's images."""

from __future__ import annotations

from ..cases import MODEL_SHAPES, PRECISIONS, arithmetic, model_case, model_group
from .visit import Visit

CASES = [
    (name, training, how)
    for how in ("bfloat16", "float32", "tf32")
    for name, training in (("aeanet", False), ("sem", False), ("aeanet", True))
]


def measure(visit: Visit) -> None:
    """AEANet and the shipped model in prediction, and a training step of AEANet."""
    shown = [("aeanet", False, "float32"), ("sem", False, "float32")] if visit.tiny else CASES
    for name, training, how in visit.in_time(shown):
        assert how in PRECISIONS
        shape = (1, 1, 32, 32) if visit.tiny else MODEL_SHAPES[training]
        with arithmetic(how, visit.device):
            _, prepared = model_case(visit.device, name, shape, training)
            for captured in (False, True) if visit.device.type == "cuda" else (False,):
                group = model_group(how, training, captured)
                visit.race(group, name, lambda prepared=prepared: prepared, captured=captured)
