"""What a page can hold. These classes are plain data; `building.page_html` writes them as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from aeanet.page.pictures import Picture


@dataclass(frozen=True)
class Text:
    """Paragraphs, or a list of sentences.

    Attributes:
        sentences: in their order.
        look: "plain", "soft" for explanations, "list", or "warning" for what the reader must see.
    """

    kind: ClassVar = "text"
    sentences: Sequence[str]
    look: str = "plain"


@dataclass(frozen=True)
class Facts:
    """Names with what they are, such as settings and versions.

    Attributes:
        entries: name and value; a name may come several times.
    """

    kind: ClassVar = "facts"
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        value: by which its column is sorted; None sorts by the text, or last among numbers.
        best: it is set in bold.
        picture: shown above the text.
        link: key of the section that it leads to.
    """

    text: str
    value: float | None = None
    best: bool = False
    picture: Picture | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a line of headings.

    Attributes:
        columns: the headings.
        rows: the cells of each line.
        note: said below it.
        sortable: the reader can sort it by a column.
        files: what can be saved from the page, content by file name.
    """

    kind: ClassVar = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    sortable: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """A plot with a caption.

    Attributes:
        alt: what it shows, for those who do not see it.
        caption: said below it.
        light, dark: the picture, for a white and for a black page.
    """

    kind: ClassVar = "plot"
    alt: str
    caption: str
    light: Picture
    dark: Picture


@dataclass(frozen=True)
class Mark:
    """A rectangle in a view, in shares of its width and height from the upper left corner."""

    text: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Layer:
    """One picture of a field.

    Attributes:
        name: such as "before".
        picture: of the whole field.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
        extent: width and height of the picture in shares of the field's.
    """

    name: str
    picture: Picture
    alt: str
    caption: str = ""
    extent: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Frame:
    """The pictures of one field: the first is compared with one of the others.

    Attributes:
        layers: two or more.
        name: such as "plane 7"; empty where a view has one frame.
        marks: places to look at.
        warnings: said below it.
    """

    layers: Sequence[Layer]
    name: str = ""
    marks: Sequence[Mark] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class ScaleBar:
    """A length in the specimen.

    Attributes:
        share: of the width of the field.
        text: the length, such as "2 µm".
    """

    share: float
    text: str


@dataclass(frozen=True)
class View:
    """Pictures to compare by a border that moves, with zoom; of several frames one is shown.

    Attributes:
        name: of what it shows.
        frames: in their order, all of the same layers.
        width, height: px of the field, to which the zoom refers.
        note: said below it.
        bar: drawn in a corner; None if the size of the pixels is not known.
    """

    kind: ClassVar = "view"
    name: str
    frames: Sequence[Frame]
    width: int
    height: int
    note: str = ""
    bar: ScaleBar | None = None


Part = Text | Facts | Table | Plot | View


@dataclass(frozen=True)
class Section:
    """Parts under a heading.

    Attributes:
        title: the heading.
        parts: in their order.
        key: to which links lead.
    """

    title: str
    parts: Sequence[Part]
    key: str


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: the heading.
        lead: what is said before the sections.
        sections: in their order.
        contents: whether a list of links to the sections follows the lead.
    """

    title: str
    lead: Sequence[Part]
    sections: Sequence[Section] = ()
    contents: bool = True

    @property
    def moves(self) -> bool:
        """Whether it has parts that need its script."""
        parts = [*self.lead, *(part for section in self.sections for part in section.parts)]
        return any(
            isinstance(part, View) or (isinstance(part, Table) and part.sortable) for part in parts
        )
