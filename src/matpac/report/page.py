"""A report: blocks in order, written as one self-contained HTML file."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from matpac.atomic import written_whole
from matpac.report.results import Table
from matpac.report.style import svg

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True)
class _Block:
    """Content for the template; `about` is a section's anchor, a caption, or the line it is folded behind."""

    kind: Literal["section", "text", "note", "code", "facts", "table", "picture"]
    content: str | tuple[str, ...] | Mapping[str, str] | Table
    about: str = ""


class Report:
    """A page under construction: add blocks in reading order, then `write`.

    All text is shown as it is, never read as markup, so labels and file names are safe.

    Args:
        title: heading of the page and name of the browser's tab.
        summary: what was found, in a sentence or two, under the title.
    """

    def __init__(self, title: str, summary: str = "") -> None:
        self.title = title
        self.summary = summary
        self._blocks: list[_Block] = []

    def section(self, title: str) -> None:
        """Begin a section; all sections are linked at the top of the page."""
        turn = 1 + sum(block.kind == "section" for block in self._blocks)
        self._blocks.append(_Block("section", title, f"section-{turn}"))

    def text(self, text: str) -> None:
        """Plain paragraphs, separated by empty lines."""
        self._blocks.append(_Block("text", _paragraphs(text)))

    def note(self, text: str) -> None:
        """Paragraphs in a box: what must not be missed, such as skipped clips or a difference within the noise."""
        self._blocks.append(_Block("note", _paragraphs(text)))

    def code(self, text: str, caption: str = "") -> None:
        """Command lines, or a configuration, as they are typed."""
        self._blocks.append(_Block("code", text.strip("\n"), caption))

    def facts(self, facts: Mapping[str, object], fold: str = "") -> None:
        """Names with values: seeds, versions, settings; folded behind the line `fold`, if given."""
        self._blocks.append(_Block("facts", {name: str(value) for name, value in facts.items()}, fold))

    def table(self, table: Table, fold: str = "") -> None:
        """A table, folded behind the line `fold`, if given."""
        self._blocks.append(_Block("table", table, fold))

    def figure(self, figure: "matplotlib.figure.Figure", caption: str, alt: str) -> None:
        """A figure as vector graphics, drawn now; `alt` describes it for those who can't see it.

        Raises ValueError without `alt`.
        """
        if not alt.strip():
            raise ValueError(f"the figure {caption!r} needs a text that describes it (alt)")
        self._blocks.append(_Block("picture", svg(figure, f"f{len(self._blocks)}-", alt), caption))

    def html(self) -> str:
        """The page; the same blocks give the same text."""
        import jinja2

        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template = environment.from_string(files("matpac.report").joinpath("page.html").read_text("utf-8"))
        sections = [block for block in self._blocks if block.kind == "section"]
        return template.render(title=self.title, summary=self.summary, blocks=self._blocks, sections=sections)

    def write(self, path: str | Path) -> Path:
        """Write the page atomically, in UTF-8, and create its folder if needed.

        Lone surrogates, from file names that are not UTF-8, are written as `?`.
        """
        path = Path(path)
        content = self.html().encode("utf-8", errors="replace")
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as draft:
            draft.write_bytes(content)
        return path


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("\n\n") if part.strip())
