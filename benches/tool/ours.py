"""The time of `aeanet restore`: that of one image and its parts, and of each further image."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aeanet.cli import THREADS
from aeanet.imaging.precision import Precision
from aeanet.inference.files import load_file, restore_loaded
from aeanet.networks.registry import load_model

from .files import MAGNIFICATION, copies

FURTHER = 20  # images after the first
REPEATS = 5
_CHILD = """
import json, os, sys, time
import torch
imported = time.perf_counter(), time.process_time()
from aeanet.__main__ import main
from aeanet.networks import registry
load, network = registry.load_model, [0.0, 0.0]

def timed(name):
    model = load(name)
    def add(sign):
        network[0] += sign * time.perf_counter()
        network[1] += sign * time.thread_time()
    model.register_forward_pre_hook(lambda *_: add(-1))
    model.register_forward_hook(lambda *_: add(1))
    return model

registry.load_model = timed
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps({"imported": imported, "network": network, "cpu": time.process_time()}))
"""
"""Runs the command; the last line has clock and processor time after the import of PyTorch, within
the network, and the processor time of all.
"""


def measure(image: Path, precision: Precision, flips: int) -> dict[str, Any]:
    """Seconds of the first image and of each further one, and their ratios."""
    # the same command with one image and with all of them: the difference is the further ones
    with tempfile.TemporaryDirectory() as folder:
        files = copies(image, Path(folder), 1 + FURTHER)
        options = ["--precision", precision, "--flips", str(flips), "--out", folder + "/out"]
        options += ["--magnification", str(MAGNIFICATION)]
        first = command([*map(str, files[:1]), *options])
        many = command([*map(str, files), *options, "--overwrite"])

    # what a further image would take if there were its network alone
    alone = network_alone(image, precision, flips)
    further = (many["seconds"] - first["seconds"]) / FURTHER
    return {
        "precision": precision,
        "flips": flips,
        "first": first,
        "further_seconds": round(further, 3),
        "network_alone_seconds": round(alone, 3),
        "further_over_network": round(further / alone, 3),
    }


def seconds_of_large(large: Path, flips: int) -> float:
    """Of a large image at 1x, in the precision that is chosen by default."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--magnification", "1", "--flips", str(flips), "--out", folder]
        return command([str(large), *options])["seconds"]


def command(arguments: list[str]) -> dict[str, float]:
    """Seconds of `aeanet restore` and its parts: those of the clock, and of the processor."""
    # the command sets it too, but here PyTorch is imported before, to tell its import apart
    environment = THREADS | os.environ

    # one clock for both processes: the child says when its import ended
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", _CHILD, "restore", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    found = json.loads(ran.stdout.splitlines()[-1])
    imported = found["imported"][0] - start  # both clocks are the machine's

    # what neither the import nor the network explains
    rest = seconds - imported - found["network"][0]
    rest_cpu = found["cpu"] - found["imported"][1] - found["network"][1]
    parts = {
        "seconds": seconds,
        "import_torch": imported,
        "network": found["network"][0],
        "rest": rest,
        "rest_of_processor": rest_cpu,
    }
    return {name: round(value, 3) for name, value in parts.items()}


def network_alone(image: Path, precision: Precision, flips: int) -> float:
    """Seconds in which the network runs over an image that is read, nothing beside it."""
    # read beforehand, so that only the passes of the network are measured
    model = load_model("sem")
    loaded = load_file(model, image, MAGNIFICATION)
    spans: list[float] = []

    def add(*_: object) -> None:
        spans.append(time.perf_counter())

    model.register_forward_pre_hook(add)
    model.register_forward_hook(add)

    # beginnings and ends alternate, also over several flips
    totals = []
    for _ in range(REPEATS):
        spans.clear()
        restore_loaded(
            model, loaded, image, MAGNIFICATION, flips=flips, precision=precision, tile=4096
        )
        totals.append(sum(spans[1::2]) - sum(spans[::2]))
    return statistics.median(totals)
