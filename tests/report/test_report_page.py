"""The page: one self-contained file that shows text as it is, and can be read aloud."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from matpac.report import Report, Result, Table, class_scores, confusion, results_table, score_intervals

EVIL = "<script>alert('x')</script>&amp;{{ 7 * 7 }}"
VOID = {"meta", "br", "link", "img"}
RAW = {"script", "link", "iframe", "object", "embed"}


class Outline(HTMLParser):
    """Checks that tags are closed in order; keeps tags with attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def whole(label: str = "matpac++") -> Report:
    results = [Result("esc50", name, "accuracy", mean, 0.01) for name, mean in ((label, 0.9), ("other", 0.5))]
    report = Report(f"Results of {label}", f"It was {label}.")
    report.section(f"Scores of {label}")
    report.text(f"First of {label}.\n\nSecond.")
    report.note(f"3 clips of {label} skipped")
    report.table(results_table(results))
    report.table(Table([label, "b"], [[label, 1]], caption=label), fold=f"More of {label}")
    report.figure(score_intervals(results), f"Intervals of {label}", f'"Alt" of {label}')
    report.section("Classes")
    report.figure(class_scores([label, "dog"], np.array([0.5, 0.7]), "mAP"), "Classes", "Bars.")
    report.figure(confusion(np.eye(2, dtype=int), ["a", "b"]), "Confusion", "Two classes.")
    report.facts({f"seed of {label}": 42, "path": label})
    report.facts({"option": label}, fold=f"All of {label}")
    report.code(f"matpac embed {label}", f"Next, {label}:")
    return report


def test_same_blocks_give_the_same_bytes(tmp_path):
    first = whole().write(tmp_path / "a.html").read_bytes()
    assert first == whole().write(str(tmp_path / "b.html")).read_bytes()


def test_nothing_is_loaded_from_elsewhere():
    page = whole().html()
    found = outline(page)
    for tag, attributes in found.tags:
        assert tag not in RAW
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:60])
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert not re.search(r"https?://", page)


def test_labels_are_escaped_everywhere():
    found = outline(whole(EVIL).html())
    assert not found.all("script")
    plain = outline(whole("LABEL").html())
    assert [tag for tag, _ in found.tags if tag not in ("use", "path", "g", "defs")] == [
        tag for tag, _ in plain.tags if tag not in ("use", "path", "g", "defs")
    ]
    # every mention can be read, except those that a figure shortens and the alternative text
    assert found.text.count(EVIL) >= plain.text.count("LABEL") - 3
    assert "49" not in found.text.replace("0.49", "")
    assert f'"Alt" of {EVIL}' in [attributes.get("aria-label") for attributes in found.all("svg")]


def test_ids_are_unique_and_references_lead_somewhere():
    found = outline(whole().html())
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for _, attributes in found.tags if (attributes.get("href") or "").startswith("#")]
    assert links
    assert {str(link)[1:] for link in links} <= set(ids)
    assert [link["href"] for link in found.all("a")] == ["#section-1", "#section-2"]


def test_it_can_be_read_aloud():
    page = whole().html()
    found = outline(page)
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == 1
    assert all(picture.get("role") == "img" and picture.get("aria-label") for picture in found.all("svg"))
    assert {header.get("scope") for header in found.all("th")} == {"col", "row"}
    assert page.startswith("<!doctype html>")
    assert "<strong>90.0 ± 1.0</strong>" in page


def test_a_figure_needs_an_alternative_text():
    with pytest.raises(ValueError, match="Loss"):
        Report("x").figure(class_scores(["a"], np.ones(1), "mAP"), "Loss", " ")


def test_an_empty_report_is_a_page():
    found = outline(Report("Nothing yet").html())
    assert "Nothing yet" in found.text
    assert not found.all("nav")
    assert not found.all("p")


def test_a_page_is_written_atomically_and_whatever_names_it_holds(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    assert Report("x", "caf\udce9.wav").write(path) == path
    before = path.read_bytes()
    assert b"caf?.wav" in before

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        Report("new").write(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
