"""Examples per second of training: this project's loop, Hugging Face's Trainer, and the limit of the machine.

    python -m benchmarks.training_speed --texts FILE --output training_speed.json [--rows 2048] [--repeats 3]
    python -m benchmarks.training_speed --texts FILE --backbone bundled:gemma-3-270m --lora 16 --rows 512

All contenders have the same weights, rows, batches of 32 rows, optimizer settings and threads. They take turns in each repeat, each in a
process of its own, so that noise of the machine affects all of them. Loading, tokenization and the first batches, which allocate memory,
are not timed. The Trainer trains transformers' own model, with `--lora` that with PEFT's adapters, in three variants: padded to 128 tokens
(as in its classification example), padded to the longest row of a batch, and also grouped by length. The limit is the time of the matrix
products of the real tokens in that model at the speed of a large matrix product, which is measured between the contenders.
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
import peft
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

from benchmarks.full_size import measure_matrix_peak
from benchmarks.scoring_speed import read_texts
from benchmarks.training_loop import TrainingLoop
from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.cpu import fast_path
from emotion.data.batching import LengthBucketSampler, TokenizedTexts, split_batch, tokenize
from emotion.errors import ConfigError, exit_on_error
from emotion.files import write_json
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.lora import strip_adapters
from emotion.tracking.efficiency import measure_peak_memory

NUM_LABELS = 28
MAX_LENGTH = 128
PADDED_DIVISOR = 8
"""The contender that pads to 128 tokens gets an eighth of the rows; its speed does not depend on their lengths."""
OURS = "this project"
WARMUP_STEPS = 4
"""Batches that are trained before the clock starts."""


@dataclass
class Workload:
    """Rows and settings of every contender; the labels are random, since their values do not affect the speed."""

    tokens: TokenizedTexts
    labels: np.ndarray
    settings: TrainingConfig
    model: Any
    tokenizer: Any
    backbone: str
    lora: LoraConfig
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of this project's loop in `forward`, `backward`, `clipping`, `optimizer` and `all`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", required=True, help="file with a column `text`, or with the texts in its first column")
    parser.add_argument("--backbone", default="bundled:all-MiniLM-L6-v2")
    parser.add_argument("--lora", type=int, default=0, metavar="R", help="train LoRA adapters of this rank instead of all weights")
    parser.add_argument("--rows", type=int, default=2_048)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=MAX_LENGTH, help="tokens kept of a text (default: 128)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default="training_speed.json", help="JSON file for the results (default: training_speed.json)")
    parser.add_argument("--contender", choices=CONTENDERS, help="run this contender once, in this process, and print its results as JSON")
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(measure_contender(arguments)))
        return 0
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    peaks = []
    for repeat in range(arguments.repeats):
        for name, runs in results.items():
            peaks.append(measure_matrix_peak(torch.device("cpu"), torch.float32))
            runs.append(run_contender(name, *sys.argv[1:]))
            print(f"repeat {repeat + 1} of {arguments.repeats}: {name} {runs[-1]['rate']:.1f} examples/s", file=sys.stderr, flush=True)
    ours, peak = results[OURS], statistics.median(peaks)
    rows = summarize({name: [run["rate"] for run in runs] for name, runs in results.items()}, ours[0]["operations_per_text"], peak)
    fractions = compute_time_fractions({name: sum(run["parts"][name] for run in ours) for name in ours[0]["parts"]})
    result = {"texts": ours[0]["texts"], "matrix_peak_flops": peak, "operations_per_text": ours[0]["operations_per_text"]}
    write_json(Path(arguments.output), result | {"threads": ours[0]["threads"], "contenders": rows, "time_fractions": fractions})
    print("| loop | examples/s | vs. the padded Trainer | vs. the best Trainer | fraction of the matrix peak |\n|---|---|---|---|---|")
    for row in rows:
        print("| {loop} | {rate:.1f} | {vs_padded:.1f}x | {vs_best:.2f}x | {fraction_of_peak:.0%} |".format(**row))
    times = ", ".join(f"{name} {value:.1%}" for name, value in fractions.items())
    print(f"\n{peak / 1e9:.0f} GFLOP/s in a large matrix product; time of this project's loop: {times}")
    return 0


def measure_contender(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one contender in this process and return its results."""
    texts = read_texts(Path(arguments.texts), arguments.rows)
    workload = build_workload(arguments.backbone, arguments.lora, texts, arguments.batch_size, arguments.max_length)
    rate = CONTENDERS[arguments.contender](workload)
    return {
        "texts": len(workload.labels),
        "rate": rate,
        "operations_per_text": count_operations(workload) / len(workload.labels),
        "parts": workload.parts,
        "threads": torch.get_num_threads(),
        "peak_memory": measure_peak_memory(),
    }


def run_contender(contender: str, *options: str) -> dict[str, Any]:
    """Run a contender in a process of its own, with options of this benchmark, and return its results.

    Raises: SystemExit if it fails.
    """
    command = [sys.executable, "-m", "benchmarks.training_speed", *options, "--contender", contender]
    result = subprocess.run(command, stdout=subprocess.PIPE)
    if result.returncode:
        raise SystemExit(result.returncode)  # the process has printed its error
    return dict(json.loads(result.stdout.splitlines()[-1]))


def compute_time_fractions(parts: dict[str, float]) -> dict[str, float]:
    """Return the fraction of the loop's time in each of its parts, and `outside` them."""
    fractions = {name: parts[name] / parts["all"] for name in ("forward", "backward", "clipping", "optimizer")}
    return fractions | {"outside": 1 - sum(fractions.values())}


