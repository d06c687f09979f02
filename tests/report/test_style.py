"""What every figure shares: its look, labels as people have them, and SVG that fits into a page."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.report.scores import class_scores, confusion
from matpac.report.style import COLOURS, WIDTH, marks, number, panel_grid, printable, svg


def test_svg_is_the_same_twice_and_has_only_ids_of_its_page():
    one, other = (svg(confusion(np.eye(3, dtype=int), list("abc")), "a-", "alt") for _ in range(2))
    assert one == other
    ids = re.findall(r'\bid="([^"]*)"', one)
    assert ids
    assert all(name.startswith("a-") for name in ids)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]*)"', one) + re.findall(r"url\(#([^)]*)\)", one)) <= set(ids)
    assert "metadata" not in one


def test_alternative_text_is_escaped_and_kept():
    drawn = ElementTree.fromstring(svg(class_scores(["a"], np.ones(1), "mAP"), "", '"><script>'))
    assert drawn.attrib["aria-label"] == '"><script>'
    assert drawn.attrib["role"] == "img"


def test_figures_leave_matplotlib_as_it_was_and_are_as_wide_as_the_page():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 31.0}):
        drawn = svg(confusion(np.eye(3, dtype=int), ["a", "b", "c"]), "", "alt")
        assert matplotlib.rcParams["font.size"] == 31
        assert "31px" not in drawn
    assert dict(matplotlib.rcParams) == before
    assert ElementTree.fromstring(drawn).attrib["viewBox"].split()[::2] == ["0", f"{72 * WIDTH:g}"]


@given(st.text(), st.integers(0, 12))
@settings(deadline=None)
def test_printable_is_one_line_of_xml(text, most):
    kept = printable(text, most)
    assert len(kept) == (min(most, len(text)) if most else len(text))
    element = ElementTree.Element("s")
    element.text = kept
    assert ElementTree.fromstring(ElementTree.tostring(element, encoding="unicode")).text in (kept, kept or None)
    kept.encode()
    assert "\n" not in kept


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (-0.0, "0"), (0.25, "0.25"), (-1500, "−1,500"), (294816.0, "294,816"), (3e-4, "0.0003")],
)
def test_numbers_of_ticks(value, shown):
    assert number(value) == shown


def test_marks_are_all_different_and_in_order():
    names = [f"encoder {turn}" for turn in range(30)]
    found = marks([*names, "encoder 3"])
    assert list(found) == names
    assert len(set(found.values())) == 30
    assert [found[name].colour for name in names[:7]] == list(COLOURS)


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_panels_are_spread_evenly(count, grid):
    assert panel_grid(count) == grid
