"""How the figures of a report look: one width, one size of type, colours that colour-blind readers tell apart."""

import io
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

if TYPE_CHECKING:
    import matplotlib.figure

WIDTH = 10.0
"""Of every figure, in inches of 72 points: 960 CSS pixels, the width of the page's column."""

INK, PALE, GRID = "#1f2328", "#6b7280", "#e5e7eb"
"""Dark text; lines of axes and secondary text (4.8 : 1 on white); grid lines."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette (Color Universal Design, 2008) but its yellow, which white swallows."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X")
"""Shapes that tell apart what shares a colour, once there are more names than colours."""

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
    # text stays text: found by search, read aloud, and drawn in any script the reader's machine has
    "svg.fonttype": "none",
    "svg.hashsalt": "matpac",
    # images keep their own pixels, and not those of the page they are drawn on
    "image.composite_image": False,
    "image.interpolation": "none",
}


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib's defaults with ours on top, whatever the user's `matplotlibrc` says; put back at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, LOOK))
        yield


def panel_grid(count: int) -> tuple[int, int]:
    """Rows and columns for so many panels: at most three side by side, no row much emptier than the others."""
    rows = -(-count // 3)
    return rows, -(-count // rows)


def new_figure(height: float, width: float = WIDTH) -> "matplotlib.figure.Figure":
    """An empty figure, sizes in inches, that leaves room for its labels by itself; no pyplot behind it."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


@dataclass(frozen=True)
class Mark:
    """How one name is drawn in every figure."""

    colour: str
    marker: str


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """A mark for each distinct name, by order of first appearance: give the same names to every figure.

    Seven colours; from the eighth name on they come again with another shape.
    """
    distinct = dict.fromkeys(names)
    return {
        name: Mark(COLOURS[turn % len(COLOURS)], MARKERS[turn // len(COLOURS) % len(MARKERS)])
        for turn, name in enumerate(distinct)
    }


def printable(text: str, most: int = 0) -> str:
    """A label as one line that XML can hold, at most `most` characters long (0: any length).

    What comes from file names may hold control characters and halves of surrogates: they become �.
    A label too long loses its middle.
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
    """A tick's number, short and without an exponent where it can be; usable as a tick formatter."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value + 0.0:.6g}".replace("-", "−")  # + 0.0: of a negative zero the sign goes


_ID, _LINK = "id", "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def svg(figure: "matplotlib.figure.Figure", prefix: str, alt: str) -> str:
    """The figure as an `<svg>` element to stand inside HTML; equal figures give equal text.

    `prefix` is put before the ids, which are common to a whole page, and ids that nothing refers to go, as do
    sizes in points (the page's style sheet decides), dates, and decimals below a hundredth of a point.
    `alt` says in words what is to be seen.
    """
    with look(), warnings.catch_warnings():
        # DejaVu lacks most scripts; the text is written as text and the browser's fonts have them
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
    """Ids that something in the picture refers to."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == _LINK:
                yield value.removeprefix("#")
            yield from _REFERENCE.findall(value)


def _attributes(attributes: dict[str, str], prefix: str, used: set[str]) -> dict[str, str]:
    """Attributes of one element as HTML has them, with this page's ids."""
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


def bare(axes: Any) -> None:
    """Take ticks and grid away from axes whose numbers mean nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
