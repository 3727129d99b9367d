"""The tables and the page of a study."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from studies import PAIRS, silent, study

from aeanet.reproduce import (
    Results,
    Study,
    run_study,
    write_report,
)
from aeanet.reproduce.table import Column, Table
from aeanet.reproduce.tables import build_tables
from aeanet.scoring.confidence import Estimate


def test_methods_by_example_have_their_place_in_the_tables(tmp_path: Path) -> None:
    alone = {"toy-0": PAIRS["toy-0"]}
    mixed = study(pairs=alone, methods=["unet", "srsw"], sections=["table1"])
    results = run_study(mixed, tmp_path, silent)
    assert not results.failed
    trainings = build_tables(mixed, results)[-1]
    by_name = {row[0]: row for row in trainings.rows}
    assert by_name["pooled srsw"][3] == "0"
    assert by_name["pooled srsw"][-1] is None
    assert "methods by example" in write_report(mixed, results, tmp_path).read_text()
    for file in tmp_path.rglob("result*.json"):
        assert "NaN" not in file.read_text()


def test_tables_say_what_the_evaluations_do(whole: tuple[Study, Results, Path]) -> None:
    everything, results, folder = whole
    tables = {table.key: table for table in build_tables(everything, results)}
    assert list(tables) == ["table1-left", "table1-right", "table2", "unseen", "pairs", "trainings"]
    mean = {key: evaluations[0].mean for key, evaluations in results.evaluations.items()}
    unet = tables["table1-left"].rows[0]
    assert [cell.mean for cell in unet[1:5] if isinstance(cell, Estimate)] == pytest.approx(
        [gain for strategy in ("pooled", "self") for gain in deltas(mean[strategy, "unet"])]
    )
    difference = unet[6]
    assert isinstance(difference, Estimate)
    assert difference.mean == pytest.approx(
        mean["pooled", "aeanet"].delta_psnr - mean["pooled", "unet"].delta_psnr
    )
    assert [row[-1] for row in tables["table2"].rows] == [
        *("1.46 / 0.074", "1.87 / 0.086", "2.04 / 0.085"),
        *("1.96 / 0.084", "1.98 / 0.085", "2.02 / 0.085", "2.10 / 0.087"),
    ]
    foreground = tables["table1-right"].rows[0][1]
    assert isinstance(foreground, Estimate)
    assert foreground.mean == pytest.approx(mean["pooled", "unet"].foreground.delta_psnr)
    rows = list(csv.DictReader((folder / "tables" / "table1-left.csv").open()))
    assert float(rows[0]["pooled Δ PSNR (dB)"]) == pytest.approx(mean["pooled", "unet"].delta_psnr)
    assert float(rows[0]["pooled Δ PSNR (dB) low"]) < float(rows[0]["pooled Δ PSNR (dB) high"])


def deltas(score: Any) -> tuple[float, float]:
    return score.delta_psnr, score.delta_ssim


def test_a_table_in_markdown_and_csv() -> None:
    columns = [Column("method"), Column("gain", 2, best=True), Column("paper")]
    rows = [["a|b", Estimate(1.234, 0.5), "1.0"], ["c", Estimate(2.0, None), None]]
    table = Table("key", "title", columns, rows)
    assert table.markdown().splitlines() == [
        "| method | gain | paper |",
        "| --- | ---: | ---: |",
        "| a\\|b | +1.23 ± 0.50 | 1.0 |",
        "| c | **+2.00** | – |",
    ]
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["method", "gain", "gain low", "gain high", "paper"],
        ["a|b", "1.234", "0.734", "1.734", "1.0"],
        ["c", "2.0", "", "", ""],
    ]


class Page(HTMLParser):
    """Collects the addresses a page asks for by itself or links to, and checks that its elements
    are closed.
    """

    VOID = ("meta", "img", "source", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(whole: tuple[Study, Results, Path]) -> None:
    _, _, folder = whole
    text = (folder / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert {address[1:] for address in page.addresses if address.startswith("#")} == set(page.ids)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert (
        len([address for address in page.addresses if address.startswith("data:image/webp")])
        == 2 * 3
    )
    assert not re.search(r"@import|url\(|<script", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    markdown = (folder / "report.md").read_text()
    for figure in ("fig4", "fig5", "fig6"):
        assert f"figures/{figure}.png" in markdown
        assert (folder / "figures" / f"{figure}.png").stat().st_size > 10_000
    record = json.loads((folder / "results.json").read_text())
    assert record["tables"]["table2"]["rows"][0][0] == "U-Net"
    assert record["recipe"]["steps"] == 2


def test_the_page_escapes_what_users_name(tmp_path: Path) -> None:
    odd = study(sections=["table1"], methods=["unet"], self_pairs=1, refused={"<b>": "R&D <i>"})
    text = write_report(odd, run_study(odd, tmp_path, silent), tmp_path).read_text()
    assert "pair &lt;b&gt;: R&amp;D &lt;i&gt;" in text
    assert Page(text).open == []
