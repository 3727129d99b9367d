"""The page that `--report` writes: what a command restored, to look at."""

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from aeanet.cli.pages.shared import how_it_was_made, save_page
from aeanet.cli.report import Judged, Report
from aeanet.cli.stacks import StackOptions
from aeanet.inference.restored import Restored
from aeanet.inference.stack_files import RestoredStack
from aeanet.io.atomic import LONGEST_NAME
from aeanet.io.images import result_name
from aeanet.page import Cell, Facts, Page, Part, Section, Table, Text, View, thumbnail
from aeanet.page.views import most_of_each, views_of


def page_file(folder: Path, images: Sequence[Path]) -> Path:
    """Where the page of these images goes: named after the image if it is one."""
    if len(images) == 1:
        name = result_name(images[0])
        stem = name.removesuffix(Path(name).suffix).removesuffix(".ome")
        file = folder / f"{stem}-report.html"
        if len(os.fsencode(file.name)) <= LONGEST_NAME:
            return file
    return folder / "report.html"


class Gallery:
    """The images of one command, gathered while they are restored.

    It holds their pictures as files, so that many images take little memory.

    Args:
        file: of the page.
        images: how many are to be restored.
        settings: name and value of each setting that counts for all images.
    """

    def __init__(self, file: Path, images: int, settings: Sequence[tuple[str, str]]) -> None:
        self.file = file
        self.images = images
        self.settings = settings
        self.most = most_of_each(images)
        self.sections: list[Section] = []
        self.rows: list[list[Cell]] = []

    def add(self, report: Report, restored: Restored, judged: Judged) -> None:
        """Take an image that was restored, and what is said of it.

        Raises:
            ImageError: if an image that was read by regions cannot be read again.
        """
        found = judged.found.noise
        views = views_of(restored, judged.image, judged.result, found, self.most)
        width, height = views[0].width, views[0].height
        facts = [("image", str(restored.image)), *_pixels(restored)]
        facts += [("result", f"{restored.target}, {width} x {height} px")]
        self._add(report, [*views, *_notes(report), Facts(facts)], views[0], judged.noise)

    def add_stack(
        self,
        report: Report,
        restored: RestoredStack,
        options: StackOptions,
        magnification: float,
    ) -> None:
        """Take a stack that was restored: some of its planes, and the noise of all.

        Raises:
            ImageError: if a plane cannot be read again.
        """
        from aeanet.cli.pages.stacks import planes_plot, planes_view

        view = planes_view(restored, options, magnification, self.most)
        noise = [one["noise"] for one in restored.records if one and one["noise"] is not None]
        shape = " x ".join(map(str, restored.contents.shape))
        facts = [("stack", str(restored.stack))]
        facts += [("result", f"{restored.target}, {restored.contents.axes} {shape}")]
        parts = [view, *_notes(report), planes_plot(restored), Facts(facts)]
        self._add(report, parts, view, statistics.median(noise) if noise else None)

    def _add(self, report: Report, parts: Sequence[Part], view: View, noise: float | None) -> None:
        key = f"image-{len(self.sections) + 1}"
        warnings = report.said(warnings=True)
        warned = Text(warnings, look="warning")
        self.sections.append(Section(report.name, [warned, *parts], key))
        small = thumbnail(view.frames[0].layers[1].picture)
        self.rows.append(
            [
                Cell(report.name, picture=small, link=key),
                Cell("unknown" if noise is None else f"{noise:.1%}", value=noise),
                Cell(str(len(warnings) or "none"), value=len(warnings)),
            ]
        )

    def write(self, failed: Mapping[str, str]) -> bool:
        """Write the page, unless no image was restored.

        Args:
            failed: why images could not be restored, by their names.

        Returns:
            Whether that did not fail; else it was said why.
        """
        if not self.sections:
            return True
        return save_page(self.file, self._page(failed))

    def _page(self, failed: Mapping[str, str]) -> Page:
        made = how_it_was_made(self.settings)
        if self.images == 1:
            only = self.sections[0]
            return Page(f"{only.title}, restored", only.parts, [made], contents=False)

        refused = [f"{name} is not restored: {reason}" for name, reason in failed.items()]
        columns = ["image", "noise, of the range used", "warnings"]
        lead: list[Part] = [Text(refused, look="warning"), Table(columns, self.rows, sortable=True)]
        title = f"{len(self.sections)} of {self.images} images restored"
        return Page(title, lead, [*self.sections, made], contents=False)


def _notes(report: Report) -> list[Part]:
    return [Text(report.said(warnings=False))]


def _pixels(restored: Restored) -> list[tuple[str, str]]:
    """The sizes of the pixels of the image and of its result, if the image states one."""
    if restored.source is None or restored.source.pixel_size is None:
        return []
    return [("pixel", f"{restored.source.pixel_size}, of the result {restored.pixel_size}")]
