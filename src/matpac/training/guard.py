"""What can end a run before its last step: a loss that is not finite, and a wish to stop."""

import math
import signal
import threading
from types import FrameType

import torch
from torch import Tensor

from matpac.errors import MatpacError
from matpac.training.run import Run


class TrainingError(MatpacError):
    """Training cannot go on; the message says at which step, why, and from where to go on."""


class LossWatch:
    """Finds the first step whose loss is not finite, without making a GPU wait at every step.

    On a CPU every loss is looked at when it comes; on other devices at `check`, which log intervals call.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: list[tuple[int, Tensor, list[str]]] = []
        self._sum = 0.0
        self._count = 0

    def see(self, step: int, loss: Tensor, paths: list[str]) -> None:
        """Remember the loss of a step and the clips it came from.

        Raises:
            TrainingError: on a CPU, at once.
        """
        self._seen.append((step, loss.detach(), paths))
        if loss.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Look at all losses since the last look.

        Raises:
            TrainingError: names the first bad step and its clips.
        """
        if not self._seen:
            return
        values = torch.stack([loss for _, loss, _ in self._seen]).tolist()
        for (step, _, paths), value in zip(self._seen, values, strict=True):
            if not math.isfinite(value):
                raise TrainingError(
                    f"step {step}: the loss is {value}; last good checkpoint: {self._run.newest or 'none yet'}; "
                    f"clips of its batch: {', '.join(paths)}"
                )
        self._sum += sum(values)
        self._count += len(values)
        self._seen.clear()

    def mean(self) -> float | None:
        """Mean loss since the last call."""
        self.check()
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean


class StopSignal:
    """Turns the first Ctrl-C (or SIGTERM, as schedulers send it) into a wish that the loop can honour.

    A second one ends the program as usual. Usable as a context manager, in the main thread or elsewhere
    (where signals cannot be caught and nothing changes).
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
