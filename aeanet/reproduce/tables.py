"""The paper's tables from the results of a study, with the paper's own numbers."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aeanet.reproduce.plan import ABLATION, AEANET, Method, Strategy, Study, method
from aeanet.reproduce.run import Results
from aeanet.reproduce.table import Cell, Column, Table
from aeanet.scoring.confidence import Estimate
from aeanet.scoring.evaluation import Evaluation, Measure, Part, improvement

Columns = list[tuple[Column, Callable[[Method], Cell]]]

# Xie, Ding & Ji, Tables 1 and 2: Δ PSNR (dB), Δ SSIM; in the right part of Table 1 foreground and
# background Δ PSNR.
PAPER: dict[tuple[Strategy, str], str] = {
    ("pooled", "vdsr"): "1.25 / 0.047",
    ("pooled", "rcan"): "1.59 / 0.051",
    ("pooled", "edsr"): "1.35 / 0.051",
    ("pooled", "lbnlm"): "0.78 / 0.031",
    ("pooled", "unet"): "1.46 / 0.074",
    ("pooled", "gvtnet"): "1.87 / 0.086",
    ("pooled", "aeanet"): "2.10 / 0.087",
    ("pooled", "aeanet-sr64"): "2.04 / 0.085",
    ("pooled", "aeanet-ba"): "1.96 / 0.084",
    ("pooled", "aeanet-ba-sr16"): "1.98 / 0.085",
    ("pooled", "aeanet-ba-sr32"): "2.02 / 0.085",
    ("self", "vdsr"): "2.07 / 0.051",
    ("self", "rcan"): "2.07 / 0.050",
    ("self", "edsr"): "2.06 / 0.052",
    ("self", "lbnlm"): "1.67 / 0.037",
    ("self", "unet"): "1.42 / 0.036",
    ("self", "gvtnet"): "1.81 / 0.078",
    ("self", "aeanet"): "1.06 / 0.032",
}
PAPER_PARTS: dict[tuple[Strategy, str], str] = {
    ("self", "vdsr"): "0.97 / 2.83",
    ("self", "srsw"): "−0.25 / 2.15",
    ("self", "lbnlm"): "0.23 / 2.65",
    ("pooled", "aeanet"): "1.15 / 2.42",
}


def build_tables(study: Study, results: Results) -> list[Table]:
    """The tables of the study's sections, in the paper's order, then the pairs and the
    trainings.
    """
    estimates = Estimates(study, results)
    tables = []
    if "table1" in study.sections:
        tables += [_table1_left(estimates), _table1_right(estimates)]
    if "table2" in study.sections:
        tables.append(_table2(estimates))
    if "unseen" in study.sections and study.parts:
        tables.append(_unseen(estimates))
    return [*tables, _pairs(estimates), _trainings(results)]


@dataclass(frozen=True)
class Estimates:
    """Estimates of a study's results by strategy and method."""

    study: Study
    results: Results

    def of(self, strategy: Strategy, method: Method) -> dict[int, Evaluation]:
        """Seed -> its evaluation; seeds that failed are not there."""
        return self.results.evaluations.get((strategy, method.key), {})

    def gain(
        self,
        strategy: Strategy,
        method: Method,
        measure: Measure = "delta_psnr",
        part: Part | None = None,
    ) -> Estimate | None:
        evaluations = list(self.of(strategy, method).values())
        return improvement(evaluations, measure, part=part, samples=self.study.samples)

    def difference(self, a: tuple[Strategy, Method], b: tuple[Strategy, Method]) -> Estimate | None:
        """Mean of Δ PSNR of a minus that of b, pair by pair; None for a method against itself."""
        ours, others = self.of(*a), self.of(*b)
        common = [seed for seed in ours if seed in others]
        if a == b or not common:
            return None
        return improvement(
            [ours[seed] for seed in common],
            against=[others[seed] for seed in common],
            samples=self.study.samples,
        )


def _by_method(
    key: str, title: str, methods: Sequence[Method], columns: Columns, note: str = ""
) -> Table:
    """A table with a row for each method; each column comes with the function that fills it."""
    rows = [[cell(one) for _, cell in columns] for one in methods]
    return Table(key, title, [column for column, _ in columns], rows, note)


def _table1_left(estimates: Estimates) -> Table:
    study = estimates.study
    # Pooled is one network for all pairs, self one for each pair.
    columns: Columns = [
        (Column("method"), lambda one: one.title),
        (Column("pooled Δ PSNR (dB)", 2, True), lambda one: estimates.gain("pooled", one)),
        (
            Column("pooled Δ SSIM", 3, True),
            lambda one: estimates.gain("pooled", one, measure="delta_ssim"),
        ),
        (Column("self Δ PSNR (dB)", 2, True), lambda one: estimates.gain("self", one)),
        (Column("self Δ SSIM", 3, True), lambda one: estimates.gain("self", one, "delta_ssim")),
        (
            Column("self − pooled (dB)"),
            lambda one: estimates.difference(("self", one), ("pooled", one)),
        ),
        (
            Column("pooled AEANet − method (dB)"),
            lambda one: estimates.difference(("pooled", AEANET), ("pooled", one)),
        ),
        (Column("paper, pooled"), lambda one: PAPER.get(("pooled", one.key))),
        (Column("paper, self"), lambda one: PAPER.get(("self", one.key))),
    ]

    # self-training may have been on some pairs only, which the note then names
    alone = ""
    if len(study.self_names) < len(study.pairs):
        alone = f"Self-training on {', '.join(study.self_names)} only. "
    title = (
        "Table 1, left: improvement over bicubic interpolation, one network for all pairs or one "
        "for each"
    )
    note = (
        f"{alone}Differences are taken pair by pair, on the pairs that both networks were scored "
        "on."
    )
    return _by_method("table1-left", title, study.table1, columns, note)


