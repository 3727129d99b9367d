"""The report: one HTML page that needs no other file, the same as Markdown, tables as CSV and JSON,
figures.
"""

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from aeanet import page
from aeanet.figures import Drawing, draw_crops, draw_curves, render
from aeanet.io.atomic import write_atomically
from aeanet.io.text import write_json
from aeanet.networks.baselines import Library
from aeanet.networks.registry import network_class
from aeanet.page import Cell, Facts, Page, Part, Section, Text, write_page
from aeanet.page.plots import plotted
from aeanet.reproduce.plan import AEANET, PAPER_STEPS, Study
from aeanet.reproduce.run import PAGE, RECORD, Results
from aeanet.reproduce.table import Table
from aeanet.reproduce.tables import Estimates, build_tables
from aeanet.scoring.confidence import EXPLANATION, Estimate

TITLE = "AEANet on your pairs"
LISTS = 2  # tables at the end: the pairs and the trainings
INTRODUCTION = (
    "The tables and figures of Xie, Ding & Ji, “Augmented Equivariant Attention Networks for "
    "Electron Microscopy Image Super-Resolution” (arXiv:2011.03633), trained and measured anew "
    "on these images by aeanet reproduce."
)
PROTOCOL = (
    "Protocol: each network sees the left three quarters of an image in training; it then restores "
    "the whole image, and PSNR and SSIM are taken on the right quarter, in three subimages, "
    "clipped and not rounded, over the pixels where LR and HR overlap. All numbers are "
    "improvements over the registered LR enlarged by bicubic interpolation. ± is half of the "
    f"{EXPLANATION}. The paper's numbers are of other images, and are given for orientation."
)


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page."""

    key: str
    title: str
    caption: str
    draw: Drawing


def write_report(study: Study, results: Results, folder: Path) -> Path:
    """Write index.html, report.md, results.json, tables/*.csv and figures/*.png.

    Returns:
        The page, index.html.

    Raises:
        OSError: if a file cannot be written.
    """
    # every table and figure is a file of its own too, and all numbers are in one JSON
    tables, figures = build_tables(study, results), list(_figures(results))
    facts = _facts(study)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for figure in figures:
        write_atomically(folder / "figures" / f"{figure.key}.png", render(figure.draw))
    for table in tables:
        write_atomically(folder / "tables" / f"{table.key}.csv", table.csv().encode())
    write_json(folder / RECORD, _record(study, results, tables) | {"facts": facts})

    # page and Markdown show the same; what is missing stands among the facts, not only in a log
    refused = [("left out", f"pair {name}: {reason}") for name, reason in study.refused.items()]
    failed = [("failed", f"{label}: {reason}") for label, reason in results.failed.items()]
    findings = _findings(study, results)
    entries = [*facts.items(), *refused, *failed]
    parts: list[Table | PageFigure] = [*tables[:-LISTS], *figures, *tables[-LISTS:]]
    write_atomically(folder / "report.md", _markdown(findings, entries, parts).encode())
    write_page(folder / PAGE, _page(findings, entries, parts))
    return folder / PAGE


def _page(
    findings: Sequence[str],
    facts: Sequence[tuple[str, str]],
    parts: Sequence[Table | PageFigure],
) -> Page:
    """The report as a page."""
    # before the sections: what was found, on which data, and how it was measured
    lead: list[Part] = [
        Text([INTRODUCTION], look="soft"),
        Text(findings, look="list"),
        Facts(facts),
        Text([PROTOCOL], look="soft"),
    ]

    # the key of a part is the address of its section
    sections = []
    for part in parts:
        if isinstance(part, PageFigure):
            shown: Part = plotted(part.title, part.caption, part.draw)
        else:
            shown = _table(part)
        sections.append(Section(part.title, [shown], part.key))
    return Page(TITLE, lead, sections)


def _table(table: Table) -> page.Table:
    columns = [column.title for column in table.columns]
    rows = [[Cell(text, best=best) for text, best in row] for row in table.shown()]
    files = {f"{table.key}.csv": table.csv(), f"{table.key}.md": table.markdown()}
    return page.Table(columns, rows, table.note, files=files)


def _markdown(
    findings: Sequence[str],
    facts: Sequence[tuple[str, str]],
    parts: Sequence[Table | PageFigure],
) -> str:
    """The report as Markdown; figures are files beside it."""
    # a name that the template misspells is an error, and its tags leave no empty lines
    environment = Environment(
        loader=PackageLoader("aeanet.reproduce", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("markdown.j2").render(
        title=TITLE,
        introduction=INTRODUCTION,
        protocol=PROTOCOL,
        findings=findings,
        facts=facts,
        parts=parts,
    )


def _figures(results: Results) -> Iterable[PageFigure]:
    """The figures of the sections that the study has."""
    # none for a section that the study leaves out
    if results.crops:
        yield PageFigure(
            "fig4",
            "Fig. 4: test crops side by side",
            "The pairs are evenly spaced by name, not chosen by result. Left: the test columns of "
            "HR, not used in training. The crop of them with most structure follows: as LR, as "
            "each pooled network restores it, and as HR. PSNR is that of the crop.",
            partial(draw_crops, results.crops),
        )

    # references are AEANet's alone, so this one may be missing where others are there
    if results.relevance:
        yield PageFigure(
            "fig5",
            "Fig. 5: what the shared references look for",
            "Relevance q(x) · k(f) of a reference f at every position x of the attention; "
            "brighter is more relevant, and a column has one scale. The references shown are those "
            "that differ most: the first has the largest variance over these images, each further "
            "one the largest share of its variance that those before it do not explain linearly.",
            results.relevance,
        )

    # both ways in one plot: what lies between them is what attention loses to its tile
    if results.curves:
        yield PageFigure(
            "fig6",
            "Fig. 6: quality against tile size",
            "Mean Δ PSNR on the test columns. Stitched tiles, with a margin of 32 px, each attend "
            "to themselves alone and miss the rest of the image; that costs the paper's networks "
            "up to 0.8 dB at 128 px. Exact tiles first sum the key statistics of attention over "
            "all tiles, and give the result of the whole image at any size.",
            partial(draw_curves, results.curves),
        )


def _facts(study: Study) -> dict[str, str]:
    # all sizes that occur, each once, and the budget beside the paper's
    recipe = study.recipe
    sizes = sorted({pair.hr.shape for pair in study.pairs.values()})
    share = recipe.steps / PAPER_STEPS
    schedule = {"halving": "halved every 10,000 steps", "one-cycle": "one cycle"}[recipe.schedule]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None

    # what a reader must know before comparing with the paper's numbers
    budget = [f"{recipe.steps:,} steps each, {share:.2%} of the paper's {PAPER_STEPS:,}"]
    if any(issubclass(network_class(one.name), Library) for one in study.table1):
        budget.append("methods by example (LB-NLM, SRSW) draw a library of patches and take none")
    training = [
        f"MAE, Adam, {recipe.batch} crops of {recipe.crop} px, learning rate {recipe.rate:g}, "
        f"{schedule}"
    ]
    if study.residual:
        training.append(
            "U-Net, GVTNet and AEANet learn what to add to the image, the paper's learn the image"
        )

    return {
        "pairs": f"{len(study.pairs)}: {', '.join(study.pairs)}",
        "HR size (px)": ", ".join(f"{width} × {height}" for height, width in sizes),
        "budget": "; ".join(budget),
        "recipe": "; ".join(training),
        "seeds": str(study.seeds),
        "device": gpu or f"CPU, {torch.get_num_threads()} thread(s)",
        "versions": f"aeanet {version('aeanet')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    }


def _findings(study: Study, results: Results) -> list[str]:
    """What the tables show, in sentences."""
    # a method whose trainings failed has no gain
    found = []
    estimates = Estimates(study, results)
    pooled = {one.title: estimates.gain("pooled", one) for one in study.table1}
    gains = {title: gain for title, gain in pooled.items() if gain}
    if gains:
        best = max(gains, key=lambda title: gains[title].mean)
        found.append(
            f"Of the methods, trained on all pairs, {best} gains most: {gains[best].text(2)} dB "
            "PSNR over bicubic interpolation."
        )

    # pair by pair, since pairs differ far more in difficulty than methods in gain
    for one in study.table1:
        difference = estimates.difference(("pooled", AEANET), ("pooled", one))
        if difference:
            found.append(f"AEANet against {one.title}, pair by pair: {_verdict(difference)}")

    # what these numbers cannot show stands beside what they show
    if study.recipe.steps < PAPER_STEPS:
        found.append(
            f"Each network had {study.recipe.steps / PAPER_STEPS:.2%} of the paper's steps: these "
            "numbers do not show what the methods reach when fully trained."
        )
    if study.seeds == 1:
        found.append(
            "Each network was trained with one seed. Two trainings by the paper's authors that "
            "differed only in the seed were 0.08 dB apart, and short trainings differ more. The "
            "intervals are over pairs alone, so they do not settle small differences."
        )
    return found


def _verdict(difference: Estimate) -> str:
    if difference.interval is None:
        return f"{difference.text(2)} dB, from too few samples for an interval."
    low, high = difference.interval
    explains = "does not explain" if low > 0 or high < 0 else "may explain"
    return f"{difference.text(2)} dB, which the variation between pairs {explains}."


def _record(study: Study, results: Results, tables: list[Table]) -> dict[str, Any]:
    return {
        "recipe": asdict(study.recipe),
        "residual": study.residual,
        "pairs": list(study.pairs),
        "self_pairs": study.self_names,
        "refused": dict(study.refused),
        "failed": results.failed,
        "interval": EXPLANATION,
        "tables": {table.key: table.record() for table in tables},
        "tile_sizes": [asdict(curve) for curve in results.curves],
    }
