"""Files of class names: the two kinds, and what is wrong with others."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.files.label_files import LabelFileError, read_audioset_labels, read_label_file

REAL_BEGINNING = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/m/02zsn,"Female speech, woman speaking"
3,/t/dd00001,"Baby laughter"
"""
"""As the official file has it: quoted names, some with commas."""


def test_audioset_in_the_order_of_mids(tmp_path):
    (tmp_path / "c.csv").write_text(REAL_BEGINNING)
    assert list(read_audioset_labels(tmp_path / "c.csv").items()) == [
        ("/m/02zsn", "Female speech, woman speaking"),
        ("/m/05zppz", "Male speech, man speaking"),
        ("/m/09x0r", "Speech"),
        ("/t/dd00001", "Baby laughter"),
    ]
    assert read_label_file(tmp_path / "c.csv")[2] == "Speech"
    (tmp_path / "c.csv").write_text(
        REAL_BEGINNING.replace("index,mid,display_name", '"index","mid","display_name"')
    )
    assert read_label_file(tmp_path / "c.csv")[2] == "Speech"


def test_a_name_a_line(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffdog, barking\r\n Bär \nmid\n\n".encode())
    assert read_label_file(str(tmp_path / "names.txt")) == ["dog, barking", "Bär", "mid"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"caf\xe9\n", r"not UTF-8 text \(byte 3\)"),
        (b"index,mid,display_name\n", "not AudioSet's"),
        (b"index,mid,display_name\n0,/m/1,\n", r"class '/m/1' \(''\) is incomplete"),
        (b"index,mid,display_name\n0,/m/1\n", r"class '/m/1' \(None\) is incomplete"),
        (b"index,mid,display_name\n0,/m/1,a\n1,/m/1,b\n", "there twice"),
        pytest.param(
            b'index,mid,display_name\n0,/m/1,"' + b"x" * 140_000,
            "not a table .*; look for a quote",
            id="open quote",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path, content, message):
    path = tmp_path / "c.csv"
    path.write_bytes(content)
    with pytest.raises(LabelFileError, match=rf"c\.csv: .*{message}"):
        read_label_file(path)


def test_no_such_file(tmp_path):
    with pytest.raises(LabelFileError, match=r"none\.csv: can't be read \(No such file"):
        read_label_file(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_text("<html>\n")
    with pytest.raises(LabelFileError, match="not AudioSet's"):
        read_audioset_labels(tmp_path / "x.csv")


letters = st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\x7f\x85")


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(st.sampled_from("abz019_"), min_size=1).map("/m/".__add__),
        st.text(letters, min_size=1),
        min_size=1,
    )
)
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, names: dict[str, str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(
        [["index", "mid", "display_name"], *((i, *pair) for i, pair in enumerate(names.items()))]
    )
    path: Path = tmp_path_factory.mktemp("labels") / "c.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    found = read_audioset_labels(path)
    assert found == names
    assert list(found) == sorted(names)
