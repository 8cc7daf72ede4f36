"""What surrounds forward and backward in one optimizer step: micro-batches, gradient exchange, out-of-memory back-off, clipping.

The gradient is exactly that of the whole batch, whatever the micro-batches: each loss is a sum divided by the targets of the
whole batch, the pairs of row and label that are judged.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from emotion.cpu import fast_path
from emotion.data.batching import Batch
from emotion.distributed.sharding import is_sharded
from emotion.errors import TrainingError
from emotion.modeling.prediction import describe_oom
from emotion.tracking.efficiency import StepResult


@dataclass
class OomBackoff:
    """How often this process has halved its micro-batches because memory ran out; it does not try the larger ones again."""

    num_halvings: int = 0

    def split(self, micro_batches: list[Batch]) -> list[Batch]:
        """Return the same rows in micro-batches halved `num_halvings` times."""
        if not self.num_halvings:
            return micro_batches
        return [part for batch in micro_batches for part in batch.split(2**self.num_halvings)]


class GradientAccumulator:
    """Adds up the gradients of a batch over its micro-batches, on all processes.

        for micro_batch in accumulator.micro_batches(parts, step):
            with accumulator.accumulate():
                accumulator.backward(loss_of(micro_batch))
        accumulator.clip_gradients(max_grad_norm)

    Where memory runs out inside `accumulate`, the gradients are dropped and the batch begins again with halved micro-batches.
    """

    def __init__(self, model: Any, optimizer: Any, accelerator: Accelerator, backoff: OomBackoff | None = None) -> None:
        self.model, self.optimizer, self.accelerator = model, optimizer, accelerator
        self.backoff = backoff or OomBackoff()
        self._parts: list[Batch] = []
        self._rows = np.zeros(0, dtype=np.int64)
        self._step = self._position = self._num_halvings_before = 0
        self._is_out_of_memory = False
        self._loss = torch.zeros(())

    def micro_batches(self, parts: list[Batch], step: int) -> Iterator[Batch]:
        """Yield the micro-batches of this process for optimizer step `step`, on its device.

        A sharded model is never halved: the other processes take part in each of its forwards.

        Raises: TrainingError where memory runs out and the batch cannot begin again.
        """
        self._step, self._num_halvings_before = step, self.backoff.num_halvings
        self._rows = np.concatenate([part.row_index for part in parts])
        while True:
            self._parts = parts if is_sharded(self.model) else self.backoff.split(parts)
            self._loss, self._is_out_of_memory = torch.zeros((), device=self.accelerator.device), False
            for position, micro_batch in enumerate(self._parts):
                self._position = position
                with self._catch_oom():
                    batch = micro_batch.to(self.accelerator.device)
                if not self._is_out_of_memory:
                    yield batch
                if self._is_out_of_memory:
                    break
            else:
                return
            self._check_may_begin_again()
            self.backoff.num_halvings += 1
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()  # the freed blocks are of other sizes; does nothing without a GPU

    def accumulate(self) -> AbstractContextManager[None]:
        """Return the context of a micro-batch's forward and backward: gradients are exchanged between processes in the last one only.

        A sharded model exchanges them in each: whole gradients kept in between would undo what sharding saves.
        """
        return self._catch_oom(nullcontext() if self._is_exchanging else self.accelerator.no_sync(self.model))

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a micro-batch's loss, its part of the mean over the whole batch; DDP averages, hence the factor."""
        self.accelerator.backward(loss * self.accelerator.num_processes)
        self._loss += loss.detach()

    def clip_gradients(self, max_grad_norm: float) -> StepResult:
        """Clip the gradients to a norm (0: not at all) and return what the step did so far, added up over the processes.

        Raises: TrainingError if loss or gradients are not finite, naming step and rows; the weights are then untouched.
        """
        bound = max_grad_norm or float("inf")
        norm = fast_path.clip_gradients(self.optimizer, bound)
        if norm is None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), bound)
        counts = [
            sum(part.num_tokens for part in self._parts),
            sum(part.input_ids.numel() for part in self._parts),
            len(self._rows),
            self.backoff.num_halvings - self._num_halvings_before,
        ]
        device = self.accelerator.device
        values = torch.cat([self._loss.reshape(1), torch.tensor(counts, dtype=torch.float32, device=device)])  # exact up to 16 million
        loss, num_tokens, num_positions, num_examples, num_halvings = self.accelerator.reduce(values, "sum").tolist()
        grad_norm = float(norm)
        # fp16 skips a step whose scaled gradients overflow and lowers its scale; only a bad loss is fatal there.
        if not np.isfinite(loss) or (not np.isfinite(grad_norm) and self.accelerator.scaler is None):
            raise TrainingError(
                f"step {self._step}: loss is {loss}, gradient norm {grad_norm}, both must be finite; training rows (from 0) "
                f"{sorted(self._rows.tolist())}: look at them, lower training.learning_rate or set training.precision=fp32"
            )
        learning_rate = self.optimizer.param_groups[0]["lr"]
        return StepResult(loss, grad_norm, learning_rate, int(num_examples), int(num_tokens), int(num_positions), int(num_halvings))

    @property
    def _is_exchanging(self) -> bool:
        return is_sharded(self.model) or self._position == len(self._parts) - 1

    @contextmanager
    def _catch_oom(self, context: AbstractContextManager[Any] | None = None) -> Iterator[None]:
        """Note that memory ran out, and let go of the error: its frames would hold on to the memory."""
        try:
            with context or nullcontext():
                yield
        except torch.OutOfMemoryError:
            self._is_out_of_memory = True

    def _check_may_begin_again(self) -> None:
        """Raise a TrainingError for a single text, and where the other processes may have exchanged gradients already."""
        num_texts, width = self._parts[self._position].input_ids.shape
        if num_texts == 1 or (self.accelerator.num_processes > 1 and self._is_exchanging):
            raise TrainingError(f"step {self._step}: {describe_oom(num_texts, width)}")
