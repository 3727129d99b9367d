"""`python -m aeanet.data.synthetic OUT.png`: a contact sheet of the simulator."""

import argparse
from pathlib import Path

from aeanet.figures.sheet import draw_sheet
from aeanet.figures.style import render
from aeanet.io.atomic import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeanet.data.synthetic", description=__doc__)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the specimens and the scans; default 0"
    )
    parser.add_argument("--columns", type=int, default=4, help="specimens of each kind; default 4")
    options = parser.parse_args()
    write_atomically(options.out, render(lambda: draw_sheet(options.seed, columns=options.columns)))


if __name__ == "__main__":
    main()
