"""Ctrl-C, SIGTERM and SIGHUP: the first lets the step finish and saves a state; Ctrl-C or SIGTERM again stops at once.

Either way, the last line is the command that goes on with the run.
"""

import os
import shlex
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

from emotion.cpu.machine import read_launcher

HANG_UP = getattr(signal, "SIGHUP", getattr(signal, "SIGBREAK", None))
"""The terminal is closed; SIGBREAK on Windows."""
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANG_UP) if number is not None)


def format_resume_command(words: list[str], name: str) -> str:
    """Return the command that goes on with the run `name` of a script: as it was typed, launcher included, with run.name and --resume.

    `words` are those of the script, `sys.argv`.
    """
    command = ["python", *words]
    launcher = read_launcher() if {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & set(os.environ) else None
    if launcher is not None and launcher[0][-len(words) :] == words:
        command = launcher[0] if "-m" in launcher[0][:2] else launcher[0][1:]  # not the interpreter of `accelerate` or `torchrun`
        command = [Path(command[0]).name, *command[1:]]
        if "ACCELERATE_USE_CPU" in launcher[1]:
            command.insert(0, f"ACCELERATE_USE_CPU={launcher[1]['ACCELERATE_USE_CPU']}")
    kept = [word for word in command if word != "--resume" and not word.startswith("run.name=")]
    return shlex.join([*kept, f"run.name={name}", *([] if "--resume-anyway" in kept else ["--resume"])])


class Interruption:
    """A context in which the first of `SIGNALS` only sets a flag."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that came, if one did."""
        self._previous: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "Interruption":
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        # Under nohup, SIGHUP is ignored and stays so.
        numbers = [number for number in SIGNALS if number != HANG_UP or signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._on_signal) for number in numbers}
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
        if number == HANG_UP:
            self._leave_terminal()
        elif number == self.signal:  # another one can be the launcher's answer to the first
            raise KeyboardInterrupt
        self.signal = self.signal or number

    def _leave_terminal(self) -> None:
        """Redirect the output of a terminal that is gone: a message that cannot be written would end the run before its state is saved."""
        for descriptor in self._terminals:
            if not os.isatty(descriptor):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
