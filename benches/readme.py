"""`python -m benches.readme [DEMO_FOLDER]`: write the recorded numbers into the READMEs, so that
none is typed by hand.

With the folder of an `aeanet demo`, its scores are recorded under `results/` first.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from .record import RESULTS
from .sections import SECTIONS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md"]
PAGES += [ROOT / folder / "README.md" for folder in ("aea_kernels", "aea_kernels/testing")]
PAGES += [ROOT / folder / "README.md" for folder in ("aeanet", "benches")]
MARKED = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n).*?(<!-- /(?P=name) -->)", re.DOTALL)


def main() -> None:
    if len(sys.argv) > 1:
        shutil.copy(Path(sys.argv[1]) / "demo.json", RESULTS / "demo.json")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(with_records(text), encoding="utf-8")


def with_records(text: str) -> str:
    """A README's text with what the records say between its markers.

    Raises:
        KeyError: a marker has a name that is not in `SECTIONS`.
    """

    def filled(match: re.Match[str]) -> str:
        return f"{match[1]}{SECTIONS[match['name']]()}\n{match[3]}"

    return MARKED.sub(filled, text)


def sections_of(text: str) -> list[str]:
    """The names of the generated parts of a README."""
    return [match["name"] for match in MARKED.finditer(text)]


if __name__ == "__main__":
    main()
