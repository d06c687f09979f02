"""Which device is meant."""

import pytest
import torch

from matpac import MatpacError
from matpac.devices import choose_device


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, True, "cuda:0"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_is_the_best_there_is(cuda: bool, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == chosen


def test_processes_of_a_machine_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [choose_device("auto", rank) for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]


def test_a_device_by_name() -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(MatpacError, match="--device tpu9: cannot be used here"):
        choose_device("tpu9")
