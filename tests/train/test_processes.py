"""What processes agree on: the first does its part, the others wait for it, and nobody waits for ever."""

import itertools
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from matpac.errors import MatpacError
from matpac.train import processes
from matpac.train.processes import first_then_others

FIRST: Any = SimpleNamespace(is_global_zero=True)
OTHER: Any = SimpleNamespace(is_global_zero=False)
"""Of two processes; none has a collective that it could wait in."""


def nothing() -> NoReturn:
    raise AssertionError("is another process's part")


def fails() -> NoReturn:
    raise OSError("No space left on device")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is both, and has the store that they would share."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(processes, "_joined", lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(processes, "_TURNS", itertools.repeat(0))


@pytest.mark.usefixtures("joined")
def test_others_wait_for_the_first_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(hours, None) is None:
            assert first_then_others(FIRST, lambda: "read", nothing) == "read"

    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=sleep))
    assert first_then_others(OTHER, nothing, lambda: "kept") == "kept"


@pytest.mark.usefixtures("joined")
def test_others_do_not_begin_what_the_first_could_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=lambda seconds: None))
    with pytest.raises(OSError, match="No space left"):
        first_then_others(FIRST, fails, nothing)
    with pytest.raises(MatpacError, match="the first process"):
        first_then_others(OTHER, nothing, nothing)


@pytest.mark.usefixtures("joined")
def test_others_end_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: torch.distributed.Store, keys: list[str]) -> NoReturn:
        raise torch.distributed.DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(torch.distributed.HashStore, "check", gone)
    with pytest.raises(MatpacError, match="the first process"):
        first_then_others(OTHER, nothing, nothing)


def test_a_process_alone_waits_for_nobody() -> None:
    assert first_then_others(FIRST, lambda: "read", nothing) == "read"
