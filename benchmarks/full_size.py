"""Speed and memory of large backbones at full size, with random weights: LoRA on a bf16 backbone, and LoRA on an NF4 backbone.

    python -m benchmarks.full_size --output full_size.json

Each case takes the optimizer steps of `train.py` and predicts with the project's prediction loop. Without a GPU, a message is printed and
tiny shapes are used, which tests the benchmark but says nothing about speed.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from benchmarks.training_loop import TrainingLoop
from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.data.batching import Batch, TokenizedTexts, batch_by_length
from emotion.errors import TrainingError
from emotion.files import write_json
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.build import cast_trainable_to_float32, load_with_head
from emotion.modeling.heads import list_head_modules
from emotion.modeling.lora import attach_lora, count_parameters, strip_adapters
from emotion.modeling.prediction import predict_logits

BACKBONES = ("mistralai/Mistral-7B-v0.1", "google/gemma-1.1-2b-it")
QUANTIZATIONS: tuple[Literal["none", "nf4"], ...] = ("none", "nf4")
NUM_LABELS = 28
NUM_WARM_UP = 2
"""Steps and predictions of each case that are not counted."""
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 1_000, "head_dim": 16}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 1}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", metavar="FILE", help="JSON file for the results")
    parser.add_argument("--tokens", type=int, default=30, help="tokens per text (default: 30)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64], help="batch sizes to measure (default: 1 8 32 64)")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps per case; the first two are not counted (default: 8)")
    arguments = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    precision = "bf16" if has_gpu else "fp32"
    device_name = torch.cuda.get_device_name() if has_gpu else "CPU"
    if not has_gpu:
        print("no GPU: using tiny shapes; the results only show that the benchmark runs", file=sys.stderr)
    accelerator = Accelerator(mixed_precision="bf16" if has_gpu else "no")
    peak = measure_matrix_peak(accelerator.device, torch.bfloat16 if has_gpu else torch.float32)
    print(f"{device_name}: {peak / 1e12:.1f} TFLOP/s in a large matrix product")

    rows = []
    with tempfile.TemporaryDirectory() as tmp_dir:
        for backbone in BACKBONES:
            location = backbone if has_gpu else write_tiny_config(backbone, Path(tmp_dir))
            for quantization in QUANTIZATIONS:
                config = ModelConfig(location, quantization=quantization, random_weights=True, gradient_checkpointing=False)
                model = build_lora_model(config, precision)
                for batch_size in arguments.batch_sizes if has_gpu else arguments.batch_sizes[:2]:
                    row = {"backbone": backbone, "quantization": quantization, "batch_size": batch_size, "tokens": arguments.tokens}
                    row |= measure_case(model, accelerator, batch_size, arguments.tokens, arguments.steps, peak)
                    rows.append(row)
                    print(format_row(row), flush=True)
                del model
                gc.collect()
                torch.cuda.empty_cache()
    if arguments.output:
        result = {"device": device_name, "is_full_size": has_gpu, "torch": torch.__version__, "matrix_peak_flops": peak, "rows": rows}
        write_json(Path(arguments.output), result)
    return 0


def write_tiny_config(backbone: str, folder: Path) -> str:
    """Write the config of a tiny model of the same architecture, and return its folder."""
    tiny = folder / backbone.replace("/", "-")
    tiny.mkdir()
    (tiny / "config.json").write_text(json.dumps(ARCHITECTURES[backbone] | TINY))
    return str(tiny)


def build_lora_model(config: ModelConfig, precision: str) -> Any:
    """Return the model that `build_model` would build, without a tokenizer."""
    set_seed(0)
    labels = LabelSet(tuple(f"label {column}" for column in range(NUM_LABELS)))
    model = load_with_head(config.backbone, config, labels, pad_token_id=0, precision=precision, is_frozen=True)
    model = attach_lora(model, LoraConfig(r=16, alpha=32), list_head_modules(model), config.backbone, None)
    cast_trainable_to_float32(model)
    return model


def measure_case(model: Any, accelerator: Accelerator, batch_size: int, num_tokens: int, num_steps: int, peak: float) -> dict[str, Any]:
    """Return the results of training and inference at one batch size; `peak` is in FLOP/s."""
    generator = np.random.default_rng(0)
    ids = generator.integers(1, strip_adapters(model).config.vocab_size, size=(batch_size, num_tokens)).tolist()
    texts = TokenizedTexts(ids, pad_token_id=0)
    labels = generator.random((batch_size, NUM_LABELS)) < 0.05
    loop = TrainingLoop(model, TrainingConfig(learning_rate=1e-4, warmup_ratio=0.05), 1_000, accelerator)
    try:
        step_seconds, training_memory = measure_training(loop, texts.collate(np.arange(batch_size), labels), num_steps)
        prediction_seconds, inference_memory = measure_prediction(loop, texts, batch_size, num_steps)
    except (torch.OutOfMemoryError, TrainingError):
        return {"out_of_memory": True}
    finally:
        accelerator.free_memory()
    parameters, trained = count_parameters(model)
    embeddings = strip_adapters(model).get_input_embeddings().weight.numel()
    # Per weight and token: 2 operations forward, 2 backward through frozen weights, and 2 more if the weight itself is trained.
    operations = batch_size * num_tokens * (4 * (parameters - embeddings) + 2 * trained)
    return {
        "parameters": parameters,
        "trained_parameters": trained,
        "examples_per_second": batch_size / step_seconds,
        "tokens_per_second": batch_size * num_tokens / step_seconds,
        "fraction_of_matrix_peak": operations / step_seconds / peak,
        "training_peak_memory": training_memory,
        "texts_per_second_inference": batch_size / prediction_seconds,
        "inference_peak_memory": inference_memory,
    }


def measure_training(loop: TrainingLoop, batch: Batch, num_steps: int) -> tuple[float, int | None]:
    """Return median seconds of an optimizer step, and peak memory.

    Raises: TrainingError if the batch had to be split because memory ran out: its result would be that of a smaller batch.
    """
    reset_peak_memory()
    seconds = []
    for step in range(1, num_steps + 1):
        started = time.perf_counter()
        if loop.train_batch([batch], step).num_halvings:
            raise TrainingError("out of memory")
        wait_for_device(loop.accelerator.device)
        seconds.append(time.perf_counter() - started)
    return median(seconds[NUM_WARM_UP:]), read_peak_memory()


def measure_prediction(loop: TrainingLoop, texts: TokenizedTexts, batch_size: int, num_repeats: int) -> tuple[float, int | None]:
    """Return median seconds to predict a batch, and peak memory."""
    reset_peak_memory()
    seconds = []
    for _ in range(num_repeats):
        started = time.perf_counter()
        with loop.accelerator.autocast():
            predict_logits(loop.model, batch_by_length(texts, batch_size), batch_size, loop.accelerator.device)
        seconds.append(time.perf_counter() - started)
    return median(seconds[NUM_WARM_UP:]), read_peak_memory()


def measure_matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a large square matrix product, the maximum of five."""
    size = 8_192 if device.type == "cuda" else 1_024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        wait_for_device(device)
        started = time.perf_counter()
        left @ right
        wait_for_device(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def wait_for_device(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def read_peak_memory() -> int | None:
    """Return the peak bytes of GPU memory since the last reset; None without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def format_row(row: dict[str, Any]) -> str:
    method = "LoRA on NF4" if row["quantization"] == "nf4" else "LoRA"
    title = f"{row['backbone']:<28} {method:<12} {row['batch_size']:>4} x {row['tokens']}"
    if row.get("out_of_memory"):
        return f"{title}  out of memory"
    memory = f"{row['training_peak_memory'] / 2**30:.1f} GiB" if row["training_peak_memory"] is not None else "memory not measured"
    return (
        f"{title}  train {row['examples_per_second']:8.1f} examples/s {row['tokens_per_second']:9.0f} tokens/s "
        f"{row['fraction_of_matrix_peak']:6.1%} of peak, {memory}  infer {row['texts_per_second_inference']:8.1f} texts/s"
    )


if __name__ == "__main__":
    sys.exit(main())
