"""Files of class names: the two kinds, and what is wrong with others."""

import pytest

from matpac.data.tables import TableError
from matpac.files.label_files import read_audioset_labels, read_label_file

REAL_BEGINNING = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/m/02zsn,"Female speech, woman speaking"
3,/t/dd00001,"Baby laughter"
"""
"""As the official file has it: quoted names, some with commas."""


@pytest.mark.parametrize("header", ["index,mid,display_name", '"index","mid","display_name"'])
def test_audioset_in_the_order_of_mids(tmp_path, header):
    (tmp_path / "c.csv").write_text(REAL_BEGINNING.replace("index,mid,display_name", header))
    assert list(read_audioset_labels(tmp_path / "c.csv").items()) == [
        ("/m/02zsn", "Female speech, woman speaking"),
        ("/m/05zppz", "Male speech, man speaking"),
        ("/m/09x0r", "Speech"),
        ("/t/dd00001", "Baby laughter"),
    ]
    assert read_label_file(tmp_path / "c.csv")[2] == "Speech"


def test_one_name_per_line(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffdog, barking\r\n Bär \nmid\n\n".encode())
    assert read_label_file(str(tmp_path / "names.txt")) == ["dog, barking", "Bär", "mid"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"caf\xe9\n", r"not UTF-8 text \(byte 3\)"),
        (b"index,mid,display_name\n", "no rows"),
        (b"index,mid,display_name\n0,/m/1,\n", "line 2 has no display_name"),
        (b"index,mid,display_name\n0,/m/1\n", "line 2 has 2 cells"),
        (b"index,mid,display_name\n0,/m/1,a\n1,/m/1,b\n", "'/m/1' is there twice"),
        (b'index,mid,display_name\n0,/m/1,"a\n', "line 2: a quote is left open"),
        (None, r"can't be read \(No such file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    path = tmp_path / "c.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match=rf"c\.csv: .*{message}"):
        read_label_file(path)
