"""The look of all figures: one width, one type size, colours that colour-blind readers can distinguish; SVG."""

import io
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

if TYPE_CHECKING:
    import matplotlib.figure

WIDTH = 10.0
"""Inches of 72 points of every figure: 960 CSS pixels, the width of the page's column."""

INK, PALE, GRID = "#1f2328", "#6b7280", "#e5e7eb"
"""Dark text; axes and secondary text (contrast 4.8 : 1 on white); grid lines."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette (Color Universal Design, 2008) without its yellow, which is invisible on white."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X")
"""Shapes for names that share a colour, once there are more names than colours."""

LOOK = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    # `$` in a label is the user's, not mathematics
    "text.parse_math": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
    # text stays text: searchable, readable aloud, and drawn in any script that the reader's machine has
    "svg.fonttype": "none",
    "svg.hashsalt": "matpac",
    # images keep their own pixels instead of being resampled to the page's
    "image.composite_image": False,
    "image.interpolation": "none",
}


@contextmanager
def look() -> Iterator[None]:
    """Draw with matplotlib's defaults and `LOOK`, whatever the user's `matplotlibrc` says; restored at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, LOOK))
        yield


def new_figure(height: float, width: float = WIDTH) -> "matplotlib.figure.Figure":
    """An empty figure, in inches, that makes room for its labels by itself; without pyplot."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


def panel_grid(count: int) -> tuple[int, int]:
    """Rows and columns for a number of panels: at most three side by side, rows filled evenly."""
    rows = -(-count // 3)
    return rows, -(-count // rows)


def panels(figure: "matplotlib.figure.Figure", count: int) -> list[Any]:
    """That many axes on the grid of `panel_grid`."""
    grid = figure.subplots(*panel_grid(count), squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return list(grid[:count])


def outer_legend(figure: Any, handles: Sequence[Any], names: Sequence[str], columns: int, **style: Any) -> None:
    """A legend outside the axes, with names as they are: matplotlib itself drops those that begin with `_`."""
    legend = figure.legend(handles, ["x" * len(name) for name in names], ncols=columns, **style)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


@dataclass(frozen=True)
class Mark:
    """How one name is drawn in every figure."""

    colour: str
    marker: str


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """A mark for each distinct name, by order of first appearance: give the same names to every figure.

    There are seven colours; from the eighth name on they repeat with another shape.
    """
    return {
        name: Mark(COLOURS[turn % len(COLOURS)], MARKERS[turn // len(COLOURS) % len(MARKERS)])
        for turn, name in enumerate(dict.fromkeys(names))
    }


def printable(text: str, most: int = 0) -> str:
    """A label as one line of valid XML, at most `most` characters long (0: any length).

    Control characters and lone surrogates, as file names may hold them, become �. A label that is too long loses
    its middle.
    """
    kept = "".join(
        " " if letter.isspace() else "�" if unicodedata.category(letter) in ("Cc", "Cs", "Co", "Cn") else letter
        for letter in text
    )
    if 0 < most < len(kept):
        head = most // 2
        kept = f"{kept[:head]}…{kept[len(kept) - (most - head - 1) :]}"
    return kept


def number(value: float, position: float | None = None) -> str:
    """A tick's number, short and where possible without an exponent; usable as a tick formatter."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value + 0.0:.6g}".replace("-", "−")  # + 0.0 removes the sign of a negative zero


_ID, _LINK = "id", "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def svg(figure: "matplotlib.figure.Figure", prefix: str, alt: str) -> str:
    """The figure as an `<svg>` element for use inside HTML; equal figures give equal text.

    Ids that nothing refers to, sizes in points (the page's style sheet decides), dates, and decimals below a
    hundredth of a point are removed.

    Args:
        figure: what is drawn.
        prefix: put before every id, since ids are shared by a whole page.
        alt: description for those who can't see the picture.
    """
    with look(), warnings.catch_warnings():
        # DejaVu lacks most scripts; the text stays text, and the browser's fonts have them
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    used = set(_references(root))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = _attributes(element.attrib, prefix, used)
        element.tail = None
        if element.tag not in ("text", "tspan", "style"):
            element.text = None
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": printable(alt)}
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> Iterator[str]:
    """Ids that an element of the picture refers to."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == _LINK:
                yield value.removeprefix("#")
            yield from _REFERENCE.findall(value)


def _attributes(attributes: dict[str, str], prefix: str, used: set[str]) -> dict[str, str]:
    """Attributes of one element as HTML has them, with the page's ids."""
    kept: dict[str, str] = {}
    for key, value in attributes.items():
        if key == _ID:
            if value in used:
                kept[key] = prefix + value
        elif key == _LINK:
            kept["href"] = f"#{prefix}{value[1:]}" if value.startswith("#") else value
        elif key in ("d", "x", "y"):
            kept[key] = _DECIMALS.sub(r"\1", value)
        else:
            kept[key.rpartition("}")[2]] = _REFERENCE.sub(rf"url(#{prefix}\1)", value)
    return kept
