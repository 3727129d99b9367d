"""Recipes and intervals: the paper's numbers, the schedules, and what is no recipe."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from aeanet.training import Interval, Recipe, RecipeError


def test_the_default_recipe_is_the_papers() -> None:
    recipe = Recipe()
    assert (recipe.steps, recipe.batch, recipe.crop) == (120_000, 8, 256)
    assert (recipe.betas, recipe.epsilon, recipe.max_seconds) == ((0.9, 0.999), 1e-8, None)
    rates = [
        recipe.learning_rate(step, recipe.used(step, 0.0))
        for step in (0, 9_999, 10_000, 25_000, 119_999)
    ]
    assert rates == pytest.approx([4e-4, 4e-4, 2e-4, 1e-4, 4e-4 / 2**11])


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    recipe = Recipe.short(steps=1000)
    rates = [recipe.learning_rate(step, recipe.used(step, 0.0)) for step in range(1001)]
    assert rates[0] == pytest.approx(2e-3 / 25)
    assert max(rates) == rates[300] == pytest.approx(2e-3)
    assert rates[650] == pytest.approx(1e-3)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[:301]) > 0)
    assert np.all(np.diff(rates[300:]) < 0)


def test_one_cycle_follows_the_budget_that_runs_out_first() -> None:
    recipe = Recipe.short(steps=1000, max_seconds=60)
    assert recipe.used(500, 6) == 0.5
    assert recipe.used(100, 45) == 0.75
    assert recipe.used(100, 90) == 1


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"batch": -1}, {"rate": math.nan}, {"max_seconds": 0}]
)
def test_impossible_recipes_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(change))} is .* wanted a number above 0"):
        Recipe(**change)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(RecipeError, match="schedule is 'cosine', wanted 'halving' or 'one-cycle'"):
        Recipe(schedule="cosine")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epsilon": 0}, "epsilon is 0, wanted a number above 0"),
        ({"betas": (0.9, 1.0)}, "betas are 0.9 and 1.0"),
        ({"freeze": 1.5}, "freeze is 1.5, wanted a share from 0 to 1"),
        ({"batch": 2.5}, "batch is 2.5, wanted a whole number"),
        ({"seed": -1}, "seed is -1, wanted a whole number from 0 to 4294967295"),
        ({"precision": "fp8"}, "precision is 'fp8', wanted 'float32' or 'bfloat16'"),
    ],
)
def test_numbers_out_of_range_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        Recipe(**change)


def test_a_recipe_survives_its_record() -> None:
    recipe = Recipe.short(betas=(0.5, 0.75), max_seconds=3.5)
    assert Recipe.from_record(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_only_what_says_when_to_end_can_change_later() -> None:
    assert Recipe().extensible == {"steps", "max_seconds"}
    assert Recipe(freeze=0.5).extensible == Recipe.short().extensible == set()


def test_intervals() -> None:
    assert Interval.parse("500") == Interval(steps=500)
    assert [Interval.parse(text).seconds for text in ("60s", "1.5min", "2h")] == [60, 90, 7200]
    assert [step for step in range(1, 10) if Interval(steps=3).due(step, 0.0)] == [3, 6, 9]
    assert [Interval(seconds=5).due(1, since) for since in (4.9, 5.0)] == [False, True]
    for text in ("", "often", "1.5", "-3", "0", "0s"):
        with pytest.raises(RecipeError, match="interval"):
            Interval.parse(text)


@pytest.mark.parametrize(
    ("earlier", "now"), [("32", "float32"), ("bf16", "bfloat16"), ("float32", "float32")]
)
def test_records_of_earlier_versions_are_read(earlier: str, now: str) -> None:
    record = json.loads(json.dumps(asdict(Recipe(seed=3)) | {"precision": earlier}))
    assert Recipe.from_record(record) == Recipe(seed=3, precision=now)
