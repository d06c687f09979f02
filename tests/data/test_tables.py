"""Tables in three formats give the same cells, and what is wrong with one is said with its line."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.data.tables import TableError, TextLayout, is_label, read_table

NAN = float("nan")


def parquet(folder: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


def labels(file: Path, column: str) -> list[list[str]]:
    return read_table(file, (), is_label).labels(column)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_one_table_in_three_formats(tmp_path, suffix):
    columns = {
        "path": ["a.wav", " b.wav ", "/c/c.wav", "./a.wav"],
        "labels": ["dog; bark;", "", "cat", "loud"],
        "label:rain": ["1", "0", "", "False"],
        "year": ["1", "2", "", "4"],
    }
    file = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        parquet(tmp_path, **columns)
    else:
        mark = {".csv": ",", ".tsv": "\t"}[suffix]
        lines = [mark.join(columns), "", *map(mark.join, zip(*columns.values(), strict=True)), 3 * mark]
        file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    table = read_table(file, ["path"], is_label)
    assert table.header == list(columns)
    assert list(table.columns) == ["path", "labels", "label:rain"], "memory for what is wanted alone"
    assert table.paths() == [f"{tmp_path}/a.wav", f"{tmp_path}/b.wav", "/c/c.wav", f"{tmp_path}/a.wav"]
    assert table.answers("label:rain") == [True, False, None, False]
    assert table.labels("labels") == [["dog", "bark"], [], ["cat"], ["loud"]]
    assert table.labels_by_path() == {
        f"{tmp_path}/a.wav": ["dog", "bark", "rain", "loud"],
        f"{tmp_path}/b.wav": [],
        "/c/c.wav": ["cat"],
    }
    assert table.place(1) == f"{file}: {'row 2' if suffix == '.parquet' else 'line 4'}"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([["rain"], ["a;b", " c ", None, ""], None, []], [["rain"], ["a;b", "c"], [], []]),
        ([[3, 2], [1]], [["3", "2"], ["1"]]),
        ([3.0, 2.5, NAN, None], [["3"], ["2.5"], [], []]),
        ([[3.0, NAN], [2.5]], [["3"], ["2.5"]]),
        ([True, False], [["True"], ["False"]]),
        (["nan", "3.0", "", None, " x "], [["nan"], ["3.0"], [], [], ["x"]]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), [["a"], ["b"], ["a"], []]),
        (pa.array([["a", "a"], None], pa.large_list(pa.large_string())), [["a"], []]),
        (pa.array([2, 250], pa.decimal128(5, 2)), [["2"], ["250"]]),
    ],
)
@pytest.mark.parametrize("column", ["label", "labels"])
def test_typed_cells(tmp_path, cells, expected, column):
    assert labels(parquet(tmp_path, **{column: cells}), column) == expected


def test_only_text_in_the_column_labels_is_split(tmp_path):
    assert labels(parquet(tmp_path, labels=["a;b"]), "labels") == [["a", "b"]]
    assert labels(parquet(tmp_path, label=["a;b"]), "label") == [["a;b"]]


@pytest.mark.parametrize("cells", [[1.0, 0.0, NAN], [True, False, None], [1, 0, None], ["true", "0.0", ""]])
def test_answers_about_one_class(tmp_path, cells):
    file = parquet(tmp_path, **{"label:a": cells})
    assert read_table(file, ["label:a"]).answers("label:a") == [True, False, None]
    assert labels(file, "label:a") == [["a"], [], []]


@pytest.mark.parametrize("cell", [b"a", {"a": 1}, [["a"]]])
def test_labels_that_are_neither_text_nor_numbers(tmp_path, cell):
    with pytest.raises(TableError, match=r"t\.parquet: row 1: label is "):
        labels(parquet(tmp_path, label=[cell]), "label")


@pytest.mark.parametrize("path", [1, b"a.wav", None, NAN, ""])
def test_paths_are_text(tmp_path, path):
    with pytest.raises(TableError, match=r"t\.parquet: row 1 has "):
        read_table(parquet(tmp_path, path=[path])).paths()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'path'; it has none"),
        (b"file,label\nx.wav,1\n", "no column 'path'; it has file, label"),
        (b"path,label\n", "the table has no rows"),
        (b"path,path\na,b\n", "two columns are called 'path'"),
        (b"path,label\na.wav,x\n\nb.wav\n", "line 4 has 1 cells, not 2"),
        (b"path,label\na.wav,x,y\n", "line 2 has 3 cells, not 2"),
        (b"path\n\xff\xfe\n", "not UTF-8 text"),
        (b'path,label\na.wav,x\n\nb.wav,"y\nc.wav,z\n', "line 4: a quote is left open"),
        (b'path,"label\na.wav,x\n', "line 1: a quote is left open"),
        (b'path,label\na.wav,"' + b"b.wav,y\n" * 20_000, "line 2: field larger .*quote left open"),
    ],
    ids=range(10),
)
def test_damaged_text(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(TableError, match=rf"t\.csv: {message}"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"a": [1]}), "no column 'path'; it has a"),
        (pa.table({"path": pa.array([], pa.string())}), "the table has no rows"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, ["path", "path"]), "two columns are called 'path'"),
    ],
)
def test_other_parquet(tmp_path, table, message):
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TableError, match=rf"t\.parquet: {message}"):
        read_table(tmp_path / "t.parquet")


def test_damaged_parquet_and_no_file(tmp_path):
    (tmp_path / "t.parquet").write_text("words")
    for name, message in (("t.parquet", "not a Parquet file"), ("none.csv", "can't be read")):
        with pytest.raises(TableError, match=f"{name}: {message}"):
            read_table(tmp_path / name)


def test_quotes_that_are_closed(tmp_path):
    lines = ["title,path", '"two\nlines", "a, b.wav"', '"Heroes" live,b.wav', '5" single,"c ""d"".wav"']
    for end in ("", "\n", "\r\n"):
        (tmp_path / "t.csv").write_text("\n".join(lines) + end, newline="")
        table = read_table(tmp_path / "t.csv")
        assert table.columns["path"] == ["a, b.wav", "b.wav", 'c "d".wav']
        assert list(table.lines) == [2, 4, 5]


def test_other_layouts_of_text(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('# "made" yesterday\na\tx\ty y\tz\nb\t\n')
    layout = TextLayout("\t", header=("path", "tags"), comment="#", tail=True)
    assert read_table(file, ["path", "tags"], layout=layout).columns == {
        "path": ["a", "b"],
        "tags": [["x", "y y", "z"], []],
    }


text = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(text.filter(bool), text), min_size=1, max_size=5))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    file: Path = tmp_path_factory.mktemp("tables") / "t.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([["path", "label"], *rows])
    table = read_table(file, ["path", "label"])
    assert list(zip(*table.columns.values(), strict=True)) == [(path, label or None) for path, label in rows]
