"""The contact sheet of the simulator."""

from pathlib import Path

from benches.sheet import draw_sheet


def test_the_contact_sheet_shows_every_specimen_beside_its_target(tmp_path: Path) -> None:
    figure = draw_sheet(1, kinds=("layers", "tissue"), columns=2, side=56)
    assert [axis.get_ylabel() for axis in figure.axes] == ["layers", "", "tissue", ""]
    assert all("noise" in axis.get_title() for axis in figure.axes)
    figure.savefig(tmp_path / "sheet.png", dpi=50)
