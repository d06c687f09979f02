"""What the terminal shows of a run."""

import pytest

from matpac.train import console
from matpac.train.console import Speed


def test_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    speed = Speed(batch_size=8)
    for _ in range(4):
        now[0] += 0.5
        speed.count()
    assert speed.values() == {"speed/clips_per_second": 16.0, "speed/seconds_per_step": 0.5}
    now[0] += 2.0
    speed.count()
    assert speed.values() == {"speed/clips_per_second": 4.0, "speed/seconds_per_step": 2.0}
