"""Ctrl-C and SIGTERM: the first lets the step finish and saves a state, the second stops at once."""

import signal
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first of `SIGNALS` only sets a flag."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that came, if one did."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agree(self, accelerator: Accelerator, is_save_due: bool) -> tuple[bool, bool]:
        """Return (whether any process was interrupted, whether any holds a save to be due), the same on all processes."""
        if accelerator.num_processes > 1:
            flags = accelerator.reduce(torch.tensor([self.signal or 0, int(is_save_due)], device=accelerator.device), "sum").tolist()
            if flags[0] and self.signal is None:
                self.signal = signal.SIGINT
            return flags[0] > 0, flags[1] > 0
        return self.signal is not None, is_save_due

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