def _table1_right(estimates: Estimates) -> Table:
    # both strategies in one column, as the paper has them; those without results have no row
    rows: list[list[Cell]] = []
    strategies: tuple[Strategy, ...] = ("pooled", "self")
    for strategy in strategies:
        for one in estimates.study.table1:
            if estimates.of(strategy, one):
                title = f"{one.title} ({strategy})"
                bright = estimates.gain(strategy, one, part="foreground")
                dark = estimates.gain(strategy, one, part="background")
                rows.append([title, bright, dark, PAPER_PARTS.get((strategy, one.key))])

    columns = [
        Column("method"),
        Column("foreground", 2, True),
        Column("background", 2, True),
        Column("paper"),
    ]
    title = "Table 1, right: Δ PSNR (dB) of foreground and background"
    note = "The foreground are the pixels above Otsu's threshold on the HR test subimage."
    return Table("table1-right", title, columns, rows, note)


def _table2(estimates: Estimates) -> Table:
    # differences are from the paper's full network, the last of the ablation
    columns: Columns = [
        (Column("method, pooled"), lambda one: one.title),
        (Column("Δ PSNR (dB)", 2, True), lambda one: estimates.gain("pooled", one)),
        (Column("Δ SSIM", 3, True), lambda one: estimates.gain("pooled", one, "delta_ssim")),
        (
            Column("BA + SR (64) − method (dB)"),
            lambda one: estimates.difference(("pooled", ABLATION[-1]), ("pooled", one)),
        ),
        (Column("paper"), lambda one: PAPER.get(("pooled", one.key))),
    ]

    # the networks without either part come first, if they were trained
    first = [
        method(name)
        for name in ("unet", "gvtnet")
        if ("pooled", name) in estimates.results.evaluations
    ]
    title = "Table 2: what shared references and batch-aware attention bring"
    return _by_method("table2", title, [*first, *ABLATION], columns)


def _unseen(estimates: Estimates) -> Table:
    # both are scored on the same columns: the difference is what the sample's own images bring
    columns: Columns = [
        (Column("method"), lambda one: one.title),
        (Column("seen samples (dB)", 2, True), lambda one: estimates.gain("pooled", one)),
        (Column("unseen samples (dB)", 2, True), lambda one: estimates.gain("unseen", one)),
        (
            Column("unseen − seen (dB)"),
            lambda one: estimates.difference(("unseen", one), ("pooled", one)),
        ),
        (Column("seen, Δ SSIM", 3, True), lambda one: estimates.gain("pooled", one, "delta_ssim")),
        (
            Column("unseen, Δ SSIM", 3, True),
            lambda one: estimates.gain("unseen", one, "delta_ssim"),
        ),
    ]

    title = (
        "Unseen samples: Δ PSNR on the same test columns, the sample's other columns in the "
        "training or not"
    )
    note = (
        f"Not in the paper. The samples are split into {len(estimates.study.parts)} parts, all "
        "pairs of a sample in one; each part is scored by networks trained on the other parts "
        "alone."
    )
    return _by_method("unseen", title, estimates.study.table1, columns, note)


def _pairs(estimates: Estimates) -> Table:
    # the mean over seeds of each pair
    methods = [one for one in estimates.study.table1 if estimates.of("pooled", one)]
    scores = []  # of each method, by the name of the pair
    for one in methods:
        average = Evaluation.average(list(estimates.of("pooled", one).values()))
        scores.append({score.name: score for score in average.pairs})

    # how well the pair is registered, and beside it what each network gains on it
    columns = [
        "pair",
        "magnification",
        "residual (px)",
        "PSNR unregistered",
        "registered",
        "bicubic, test columns",
    ]
    rows: list[list[Cell]] = []
    for name, pair in estimates.study.pairs.items():
        report = pair.report
        of_pair = [by_name.get(name) for by_name in scores]
        bicubic = next((f"{score.psnr_bicubic:.2f}" for score in of_pair if score), None)
        placed = [f"{report.magnification:.3f}", f"{report.residual:.2f}"]
        psnrs = [f"{report.psnr_before:.2f}", f"{report.psnr_after:.2f}"]
        gains = [f"{score.delta_psnr:+.2f}" if score else None for score in of_pair]
        rows.append([name, *placed, *psnrs, bicubic, *gains])
    return Table(
        "pairs",
        "The pairs: registration, and Δ PSNR (dB) of each pooled network",
        [Column(title) for title in [*columns, *(one.title for one in methods)]],
        rows,
    )


def _trainings(results: Results) -> Table:
    """One line for all trainings of a method by one strategy."""
    # the key of an experiment begins with its strategy and method
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, training in results.trainings.items():
        strategy, method_key, *_ = key.split("/")
        kinds.setdefault((strategy, method_key), []).append(training)

    # networks of a kind have the same size and steps; of time and loss it is the mean
    rows: list[list[Cell]] = []
    for (strategy, method_key), found in kinds.items():
        parameters, steps = found[0]["parameters"], found[0]["steps"]
        seconds = statistics.fmean(training["seconds"] for training in found)
        losses = [training["loss"] for training in found if steps]
        numbers = [f"{len(found)}", f"{parameters:,}", f"{steps:,}", f"{seconds:,.0f}"]
        loss = f"{statistics.fmean(losses):.4f}" if losses else None
        rows.append([f"{strategy} {method_key}", *numbers, loss])
    titles = ["training", "networks", "parameters", "steps each", "seconds each", "last loss (MAE)"]
    return Table("trainings", "The trainings", [Column(title) for title in titles], rows)
