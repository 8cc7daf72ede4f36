"""Speed and memory of the big backbones at full size, from random weights: LoRA on a bf16 backbone against LoRA on an NF4 one.

    python -m benchmarks.full_size --output full_size.json

Each case trains through the project's own loop and predicts through its own prediction loop. Without a GPU it
says so and runs the same at tiny shapes, which shows that it works and nothing about speed.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from emotion.training.loop import predict_logits, train_window

from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.data.batching import TokenizedTexts, batch_by_length
from emotion.errors import TrainingError
from emotion.files import write_json
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.build import keep_trained_in_float32, list_head_modules, list_head_parameters, load_with_head, strip_adapters
from emotion.modeling.lora import attach_lora, count_parameters
from emotion.training.optimization import build_loss, build_optimizer, build_scheduler

BACKBONES = ("mistralai/Mistral-7B-v0.1", "google/gemma-1.1-2b-it")
QUANTIZATIONS = ("none", "nf4")
NUM_LABELS = 28
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 1_000, "head_dim": 16}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 1}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--tokens", type=int, default=30, help="tokens of a text (default: 30)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64], help="micro-batches to try (default: 1 8 32 64)")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps timed of each, the first two left out (default: 8)")
    arguments = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    precision = "bf16" if has_gpu else "fp32"
    device_name = torch.cuda.get_device_name() if has_gpu else "CPU"
    if not has_gpu:
        print("no GPU: tiny shapes stand in for the full ones; the figures say that it runs, and nothing about speed", file=sys.stderr)
    accelerator = Accelerator(mixed_precision="bf16" if has_gpu else "no")
    peak = measure_matrix_peak(accelerator.device, torch.bfloat16 if has_gpu else torch.float32)
    print(f"{device_name}: {peak / 1e12:.1f} TFLOP/s in a large matrix product")

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone in BACKBONES:
            location = backbone if has_gpu else write_tiny(backbone, Path(folder))
            for quantization in QUANTIZATIONS:
                config = ModelConfig(location, quantization=quantization, random_weights=True, gradient_checkpointing=False)
                model = build(config, precision)
                for batch_size in arguments.batch_sizes if has_gpu else arguments.batch_sizes[:2]:
                    row = {"backbone": backbone, "quantization": quantization, "batch_size": batch_size, "tokens": arguments.tokens}
                    row |= measure(model, accelerator, batch_size, arguments.tokens, arguments.steps, peak)
                    rows.append(row)
                    print(format_row(row), flush=True)
                del model
                gc.collect()
                torch.cuda.empty_cache()
    if arguments.output:
        result = {"device": device_name, "is_full_size": has_gpu, "torch": torch.__version__, "matrix_peak_flops": peak, "rows": rows}
        write_json(Path(arguments.output), result)
    return 0


def write_tiny(backbone: str, folder: Path) -> str:
    """Write the config of a tiny model of the same architecture, and return its folder."""
    tiny = folder / backbone.replace("/", "-")
    tiny.mkdir()
    (tiny / "config.json").write_text(json.dumps(ARCHITECTURES[backbone] | TINY))
    return str(tiny)


def build(config: ModelConfig, precision: str) -> Any:
    """Return the model as `build_model` makes it, without a tokenizer."""
    set_seed(0)
    labels = LabelSet(tuple(f"label {column}" for column in range(NUM_LABELS)))
    model = load_with_head(config.backbone, config, labels, pad_token_id=0, precision=precision, is_frozen=True)
    model = attach_lora(model, LoraConfig(r=16, alpha=32), list_head_modules(model), config.backbone, None)
    keep_trained_in_float32(model)
    return model


def measure(model: Any, accelerator: Accelerator, batch_size: int, num_tokens: int, num_steps: int, peak: float) -> dict[str, Any]:
    """Return training and inference figures at one batch size; `peak` is in FLOP/s."""
    vocabulary = strip_adapters(model).config.vocab_size
    generator = np.random.default_rng(0)
    ids = generator.integers(1, vocabulary, size=(batch_size, num_tokens)).tolist()
    tokenized = TokenizedTexts(ids, 0)
    labels = generator.random((batch_size, NUM_LABELS)) < 0.05
    settings = TrainingConfig(learning_rate=1e-4)
    optimizer = build_optimizer(model, list_head_parameters(model), settings)
    scheduler = build_scheduler(optimizer, 1_000, 0.05)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    loss = build_loss(None, accelerator.device)
    batch = tokenized.collate(np.arange(batch_size), labels)
    reset_peak_memory()
    seconds = []
    try:
        for step in range(1, num_steps + 1):
            started = time.perf_counter()
            result = train_window(prepared, [batch], accelerator, optimizer, scheduler, loss, 1.0, batch_size, step)
            if result.num_halvings:  # a smaller batch would stand in this one's row
                return {"out_of_memory": True}
            wait(accelerator.device)
            seconds.append(time.perf_counter() - started)
        training_memory = read_peak_memory()
        reset_peak_memory()
        predictions = []
        for _ in range(num_steps):
            started = time.perf_counter()
            with accelerator.autocast():
                predict_logits(prepared, batch_by_length(tokenized, batch_size), batch_size, accelerator.device)
            predictions.append(time.perf_counter() - started)
    except (torch.OutOfMemoryError, TrainingError):
        return {"out_of_memory": True}
    finally:
        accelerator.free_memory()
    step_seconds, prediction_seconds = median(seconds[2:]), median(predictions[2:])
    parameters, trained = count_parameters(model)
    embeddings = strip_adapters(model).get_input_embeddings().weight.numel()
    # 2 operations a weight and token forward, 2 backward through frozen weights, 2 more where the weight itself is trained.
    operations = batch_size * num_tokens * (4 * (parameters - embeddings) + 2 * trained)
    return {
        "parameters": parameters,
        "trained_parameters": trained,
        "examples_per_second": batch_size / step_seconds,
        "tokens_per_second": batch_size * num_tokens / step_seconds,
        "share_of_matrix_peak": operations / step_seconds / peak,
        "training_peak_memory": training_memory,
        "texts_per_second_inference": batch_size / prediction_seconds,
        "inference_peak_memory": read_peak_memory(),
    }


def measure_matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a large square matrix product, the best of five."""
    size = 8_192 if device.type == "cuda" else 1_024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        wait(device)
        started = time.perf_counter()
        left @ right
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def read_peak_memory() -> int | None:
    """Return the most bytes of GPU memory since the last reset; None without a GPU, where there is no such count."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def format_row(row: dict[str, Any]) -> str:
    form = "LoRA on NF4" if row["quantization"] == "nf4" else "LoRA"
    title = f"{row['backbone']:<28} {form:<12} {row['batch_size']:>4} x {row['tokens']}"
    if row.get("out_of_memory"):
        return f"{title}  out of memory"
    memory = f"{row['training_peak_memory'] / 2**30:.1f} GiB" if row["training_peak_memory"] is not None else "memory not counted"
    return (
        f"{title}  train {row['examples_per_second']:8.1f} examples/s {row['tokens_per_second']:9.0f} tokens/s "
        f"{row['share_of_matrix_peak']:6.1%} of peak, {memory}  infer {row['texts_per_second_inference']:8.1f} texts/s"
    )


if __name__ == "__main__":
    sys.exit(main())
