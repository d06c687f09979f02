"""What can end a run early: a loss that is not finite, and a request to stop."""

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from matpac.train import guard
from matpac.train.guard import LossWatch, StopSignal, TrainingError
from matpac.train.run import Run

NAN, INF = float("nan"), float("inf")


def watch(folder: Path, scaled: bool = False) -> LossWatch:
    return LossWatch(Run(folder, resume=False, keep=1), scaled)


def see(watched: LossWatch, step: int, loss: float, norm: float = 1.0, device: str = "cpu") -> None:
    watched.see(
        step, torch.tensor(loss, device=device), torch.tensor(norm, device=device), [f"/{step}.wav", "/b.wav"]
    )


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (INF, 1.0), (-INF, NAN), (1.0, NAN), (1.0, INF)])
def test_the_first_bad_step_is_named_with_its_clips_and_the_last_checkpoint(
    loss: float, norm: float, tmp_path: Path
) -> None:
    watched = watch(tmp_path)
    see(watched, 6, 1.0)
    newest = tmp_path / "checkpoints" / "step-00000005"
    newest.mkdir(parents=True)
    (newest / "state.json").write_text("{}")
    with pytest.raises(TrainingError) as error:
        see(watched, 7, loss, norm)
    for part in (f"step 7: the loss is {loss}", f"norm {norm}", str(newest), "/7.wav, /b.wav"):
        assert part in str(error.value)


def test_scaled_gradients_may_overflow(tmp_path: Path) -> None:
    watched = watch(tmp_path, scaled=True)
    see(watched, 1, 1.0, INF)
    with pytest.raises(TrainingError):
        see(watched, 2, NAN)


def test_mean_since_the_last_mean(tmp_path: Path) -> None:
    watched = watch(tmp_path)
    assert watched.mean() is None
    for step, loss in enumerate((1.0, 2.0, 6.0)):
        see(watched, step, loss)
    assert watched.mean() == pytest.approx(3.0)
    see(watched, 3, 5.0)
    assert watched.mean() == pytest.approx(5.0)
    assert watched.mean() is None


def test_other_devices_are_not_waited_for(tmp_path: Path) -> None:
    watched = watch(tmp_path)
    # values of a meta tensor cannot be read: this fails if `see` tries
    see(watched, 1, NAN, device="meta")
    with pytest.raises(NotImplementedError, match="no data"):
        watched.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_a_later_one_ends_the_program(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.wanted
        os.kill(os.getpid(), number)
        assert stop.wanted
        now[0] += 0.5  # the launcher's copy of the same Ctrl-C
        os.kill(os.getpid(), number)
        now[0] += 1.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def elsewhere() -> None:
        with StopSignal() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.wanted))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
