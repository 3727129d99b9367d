"""`python -m benches.denoising PAIRS`: compare other denoisers, each with its best strength, with
networks.

python -m benches.denoising pairs/                  methods without training, and the shipped model
python -m benches.denoising pairs/ --train work/    also fine-tuned, and from scratch (hours)
python -m benches.denoising pairs/ --methods bm3d   one method
python -m benches.denoising --curve                 gain against noise, on simulated images

What is in the record already is not computed again, so a run that was stopped goes on. BM3D needs
`pip install -e '.[compare]'`; its package is not for commercial use.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib.util import find_spec
from pathlib import Path

from aeanet.data.pairs import load_pairs
from aeanet.networks.registry import MODEL_FILE, model_path

from ..record import RESULTS, commit
from .curve import draw, measure
from .methods import METHODS
from .networks import FEWER_FLIPS, SHIPPED, score_network, train_each
from .scores import Scores, raw_images, score_method
from .table import table

RECORD = RESULTS / "denoising.json"


def forget_other_model(scores: Scores, model: str) -> None:
    """Take the gains of another shipped model, and of what was fine-tuned from it, out of the
    record.
    """
    path = model_path(model)
    file = path / MODEL_FILE if path.is_dir() else path
    fingerprint = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    if scores.about.get("model") != fingerprint:
        for title in list(scores.models):
            if title.startswith("shipped") or title in (SHIPPED, *FEWER_FLIPS):
                del scores.models[title]
    scores.about["model"] = fingerprint


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, nargs="?", help="folder of pairs, not registered")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--model", default="sem", help="the shipped model, by name, run folder or file; '' for none"
    )
    parser.add_argument("--train", type=Path, help="folder for the networks trained here")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--record", type=Path, default=RECORD)
    chosen = parser.parse_args()

    # the curve needs no pairs, and the pairs need no curve
    if chosen.curve:
        found = measure(chosen.model, chosen.record.with_name("noise-curve.json"))
        print(draw(found, chosen.record.with_name("noise-curve.png")))
    if chosen.pairs is not None:
        print(table(compare(chosen)))


def compare(chosen: argparse.Namespace) -> Scores:
    """The methods and networks that were asked for, on the pairs; what is new is in the record."""
    # raw LR too: some methods are best applied before the interpolation
    scores = Scores.read(chosen.record)
    pairs = load_pairs(chosen.pairs).pairs
    scores.about |= {"commit": commit(), "pairs": len(pairs)}
    raw = raw_images(chosen.pairs, pairs)

    # gains of another model are dropped first: scores that are there are not computed again
    if chosen.model:
        forget_other_model(scores, chosen.model)
        score_network(scores, SHIPPED, chosen.model, pairs)
        for title, flips in FEWER_FLIPS.items():
            score_network(scores, title, chosen.model, pairs, flips)

    # a line after every image, since BM3D takes about a minute for each
    for name in chosen.methods:
        if name == "bm3d" and find_spec("bm3d") is None:
            print("BM3D is left out. For non-commercial use: pip install -e '.[compare]'")
            continue
        for line in score_method(scores, name, pairs, raw):
            print(line, flush=True)

    # last, since training takes longest and all else is in the record by then
    if chosen.train:
        for title, run in train_each(chosen.model, pairs, chosen.train).items():
            score_network(scores, title, run, pairs)
    scores.write()
    return scores


if __name__ == "__main__":
    main()
