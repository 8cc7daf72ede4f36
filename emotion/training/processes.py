"""What several processes of one run owe one another: the main one's answers, the sum of their shares, and a word when one is gone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from emotion.errors import EmotionError, TrainingError

T = TypeVar("T")

PARTED = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out")
"""What stands in the messages of a process group that has lost a process."""


def ask_main(accelerator: Accelerator, ask: Callable[[], T]) -> T:
    """Return on every process what `ask` returns on the main one, the only one that calls it.

    Raises: the EmotionError that it raises there, on every process: the others would wait for an answer.
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


def add_shares(share: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """Return on every process the sum of an array that each has filled its own rows of, the others being 0."""
    return accelerator.reduce(torch.from_numpy(share).to(accelerator.device), "sum").cpu().numpy()


@contextmanager
def explain_parting() -> Iterator[None]:
    """Turn what a process group raises when a process is gone, or silent for too long, into one line.

    Raises: TrainingError in its place.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's errors have no other type in common
        message, num_processes = str(error), int(os.environ.get("WORLD_SIZE", "1"))
        if num_processes == 1 or not any(sign in message.lower() for sign in PARTED):
            raise
        raise TrainingError(
            f"process {os.environ.get('RANK')} of {num_processes} (from 0): another one is gone, or was silent for "
            f"training.timeout_minutes ({message.splitlines()[0][:200]}); look at its output, then go on with --resume"
        ) from None
