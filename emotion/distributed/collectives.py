"""What the processes of a run tell one another, and the message when one of them is gone."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from emotion.errors import EmotionError, TrainingError
from emotion.text import is_quiet, print_message

T = TypeVar("T")

LOST_PROCESS_SIGNS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out")
"""Parts of the messages of a process group that has lost a process."""


def ask_main(accelerator: Accelerator, ask: Callable[[], T]) -> T:
    """Return on every process what `ask` returns on the main one, which alone calls it.

    Raises: the EmotionError that it raises there, on every process, so that none waits for an answer.
    """
    answers: list[T | EmotionError | None] = [None]
    if accelerator.is_main_process:
        try:
            answers = [ask()]
        except EmotionError as error:
            answers = [error]
    broadcast_object_list(answers)
    if isinstance(answers[0], EmotionError):
        raise answers[0]
    return answers[0]  # type: ignore[return-value]


def print_on_main(accelerator: Accelerator, message: str) -> None:
    """Print a message on stdout of the main process; with `--quiet`, not at all."""
    if accelerator.is_main_process and not is_quiet():
        print_message(message, sys.stdout)


def all_reduce_sum(values: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """Return on every process the sum of an array over all processes."""
    return accelerator.reduce(torch.from_numpy(values).to(accelerator.device), "sum").cpu().numpy()


@contextmanager
def translate_process_group_errors() -> Iterator[None]:
    """Turn the error of a process group that has lost a process, or waited for one too long, into one line.

    Raises: TrainingError in its place.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's errors have no other type in common
        message, num_processes = str(error), int(os.environ.get("WORLD_SIZE", "1"))
        if num_processes == 1 or not any(sign in message.lower() for sign in LOST_PROCESS_SIGNS):
            raise
        raise TrainingError(
            f"process {os.environ.get('RANK')} of {num_processes} (from 0): another one is gone, or was silent for "
            f"training.timeout_minutes ({message.splitlines()[0][:200]}); look at its output, then go on with --resume"
        ) from None
