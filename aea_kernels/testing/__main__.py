"""`python -m aea_kernels.testing MODEL --input 1,3,64,64 --groups d4`: the symmetries of a network,
layer by layer, without a test.

Exits with 1 where one is broken, with 2 where the command says nothing that can be measured or
written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..core.figures import new_figure
from .checks import require_place
from .named import acts_of, groups_of, input_of, network_of
from .report import equivariance_report

EXAMPLE = "example: python -m aea_kernels.testing monai:BasicUNet --input 1,1,64,64 --groups d4"
MODEL = (
    "MODULE:FACTORY or MODULE:FACTORY(ARGUMENTS), timm:NAME, monai:NAME, torchvision:NAME, "
    "hf:NAME, FILE.pt2 or FILE.onnx"
)
GROUPS = "as d4,translations(4)"
ACTS = "how the output transforms, as vector, regular(d4) or {'flow': vector, 'score': invariant}"


def main(arguments: Sequence[str] | None = None) -> int:
    # a model is enough: everything else has a default
    parser = argparse.ArgumentParser(
        prog="python -m aea_kernels.testing",
        description="Which symmetries a network has, and which layers break them.",
        epilog=EXAMPLE,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--input", default="1,3,64,64", metavar="SHAPE", help="of its input")
    parser.add_argument("--groups", default="d4", help=GROUPS)
    parser.add_argument("--acts", help=ACTS)
    parser.add_argument("--json", metavar="FILE", help="write the report there")
    parser.add_argument("--plot", metavar="FILE", help="draw it there, as *.png or *.pdf")
    given = parser.parse_args(arguments)

    try:
        # places of files first: a report takes minutes
        for path in (given.json, given.plot):
            if path:
                require_place(path)
        if given.plot:
            _require_format(given.plot)

        # names are looked up before anything is measured
        network = network_of(given.model)
        x, groups = input_of(given.input), groups_of(given.groups)
        acts = acts_of(given.acts) if given.acts else None
        with torch.no_grad():
            report = equivariance_report(network, x, groups, acts=acts)

        # the table first: it is there even if a file cannot be written
        print(report)
        if given.json:
            report.save(given.json)
        if given.plot:
            report.plot().savefig(given.plot)
    except (ValueError, ImportError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2

    # of each group the network itself, the first in the order of calls, decides
    return int(any(layers[0].accumulated.verdict.fails for layers in report.layers.values()))


def _require_format(path: str) -> None:
    """Raise ValueError where no plot can be written in the format that a file is named by,
    ImportError without matplotlib.
    """
    suffix = Path(path).suffix.removeprefix(".").lower()
    known = new_figure(1.0, 1).canvas.get_supported_filetypes()
    if suffix and suffix not in known:
        raise ValueError(f"{path} names no format of a plot, expected one of {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
