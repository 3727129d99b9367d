"""The methods and the experiments that the paper's tables and figures need."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from aeanet.data.pairs import evenly_spaced
from aeanet.data.registration import RegisteredPair
from aeanet.data.specimens import split_by_specimen
from aeanet.errors import UserError
from aeanet.networks.registry import NETWORKS, short_options
from aeanet.training import Recipe

PAPER_STEPS = Recipe().steps
SECTIONS = {
    "table1": "methods, pooled and self-training; foreground and background",
    "table2": "shared references, batch-aware attention, number of references",
    "unseen": "samples of which training saw nothing",
    "fig4": "test crops side by side",
    "fig5": "relevance of references",
    "fig6": "quality against tile size",
}
Strategy = Literal["pooled", "self", "unseen"]


class ReproduceError(UserError):
    """A study that cannot be made."""


@dataclass(frozen=True)
class Method:
    """A network of `NETWORKS` with its options; `key` names its folder, `title` its line in
    tables.
    """

    key: str
    title: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


AEANET = Method("aeanet", "AEANet", "aeanet", {"references": 64, "batch_aware": True})
TITLES = {
    "unet": "U-Net",
    "shuffled": "Shuffled U-Net",
    "gvtnet": "GVTNet",
    "vdsr": "VDSR",
    "edsr": "EDSR",
    "rcan": "RCAN",
    "srsw": "SRSW",
    "lbnlm": "Paired LB-NLM",
}
ABLATION = (
    Method(
        "aeanet-sr64",
        "shared references (SR) only",
        "aeanet",
        {"references": 64, "batch_aware": False},
    ),
    Method("aeanet-ba", "batch-aware (BA) only", "aeanet", {"references": 0, "batch_aware": True}),
    Method("aeanet-ba-sr16", "BA + SR (16)", "aeanet", {"references": 16, "batch_aware": True}),
    Method("aeanet-ba-sr32", "BA + SR (32)", "aeanet", {"references": 32, "batch_aware": True}),
    replace(AEANET, title="BA + SR (64)"),
)
TILED = (
    Method("gvtnet", "GVTNet", "gvtnet"),
    *(replace(m, title=f"AEANet ({m.options['references']})") for m in ABLATION[2:]),
)


def method(name: str) -> Method:
    """The method for a name in `registry.NETWORKS`.

    Raises:
        ReproduceError: if there is none.
    """
    if name not in NETWORKS:
        raise ReproduceError(f"there is no method {name!r}; the methods are {', '.join(NETWORKS)}.")
    return AEANET if name == "aeanet" else Method(name, TITLES.get(name, name), name)


def recipe_for(budget: float) -> Recipe:
    """The recipe for a share of the paper's 120,000 steps: the paper's from 1 on, below 1 the short
    one.

    Raises:
        ReproduceError: if the share is less than one step.
    """
    steps = round(PAPER_STEPS * budget) if math.isfinite(budget) else 0
    if steps < 1:
        raise ReproduceError(
            f"the budget {budget:g} of {PAPER_STEPS:,} steps is no step at all: wanted 0.0001 or "
            "more."
        )
    return Recipe(steps=steps) if budget >= 1 else Recipe.short(steps=steps)


@dataclass(frozen=True)
class Experiment:
    """One training and its scoring.

    Attributes:
        strategy: how its pairs were chosen.
        method: the network.
        seed: of the training.
        train_on: names of the pairs on whose left columns it is trained.
        score_on: names of the pairs whose right columns are scored.
        part: the pair or the part of the samples that it is about; "" for all pairs.
    """

    strategy: Strategy
    method: Method
    seed: int
    train_on: tuple[str, ...]
    score_on: tuple[str, ...]
    part: str = ""

    @property
    def key(self) -> str:
        """The experiment's folder in the report."""
        part = f"{self.part}/" if self.part else ""
        return f"{self.strategy}/{self.method.key}/{part}seed{self.seed}"

    @property
    def label(self) -> str:
        about = {
            "pooled": "on all pairs",
            "self": f"on {self.part} alone",
            "unseen": f"leaving out {self.part}",
        }
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.method.title} {about[self.strategy]}{seed}"


