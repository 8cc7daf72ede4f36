"""Ctrl-C: the first lets the step finish and what is done be saved, the second stops at once."""

import signal
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator


class Interruption:
    """A context in which the first SIGINT only sets a flag."""

    def __init__(self) -> None:
        self._is_set = False
        self._previous: Any = None

    def __enter__(self) -> "Interruption":
        self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def is_requested(self, accelerator: Accelerator) -> bool:
        """Return whether any process was interrupted; all processes get the same answer."""
        if accelerator.num_processes == 1:
            return self._is_set
        return bool(accelerator.reduce(torch.tensor(int(self._is_set), device=accelerator.device), "sum"))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
