"""A page as HTML, from one template, one style and one script, all within the file."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from aeanet.io.atomic import write_atomically
from aeanet.io.text import visible
from aeanet.page.content import Page
from aeanet.page.pictures import data_address


def write_page(path: Path, page: Page) -> None:
    """Write a page, whole or not at all.

    Raises:
        OSError: naming the file.
    """
    write_atomically(path, page_html(page).encode())


def page_html(page: Page) -> str:
    """The page as HTML, which needs no other file and asks for none."""
    own = files("aeanet.page")
    style = (own / "page.css").read_text(encoding="utf-8")
    script = (own / "page.js").read_text(encoding="utf-8") if page.moves else ""
    return _template().render(page=page, style=style, script=script)


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("aeanet.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["data_address"] = data_address
    return environment.get_template("page.html.j2")
