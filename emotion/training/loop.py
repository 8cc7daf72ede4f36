"""The two loops: one optimizer step over a window of micro-batches, and prediction over batches.

Nothing here knows what the backbone is, whether it is quantised, or what is done with the numbers.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator

from emotion.data.batching import Batch
from emotion.errors import TrainingError
from emotion.training.sharding import backward, clip_gradients, is_sharded, no_gradients

MOST_AT_ONCE = 2
"""Batches that a CPU predicts at the same time. More were not tried, and each takes its own memory for activations."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did over all processes: mean loss per row and label, gradient norm before clipping, rate, counts."""

    loss: float
    grad_norm: float
    learning_rate: float
    num_examples: int
    num_tokens: int
    num_positions: int
    """Tokens and padding together."""
    num_halvings: int = 0
    """How often a process ran out of memory in this step, and halved its micro-batches."""


@dataclass
class Halving:
    """How often a process has halved its micro-batches because memory ran out: it does not try the larger ones again."""

    num: int = 0

    def split(self, micro_batches: list[Batch]) -> list[Batch]:
        return [part for batch in micro_batches for part in (batch.split(2**self.num) if self.num else [batch])]


@dataclass(frozen=True)
class Shortage:
    """A micro-batch that memory was too small for, and whether its window may be begun anew."""

    num_texts: int
    width: int
    may_retry: bool


def train_window(
    model: Any,
    micro_batches: list[Batch],
    accelerator: Accelerator,
    optimizer: Any,
    scheduler: Any,
    sum_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    max_grad_norm: float,
    num_rows: int,
    step: int,
    halving: Halving | None = None,
) -> StepResult:
    """Take one optimizer step on this process's micro-batches of a window that has `num_rows` rows over all processes.

    The loss is the mean over the window's rows and labels: its gradient is that of the whole window at once,
    whatever the micro-batches. So where memory runs out, the window is begun anew with halves of them, now and (by `halving`) from now on.

    Raises: TrainingError at a loss or gradient that is not finite, naming step and rows, and where memory runs out for good;
    the weights are then untouched.
    """
    model.train()
    halving = halving or Halving()
    num_before = halving.num
    while True:
        optimizer.zero_grad()
        parts = micro_batches if is_sharded(model) else halving.split(micro_batches)
        total_loss = _add_gradients(model, parts, accelerator, sum_loss, num_rows)
        if not isinstance(total_loss, Shortage):
            break
        if not total_loss.may_retry:
            _refuse(f"step {step}", total_loss)
        halving.num += 1
        torch.cuda.empty_cache()  # what the larger micro-batch held is of other sizes; does nothing without a GPU
    norm = clip_gradients(model, optimizer, accelerator, max_grad_norm)
    num_tokens, num_positions = sum(b.num_tokens for b in parts), sum(b.input_ids.numel() for b in parts)
    counts = torch.tensor(
        [num_tokens, num_positions, halving.num - num_before], dtype=torch.float32, device=accelerator.device
    )  # exact up to 16 million
    totals = accelerator.reduce(torch.cat([total_loss.reshape(1), counts]), "sum").tolist()
    window_loss, grad_norm = totals[0], float(norm)
    # fp16 skips a step whose scaled gradients overflow and lowers its scale; only a bad loss is fatal there.
    if not np.isfinite(window_loss) or (not np.isfinite(grad_norm) and accelerator.scaler is None):
        rows = np.concatenate([batch.row_index for batch in micro_batches])
        raise TrainingError(
            f"step {step}: loss is {window_loss}, gradient norm {grad_norm}, both must be finite; training rows (from 0) "
            f"{sorted(rows.tolist())}: look at them, lower training.learning_rate or set training.precision=fp32"
        )
    learning_rate = scheduler.get_last_lr()[0]
    optimizer.step()
    scheduler.step()
    return StepResult(
        loss=window_loss,
        grad_norm=grad_norm,
        learning_rate=learning_rate,
        num_examples=num_rows,
        num_tokens=int(totals[1]),
        num_positions=int(totals[2]),
        num_halvings=int(totals[3]),
    )