@dataclass(frozen=True)
class Study:
    """All that a report depends on.

    Attributes:
        pairs: registered pairs by name.
        recipe: of each training, with its seed replaced.
        methods: of Table 1, names in `registry.NETWORKS`.
        sections: some of `SECTIONS`.
        seeds: the number of trainings of each kind, with seeds 0, 1, ...
        self_pairs: the number of pairs, evenly spaced by name, each of which a network is trained
            on alone; None for all.
        folds: the number of parts into which the samples are split for "unseen"; at most one per
            sample.
        samples: pair name -> its sample, for samples that several pairs show.
        refused: name -> reason, for pairs that cannot be used.
        residual: whether the networks of the U-Net family learn what to add to the image
            (`unet.UShape`).

    Raises:
        ReproduceError: for an unknown section, or if no method is named.
    """

    pairs: Mapping[str, RegisteredPair]
    recipe: Recipe
    methods: Sequence[str] = ("unet", "gvtnet", "aeanet")
    sections: Sequence[str] = tuple(SECTIONS)
    seeds: int = 1
    self_pairs: int | None = None
    folds: int = 4
    samples: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    residual: bool = False

    def __post_init__(self) -> None:
        for section in self.sections:
            if section not in SECTIONS:
                raise ReproduceError(
                    f"there is no section {section!r}; the sections are {', '.join(SECTIONS)}."
                )
        if not self.methods:
            raise ReproduceError("no method is named: name at least one.")

    @cached_property
    def table1(self) -> list[Method]:
        return [method(name) for name in self.methods]

    def network(self, method: Method) -> dict[str, Any]:
        """Name and options of a method's network, as `build_model` takes them."""
        return {
            "name": method.name,
            **method.options,
            **(short_options(method.name) if self.residual else {}),
        }

    @cached_property
    def self_names(self) -> list[str]:
        names = list(self.pairs)
        return names if self.self_pairs is None else evenly_spaced(names, self.self_pairs)

    @cached_property
    def parts(self) -> list[list[str]]:
        """The names of the pairs, split by sample; no parts if there is only one sample."""
        folds = min(self.folds, len({self.samples.get(name, name) for name in self.pairs}))
        return split_by_specimen(list(self.pairs), self.samples, folds) if folds > 1 else []

    @cached_property
    def experiments(self) -> list[Experiment]:
        """All experiments, each once; pooled ones first, as most sections need them."""
        # by key: what several sections need is trained once
        everything = tuple(self.pairs)
        wanted: dict[str, Experiment] = {}

        def add(
            strategy: Strategy,
            method: Method,
            train_on: tuple[str, ...],
            score_on: tuple[str, ...],
            part: str = "",
        ) -> None:
            for seed in range(self.seeds):
                experiment = Experiment(strategy, method, seed, train_on, score_on, part)
                wanted.setdefault(experiment.key, experiment)

        # networks of all pairs, which these sections score, compare or draw
        pooled: dict[str, Sequence[Method]] = {
            "table1": self.table1,
            "unseen": self.table1,
            "fig4": self.table1,
            "table2": ABLATION,
            "fig5": [AEANET],
            "fig6": TILED,
        }
        for section, methods in pooled.items():
            for one in methods if section in self.sections else ():
                add("pooled", one, everything, everything)

        # each part of the samples is scored by networks that saw none of its pairs
        if "unseen" in self.sections:
            for part, held_out in enumerate(self.parts):
                rest = tuple(name for name in everything if name not in held_out)
                for one in self.table1:
                    add("unseen", one, rest, tuple(held_out), f"part{part + 1}")

        # a network of one pair is scored on the test columns of that pair alone
        if "table1" in self.sections:
            for one in self.table1:
                for name in self.self_names:
                    add("self", one, (name,), (name,), name)
        return list(wanted.values())
