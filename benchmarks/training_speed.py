"""Examples per second of training: this project's loop against Hugging Face's Trainer, and against what the machine could do.

    python -m benchmarks.training_speed --texts FILE --output training_speed.json [--rows 2048] [--repeats 3]

The same weights, rows, windows of 32 rows, optimizer settings and threads for all; in each repeat the contenders take turns, each in
a process of its own, so that a noisy machine is noisy for all. Loading and tokenising are left out, and the first windows, in which
memory is got hold of. The Trainer pads to 128 tokens (as in its classification example), then pads to the longest of a batch, then
also groups by length; it trains the model as transformers has it. The floor is what the matrix products of the real tokens would
take in that model at the speed of a large matrix product, measured between the contenders.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

from benchmarks.full_size import measure_matrix_peak
from benchmarks.scoring_speed import read_texts
from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.cpu.deferred_adamw import may_defer
from emotion.cpu.machine import disable_malloc_trim
from emotion.data.batching import LengthBucketSampler, TokenizedTexts, split_batch, tokenize
from emotion.errors import ConfigError, exit_on_error
from emotion.files import write_json
from emotion.labels import LabelSet
from emotion.modeling.build import build_model, list_head_parameters
from emotion.tracking.efficiency import measure_peak_memory
from emotion.training import loop
from emotion.training.optimization import build_loss, build_optimizer, build_scheduler

NUM_LABELS = 28
MAX_LENGTH = 128
PADDED_SHARE = 8
"""The contender that pads to 128 takes an eighth of the rows: its speed does not depend on which."""
OURS = "this project"
WARMUP_STEPS = 4
"""Windows that are trained before the clock is started."""


@dataclass
class Workload:
    """What every contender trains on, and the settings it takes; labels are random, their values cost nothing."""

    tokens: TokenizedTexts
    labels: np.ndarray
    settings: TrainingConfig
    model: Any
    tokenizer: Any
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of our loop in forward, backward, clipping and optimizer."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", required=True, help="a file with a column text, or with texts first, such as GoEmotions' train.tsv")
    parser.add_argument("--backbone", default="bundled:all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, default=2_048)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=MAX_LENGTH, help="tokens kept of a text (default: 128)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default="training_speed.json", help="where the figures go as JSON")
    parser.add_argument("--contender", choices=CONTENDERS, help="run this one once, in this process, and print its figures as JSON")
    arguments = parser.parse_args()
    if arguments.contender:
        texts = read_texts(Path(arguments.texts), arguments.rows)
        workload = prepare(arguments.backbone, texts, arguments.batch_size, arguments.max_length)
        rate = CONTENDERS[arguments.contender](workload)
        figures = {
            "texts": len(workload.labels),
            "rate": rate,
            "operations_per_text": count_operations(workload) / len(workload.labels),
            "parts": workload.parts,
        }
        print(json.dumps(figures | {"threads": torch.get_num_threads(), "peak_memory": measure_peak_memory()}))
        return 0
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    peaks = []
    for repeat in range(arguments.repeats):
        for name, figures in found.items():
            peaks.append(measure_matrix_peak(torch.device("cpu"), torch.float32))
            figures.append(run_alone(name, *sys.argv[1:]))
            print(f"repeat {repeat + 1} of {arguments.repeats}: {name} {figures[-1]['rate']:.1f} examples/s", file=sys.stderr, flush=True)
    ours, peak = found[OURS], statistics.median(peaks)
    rows = summarize({name: [run["rate"] for run in runs] for name, runs in found.items()}, ours[0]["operations_per_text"], peak)
    shares = share_time({name: sum(run["parts"][name] for run in ours) for name in ours[0]["parts"]})
    result = {"texts": ours[0]["texts"], "matrix_peak_flops": peak, "operations_per_text": ours[0]["operations_per_text"]}
    write_json(Path(arguments.output), result | {"threads": ours[0]["threads"], "contenders": rows, "shares_of_our_time": shares})
    print("| loop | examples/s | against the padded Trainer | against the best Trainer | share of the matrix peak |\n|---|---|---|---|---|")
    for row in rows:
        print("| {loop} | {rate:.1f} | {against_padded:.1f}x | {against_best:.2f}x | {share_of_peak:.0%} |".format(**row))
    print(f"\n{peak / 1e9:.0f} GFLOP/s in a large matrix product; of our time " + ", ".join(f"{n} {v:.1%}" for n, v in shares.items()))
    return 0


def run_alone(contender: str, *words: str) -> dict[str, Any]:
    """Run a contender once in a process of its own, and return its figures.

    Raises: SystemExit if it fails.
    """
    command = [sys.executable, "-m", "benchmarks.training_speed", *words, "--contender", contender]
    result = subprocess.run(command, stdout=subprocess.PIPE)
    if result.returncode:
        raise SystemExit(result.returncode)  # it has said why
    return dict(json.loads(result.stdout.splitlines()[-1]))


def share_time(parts: dict[str, float]) -> dict[str, float]:
    """Return the shares of our loop's time, and that of all that is none of its parts."""
    shares = {name: parts[name] / parts["all"] for name in ("forward", "backward", "clipping", "optimizer")}
    return shares | {"outside": 1 - sum(shares.values())}


