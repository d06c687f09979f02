"""What a person at the terminal sees of long work."""

import pytest

from matpac.console import track


def test_progress_is_shown_in_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(track(range(3), "Reading", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(track(range(3), "Reading", 3)) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "Reading" in err
    assert "3/3" in err