def _add_gradients(
    model: Any,
    micro_batches: list[Batch],
    accelerator: Accelerator,
    sum_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    num_rows: int,
) -> torch.Tensor | Shortage:
    """Add up the gradients of the micro-batches and return their loss; DDP averages over processes, hence the factor.

    A shortage is returned, not raised: an exception would hold on to the frames, and with them the memory. In the last micro-batch
    gradients are exchanged: with several processes the others may have some of them already, so the window cannot be begun anew.
    Of a sharded model every micro-batch is one of exchange: whole gradients kept from one to the next would undo what sharding saves.
    """
    total_loss = torch.zeros((), device=accelerator.device)
    for position, micro_batch in enumerate(micro_batches):
        is_last = position == len(micro_batches) - 1
        is_exchanging = is_sharded(model) or is_last
        try:
            batch = micro_batch.to(accelerator.device)
            assert batch.labels is not None
            with nullcontext() if is_exchanging else accelerator.no_sync(model):
                logits = model(**batch.inputs).logits  # (b, L)
                loss = sum_loss(logits, batch.labels) / (num_rows * batch.labels.shape[1])
                backward(model, loss * accelerator.num_processes, accelerator, is_last)
        except torch.OutOfMemoryError:
            num_texts, width = micro_batch.input_ids.shape
            return Shortage(num_texts, width, num_texts > 1 and (accelerator.num_processes == 1 or not is_exchanging))
        total_loss += loss.detach()
    return total_loss


def _refuse(place: str, shortage: Shortage) -> NoReturn:
    raise TrainingError(
        f"{place}: out of memory with {shortage.num_texts} x {shortage.width} tokens: halve training.per_device_batch_size and double "
        "training.gradient_accumulation_steps (the result is the same), or set model.gradient_checkpointing=true"
    )


def predict_logits(model: Any, batches: Iterable[Batch], num_rows: int, device: torch.device) -> np.ndarray:
    """Return logits, float32 (num_rows, L), put back in row order; rows that no batch holds are 0.

    On several processes each predicts its share of the batches, and the sum of their arrays is the whole.
    On a CPU with several threads two batches are predicted at once, by half of the threads each: 1.06x as fast on two cores.

    Raises: TrainingError if memory runs out for a sharded model: the other processes take part in each forward.
    """
    model.eval()
    logits = np.zeros((num_rows, model.config.num_labels), dtype=np.float32)
    num_threads = torch.get_num_threads() if device.type == "cpu" and not is_sharded(model) else 1
    later = iter(batches)
    first = list(islice(later, MOST_AT_ONCE))
    if num_threads < MOST_AT_ONCE or len(first) < MOST_AT_ONCE:  # a single batch has all threads
        for batch in chain(first, later):
            _predict_batch(model, batch, device, logits)
        return logits
    pending: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(MOST_AT_ONCE, initializer=torch.set_num_threads, initargs=(num_threads // MOST_AT_ONCE,))
    try:
        for batch in chain(first, later):
            if len(pending) > MOST_AT_ONCE:  # one more than are at work: no more are padded ahead of their time
                pending.popleft().result()
            pending.append(pool.submit(_predict_batch, model, batch, device, logits))
        for answer in pending:
            answer.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # what the pool's threads set is the default of threads to come
    return logits


def _predict_batch(model: Any, whole: Batch, device: torch.device, logits: np.ndarray) -> None:
    """Write the logits of a batch into their rows; one that memory is too small for is predicted in halves."""
    pending = [whole]
    while pending:
        batch = pending.pop()
        try:
            with no_gradients(model):
                logits[batch.row_index] = model(**batch.to(device).inputs).logits.float().cpu().numpy()
        except torch.OutOfMemoryError:
            if is_sharded(model):
                _refuse("validation", Shortage(len(batch.input_ids), batch.input_ids.shape[1], may_retry=False))
            if len(batch.row_index) <= 1:
                raise
            pending += batch.split(2)


def choose_precision(precision: str) -> str:
    """Return Accelerate's name for a precision; `auto` is bf16 on a GPU that has it and fp32 elsewhere.

    On a CPU without AMX or AVX512-BF16, bf16 takes 2-4x the time of fp32, so it has to be asked for.
    """
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and not torch.cuda.is_available():
        raise TrainingError("training.precision=fp16: needs a GPU; on a CPU take fp32 or bf16")
    return "no" if precision == "fp32" else precision


def name_precision(accelerator: Accelerator) -> str:
    """Return `fp32`, `bf16` or `fp16`."""
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
