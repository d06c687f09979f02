"""What can end a run before its last step: a loss that is not finite, and a request to stop."""

import math
import signal
import threading
import time
from types import FrameType

import torch
from torch import Tensor

from matpac.errors import MatpacError
from matpac.train.run import Run

SAME_REQUEST_SECONDS = 1.0
"""Signals this close to the first one repeat it: under torchrun a Ctrl-C comes from the terminal and from the
launcher. Default; the two arrive within milliseconds, and people take longer for a second one."""


class TrainingError(MatpacError):
    """Training cannot continue; the message has the step, the reason, and from where to resume."""


class LossWatch:
    """Finds the first step whose loss or gradient is not finite, without making a GPU wait at every step.

    On a CPU every step is checked when it is done; on other devices `check` does it, which log intervals and
    checkpoints call, so that spoilt weights are never saved.

    Args:
        run: knows the newest checkpoint.
        scaled: whether gradients are scaled for float16. Some then overflow now and then as a matter of course,
            the scaler skips their steps, and only the loss is watched.
    """

    def __init__(self, run: Run, scaled: bool = False) -> None:
        self._run = run
        self._scaled = scaled
        self._seen: list[tuple[int, Tensor, list[str]]] = []
        self._sum = 0.0
        self._count = 0

    def see(self, step: int, loss: Tensor, norm: Tensor, paths: list[str]) -> None:
        """Remember the loss of a step, its gradient's norm and the clips it came from.

        Raises:
            TrainingError: on a CPU, at once.
        """
        self._seen.append((step, torch.stack([loss.detach(), norm.detach().to(loss)]), paths))
        if loss.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Check all losses since the last check.

        Raises:
            TrainingError: names the first bad step and its clips.
        """
        if not self._seen:
            return
        values = torch.stack([pair for _, pair, _ in self._seen]).tolist()
        for (step, _, paths), (loss, norm) in zip(self._seen, values, strict=True):
            if not math.isfinite(loss) or not (self._scaled or math.isfinite(norm)):
                raise TrainingError(
                    f"step {step}: the loss is {loss} and its gradient's norm {norm}; "
                    f"last good checkpoint: {self._run.newest or 'none yet'}; "
                    f"clips of its batch: {', '.join(paths)}"
                )
            self._sum += loss
            self._count += 1
        self._seen.clear()

    def mean(self) -> float | None:
        """Mean loss since the last call."""
        self.check()
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean


class StopSignal:
    """Turns the first Ctrl-C (or SIGTERM, as schedulers send it) into a request that the loop can honour.

    A later one (after `SAME_REQUEST_SECONDS`) ends the program as usual. A context manager, for the main thread;
    elsewhere signals cannot be caught and nothing changes.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._since = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.wanted:
            self.wanted, self._since = True, now
        elif now - self._since > SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
