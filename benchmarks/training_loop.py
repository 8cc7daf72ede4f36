"""The optimizer step of `train.py` without a run around it (validation, log, saved states), for benchmarks that time it."""

from typing import Any

import numpy as np
from accelerate import Accelerator

from emotion.config import TrainingConfig
from emotion.cpu import fast_path
from emotion.data.batching import Batch
from emotion.data.reading import Examples
from emotion.tracking.efficiency import StepResult
from emotion.training.accumulation import GradientAccumulator
from emotion.training.losses import build_loss
from emotion.training.optimization import build_optimizer, build_scheduler
from train import compute_loss


class TrainingLoop:
    """A model on one process with what `train.py` builds around it: fast path, optimizer, schedule, loss and accumulation."""

    def __init__(self, model: Any, settings: TrainingConfig, num_steps: int, accelerator: Accelerator) -> None:
        self.settings, self.accelerator = settings, accelerator
        model = fast_path.optimize_encoder(model, accelerator.device)
        optimizer = build_optimizer(model, settings, is_single_cpu=accelerator.device.type == "cpu")
        self.scheduler = build_scheduler(optimizer, num_steps, settings.warmup_ratio)
        no_rows = Examples([], [], np.zeros((0, model.config.num_labels), dtype=bool))  # binary cross-entropy asks nothing of them
        self.loss_function = build_loss(settings, no_rows, accelerator.device)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.accumulator = GradientAccumulator(self.model, self.optimizer, accelerator)

    def train_batch(self, micro_batches: list[Batch], step: int) -> StepResult:
        """Take one optimizer step on the rows of the micro-batches."""
        num_targets = sum(part.labels.numel() for part in micro_batches if part.labels is not None)
        self.model.train()
        for micro_batch in self.accumulator.micro_batches(micro_batches, step):
            with self.accumulator.accumulate():
                self.accumulator.backward(compute_loss(self.model, micro_batch, self.loss_function, num_targets))
        result = self.accumulator.clip_gradients(self.settings.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return result
