"""What a run cost: parameters, throughput, padding, memory, time and size on disk."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from emotion.modeling.lora import count_parameters


@dataclass(frozen=True)
class StepResult:
    """Result of one optimizer step over all processes."""

    loss: float
    """Mean over rows and labels."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    num_examples: int
    num_tokens: int
    num_positions: int
    """Tokens and padding together."""
    num_halvings: int = 0
    """How many times a process ran out of memory in this step and halved its micro-batches."""


COUNTS = ("num_examples", "num_tokens", "num_positions", "step_seconds", "saving_seconds")


@dataclass
class EfficiencyMeter:
    """Adds up the steps of a run on `num_processes` processes."""

    num_processes: int = 1
    started: float = field(default_factory=time.perf_counter)
    num_examples: int = 0
    num_tokens: int = 0
    num_positions: int = 0
    step_seconds: float = 0.0
    saving_seconds: float = 0.0
    """Spent on resumable states; training waits meanwhile."""

    def add(self, result: StepResult, seconds: float) -> None:
        """Count one optimizer step that took `seconds`."""
        self.num_examples += result.num_examples
        self.num_tokens += result.num_tokens
        self.num_positions += result.num_positions
        self.step_seconds += seconds

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Count the block's seconds as spent on saving a state; a state contains the seconds of the states before it."""
        started = time.perf_counter()
        yield
        self.saving_seconds += time.perf_counter() - started

    def capture(self) -> dict[str, float]:
        """Return the counts so far, for a resumed run."""
        return {name: getattr(self, name) for name in COUNTS} | {"seconds": time.perf_counter() - self.started}

    def restore(self, counts: dict[str, float]) -> None:
        """Continue from counts that `capture` returned; the time between the two calls does not count."""
        for name in COUNTS:
            setattr(self, name, counts[name])
        self.started = time.perf_counter() - counts["seconds"]

    def compute_rates(self) -> dict[str, float]:
        """Return examples per second of training and, where tokens were counted, tokens per second and the fraction of padding."""
        seconds = max(self.step_seconds, 1e-9)
        rates = {"examples_per_second": self.num_examples / seconds}
        if self.num_positions:
            rates["tokens_per_second"] = self.num_tokens / seconds
            rates["padding_share"] = 1 - self.num_tokens / self.num_positions
        return rates

    def summarize(self, model: Any, model_folder: Path, teachers_seconds: float = 0.0) -> dict[str, Any]:
        """Return the content of efficiency.json: memory and sizes in bytes, times in seconds.

        `teachers_seconds` is the time of the teachers that the run trained; the total includes it.
        """
        parameters, trainable = count_parameters(model)
        return {
            "parameters": parameters,
            "trainable_parameters": trainable,
            **self.compute_rates(),
            "examples_seen": self.num_examples,
            "training_seconds": self.step_seconds,
            "saving_seconds": self.saving_seconds,
            "teachers_seconds": teachers_seconds,
            "total_seconds": time.perf_counter() - self.started + teachers_seconds,
            "peak_memory": measure_peak_memory(),
            "model_size": sum(path.stat().st_size for path in model_folder.rglob("*") if path.is_file()),
            "num_processes": self.num_processes,
        }


def measure_peak_memory() -> int:
    """Return the peak memory of this process in bytes: of the GPU if there is one, otherwise of main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        import psutil  # Accelerate needs it too

        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
