"""One self-contained HTML page: text, facts, tables, plots, and pictures before and after."""

from aeanet.page.building import page_html, write_page
from aeanet.page.content import (
    Cell,
    Facts,
    Frame,
    Layer,
    Mark,
    Page,
    Part,
    Plot,
    ScaleBar,
    Section,
    Table,
    Text,
    View,
)
from aeanet.page.pictures import Picture, coloured, fitting, grey, limits_of, reduced, thumbnail

__all__ = [
    "Cell",
    "Facts",
    "Frame",
    "Layer",
    "Mark",
    "Page",
    "Part",
    "Picture",
    "Plot",
    "ScaleBar",
    "Section",
    "Table",
    "Text",
    "View",
    "coloured",
    "fitting",
    "grey",
    "limits_of",
    "page_html",
    "reduced",
    "thumbnail",
    "write_page",
]