def prepare(backbone: str, texts: list[str], batch_size: int, max_length: int = MAX_LENGTH) -> Workload:
    label_set = LabelSet(tuple(f"label {column}" for column in range(NUM_LABELS)))
    set_seed(0)
    model, tokenizer = build_model(ModelConfig(backbone), LoraConfig(), label_set, np.full(NUM_LABELS, 0.05))
    labels = np.random.default_rng(0).random((len(texts), NUM_LABELS)) < 0.05
    settings = TrainingConfig(per_device_batch_size=batch_size, learning_rate=1e-6, head_learning_rate=1e-6)
    if len(texts) < 2 * WARMUP_STEPS * batch_size:
        raise ConfigError(f"--rows: {len(texts):,} different texts, at least {2 * WARMUP_STEPS * batch_size} are needed to time windows")
    return Workload(tokenize(tokenizer, texts, max_length), labels, settings, model, tokenizer)


def run_ours(work: Workload) -> float:
    """Train for one epoch in this project's loop and return examples per second."""
    disable_malloc_trim()
    accelerator = Accelerator()
    sampler = LengthBucketSampler(work.tokens.lengths, work.settings.per_device_batch_size, work.settings.seed)
    optimizer = build_optimizer(work.model, list_head_parameters(work.model), work.settings, may_defer(accelerator))
    scheduler = build_scheduler(optimizer, sampler.num_batches, work.settings.warmup_ratio)
    model, optimizer = accelerator.prepare(work.model, optimizer)
    sum_loss = build_loss(None, accelerator.device)
    watches = ((model, "forward", "forward"), (accelerator, "backward", "backward"))
    watches += ((loop, "clip_gradients", "clipping"), (optimizer, "step", "optimizer"))
    for owner, method, name in watches:
        watch(owner, method, name, work.parts)
    num_done = 0
    for step, window in enumerate(sampler.windows(1), start=1):
        if step == WARMUP_STEPS + 1:
            started, num_done = time.perf_counter(), 0
            work.parts.clear()
        batches = [work.tokens.collate(rows, work.labels) for rows in split_batch(window, 1)]
        loop.train_window(model, batches, accelerator, optimizer, scheduler, sum_loss, work.settings.max_grad_norm, len(window), step)
        num_done += len(window)
    work.parts["all"] = time.perf_counter() - started
    return num_done / work.parts["all"]


def watch(owner: Any, method: str, name: str, parts: dict[str, float]) -> None:
    """Add the seconds that a method of one object takes to `parts[name]`."""
    inner = getattr(owner, method)

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = inner(*arguments, **options)
        parts[name] += time.perf_counter() - started
        return result

    setattr(owner, method, timed)


class Clock(TrainerCallback):
    """Times the Trainer from the end of its first windows to that of its last."""

    seconds = 0.0

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == WARMUP_STEPS:
            self.started = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def run_trainer(work: Workload, padding: str = "longest", **options: Any) -> float:
    """Train for one epoch in the Trainer and return examples per second."""
    num_rows, fewest = len(work.labels), 2 * WARMUP_STEPS * work.settings.per_device_batch_size
    if padding == "max_length":
        num_rows = max(num_rows // PADDED_SHARE, fewest)
    rows = [{"input_ids": work.tokens.token_ids[row], "labels": work.labels[row].astype(np.float32)} for row in range(num_rows)]
    settings, clock = work.settings, Clock()
    with tempfile.TemporaryDirectory() as folder:
        work.model.save_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=settings.per_device_batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_steps=settings.warmup_ratio,
            max_grad_norm=settings.max_grad_norm,
            optim="adamw_torch_fused",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **options,
        )
        collator = DataCollatorWithPadding(work.tokenizer, padding=padding, max_length=MAX_LENGTH if padding == "max_length" else None)
        Trainer(model, arguments, train_dataset=rows, data_collator=collator, callbacks=[clock]).train()
    return (num_rows - WARMUP_STEPS * settings.per_device_batch_size) / clock.seconds


def count_operations(work: Workload) -> float:
    """Return the floating-point operations of an epoch on real tokens, all layers whole, as the Trainer's model has them: 6 a weight
    and token, the pooler and head once a text, 12 a layer, width and pair of tokens. This project's model does fewer."""
    config, lengths = work.model.config, work.tokens.lengths.astype(float)
    weights = {
        name: parameter.numel() for name, parameter in work.model.named_parameters() if parameter.ndim > 1 and "embeddings" not in name
    }
    of_texts = sum(count for name, count in weights.items() if "pooler" in name or "classifier" in name)
    of_tokens = sum(weights.values()) - of_texts
    pairs = config.num_hidden_layers * config.hidden_size * (lengths**2).sum()
    return float(6 * of_tokens * lengths.sum() + 6 * of_texts * len(lengths) + 12 * pairs)


def summarize(rates: dict[str, list[float]], operations_per_text: float, peak: float) -> list[dict[str, Any]]:
    """Return a row a contender: medians over repeats of its rate, and of its ratio to others in the same repeat."""
    padded, *trainers = (values for name, values in rates.items() if name != OURS)
    best = np.max(trainers, axis=0)
    return [
        {
            "loop": name,
            "rate": statistics.median(values),
            "against_padded": float(np.median(np.divide(values, padded))),
            "against_best": float(np.median(np.divide(values, best))),
            "share_of_peak": statistics.median(values) * operations_per_text / peak,
        }
        for name, values in rates.items()
    ]


CONTENDERS: dict[str, Callable[[Workload], float]] = {
    "Trainer, padded to 128": lambda work: run_trainer(work, padding="max_length"),
    "Trainer, dynamic padding": run_trainer,
    "Trainer, grouped by length": lambda work: run_trainer(work, train_sampling_strategy="group_by_length"),
    OURS: run_ours,
}


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
