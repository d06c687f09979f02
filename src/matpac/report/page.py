"""A report: blocks in order, written as one HTML file that needs nothing else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from matpac.report.results import Table
from matpac.report.style import svg

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True)
class _Section:
    kind: ClassVar[str] = "section"
    anchor: str
    title: str


@dataclass(frozen=True)
class _Text:
    kind: ClassVar[str] = "text"
    paragraphs: tuple[str, ...]
    note: bool


@dataclass(frozen=True)
class _Code:
    kind: ClassVar[str] = "code"
    text: str
    caption: str


@dataclass(frozen=True)
class _Facts:
    kind: ClassVar[str] = "facts"
    facts: Mapping[str, str]
    fold: str


@dataclass(frozen=True)
class _Table:
    kind: ClassVar[str] = "table"
    table: Table
    fold: str


@dataclass(frozen=True)
class _Picture:
    kind: ClassVar[str] = "picture"
    svg: str
    caption: str


class Report:
    """A page under construction: add blocks in reading order, then `write`.

    Every text given is shown as it is: no markup is read from it, so labels and file names are safe.

    Args:
        title: heading of the page and name of the browser's tab.
        summary: what was found, in a sentence or two, under the title.
    """

    def __init__(self, title: str, summary: str = "") -> None:
        self.title = title
        self.summary = summary
        self._blocks: list[_Section | _Text | _Code | _Facts | _Table | _Picture] = []

    def section(self, title: str) -> None:
        """Begin a section; all of them are linked at the top of the page."""
        turn = 1 + sum(isinstance(block, _Section) for block in self._blocks)
        self._blocks.append(_Section(f"section-{turn}", title))

    def text(self, text: str) -> None:
        """Plain paragraphs, parted by empty lines."""
        self._blocks.append(_Text(_paragraphs(text), note=False))

    def note(self, text: str) -> None:
        """Paragraphs in a box: what must not be missed, such as clips left out or a difference in the noise."""
        self._blocks.append(_Text(_paragraphs(text), note=True))

    def code(self, text: str, caption: str = "") -> None:
        """Command lines, or a configuration, as they are typed."""
        self._blocks.append(_Code(text.strip("\n"), caption))

    def facts(self, facts: Mapping[str, object], fold: str = "") -> None:
        """Names with values: seeds, versions, settings. `fold`, where given, is the line they hide behind."""
        self._blocks.append(_Facts({name: str(value) for name, value in facts.items()}, fold))

    def table(self, table: Table, fold: str = "") -> None:
        """A table, such as `results_table` gives; `fold`, where given, is the line it hides behind."""
        self._blocks.append(_Table(table, fold))

    def figure(self, figure: "matplotlib.figure.Figure", caption: str, alt: str) -> None:
        """A figure as vectors, its images as PNG. `alt` says what is to be seen to those who can't see it.

        It is drawn now; raises ValueError without `alt`.
        """
        if not alt.strip():
            raise ValueError(f"the figure {caption!r} needs a text that says what is to be seen (alt)")
        self._blocks.append(_Picture(svg(figure, f"f{len(self._blocks)}-", alt), caption))

    def html(self) -> str:
        """The page; the same blocks give the same text."""
        import jinja2

        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template = environment.from_string(files("matpac.report").joinpath("page.html").read_text("utf-8"))
        sections = [block for block in self._blocks if isinstance(block, _Section)]
        return template.render(title=self.title, summary=self.summary, blocks=self._blocks, sections=sections)

    def write(self, path: str | Path) -> Path:
        """Write the page whole or not at all, in UTF-8; the folder is made where there is none.

        Halves of surrogates, from file names that are not UTF-8, are written as `?`.
        """
        path = Path(path)
        content = self.html().encode("utf-8", errors="replace")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("\n\n") if part.strip())