def build_workload(backbone: str, lora_rank: int, texts: list[str], batch_size: int, max_length: int) -> Workload:
    """Return the workload of some texts.

    Raises: ConfigError for fewer texts than can be timed.
    """
    min_rows = count_min_rows(batch_size)
    if len(texts) < min_rows:
        raise ConfigError(f"--rows: got {len(texts):,} different texts; at least {min_rows} are needed")
    label_set = LabelSet(tuple(f"label {column}" for column in range(NUM_LABELS)))
    set_seed(0)
    lora = LoraConfig(lora_rank)
    model, tokenizer = build_model(ModelConfig(backbone), lora, label_set, np.full(NUM_LABELS, 0.05))
    labels = np.random.default_rng(0).random((len(texts), NUM_LABELS)) < 0.05
    settings = TrainingConfig(per_device_batch_size=batch_size, learning_rate=1e-6, head_learning_rate=1e-6)
    return Workload(tokenize(tokenizer, texts, max_length), labels, settings, model, tokenizer, backbone, lora)


def count_min_rows(batch_size: int) -> int:
    """Return the fewest rows that a contender can be timed on: half of them warm up."""
    return 2 * WARMUP_STEPS * batch_size


def run_ours(work: Workload) -> float:
    """Train for one epoch in this project's loop and return examples per second."""
    fast_path.prepare_cpu()
    sampler = LengthBucketSampler(work.tokens.lengths, work.settings.per_device_batch_size, work.settings.seed)
    loop = TrainingLoop(work.model, work.settings, sampler.num_batches, Accelerator())
    time_calls(loop.model, "forward", "forward", work.parts)
    time_calls(loop.accelerator, "backward", "backward", work.parts)
    time_calls(fast_path, "clip_gradients", "clipping", work.parts)
    time_calls(loop.accelerator, "clip_grad_norm_", "clipping", work.parts)  # where the fast path does not clip
    time_calls(loop.optimizer, "step", "optimizer", work.parts)
    num_done = 0
    for step, batch in enumerate(sampler.batches(1), start=1):
        if step == WARMUP_STEPS + 1:
            started, num_done = time.perf_counter(), 0
            work.parts.clear()
        loop.train_batch([work.tokens.collate(rows, work.labels) for rows in split_batch(batch, 1)], step)
        num_done += len(batch)
    work.parts["all"] = time.perf_counter() - started
    return num_done / work.parts["all"]


def time_calls(owner: Any, method: str, name: str, parts: dict[str, float]) -> None:
    """Replace a method of an object, or a function of a module, by one that adds the seconds of each call to `parts[name]`."""
    inner = getattr(owner, method)

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = inner(*arguments, **options)
        parts[name] += time.perf_counter() - started
        return result

    setattr(owner, method, timed)


class Clock(TrainerCallback):
    """Times the Trainer from the end of its warm-up batches to the end of its last batch."""

    seconds = 0.0

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == WARMUP_STEPS:
            self.started = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def run_trainer(work: Workload, padding: str = "longest", **options: Any) -> float:
    """Train for one epoch in the Trainer and return examples per second."""
    num_rows = len(work.labels)
    if padding == "max_length":
        num_rows = max(num_rows // PADDED_DIVISOR, count_min_rows(work.settings.per_device_batch_size))
    rows = [{"input_ids": work.tokens.token_ids[row], "labels": work.labels[row].astype(np.float32)} for row in range(num_rows)]
    settings, clock = work.settings, Clock()
    with tempfile.TemporaryDirectory() as folder:
        model = load_for_trainer(work, folder)
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


def load_for_trainer(work: Workload, folder: str) -> Any:
    """Return transformers' own model with the weights of the workload or, with LoRA, the same backbone with PEFT's adapters."""
    if not work.lora.r:
        work.model.save_pretrained(folder)
        return AutoModelForSequenceClassification.from_pretrained(folder)
    plain = strip_adapters(work.model)
    targets = sorted({name.rpartition(".")[2] for name, module in plain.named_modules() if hasattr(module, "lora_A")})
    model = AutoModelForSequenceClassification.from_pretrained(plain.name_or_path, num_labels=NUM_LABELS, dtype=torch.float32)
    model.config.pad_token_id = work.tokenizer.pad_token_id
    model.config.problem_type = "multi_label_classification"
    options = {"r": work.lora.r, "lora_alpha": work.lora.alpha, "lora_dropout": work.lora.dropout, "target_modules": targets}
    return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", **options))


def count_operations(work: Workload) -> float:
    """Return the floating-point operations of one epoch of transformers' own model on real tokens; this project's model needs fewer.

    6 per trained weight and token, 4 per frozen one (pooler and head: per weight and text), and in attention 12 per layer, hidden unit and
    pair of tokens.
    """
    config, lengths = work.model.config, work.tokens.lengths.astype(float)
    weights = {
        name: (6 if parameter.requires_grad else 4) * parameter.numel()
        for name, parameter in work.model.named_parameters()
        if parameter.ndim > 1 and "embed" not in name
    }
    per_text = sum(count for name, count in weights.items() if any(part in name for part in ("pooler", "classifier", "score")))
    pairs = config.num_hidden_layers * config.hidden_size * (lengths**2).sum()
    return float((sum(weights.values()) - per_text) * lengths.sum() + per_text * len(lengths) + 12 * pairs)


def summarize(rates: dict[str, list[float]], operations_per_text: float, peak: float) -> list[dict[str, Any]]:
    """Return one row per contender: medians over repeats of its rate, and of its ratio to other contenders in the same repeat."""
    padded, *trainers = (values for name, values in rates.items() if name != OURS)
    best = np.max(trainers, axis=0)
    return [
        {
            "loop": name,
            "rate": statistics.median(values),
            "vs_padded": float(np.median(np.divide(values, padded))),
            "vs_best": float(np.median(np.divide(values, best))),
            "fraction_of_peak": statistics.median(values) * operations_per_text / peak,
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
