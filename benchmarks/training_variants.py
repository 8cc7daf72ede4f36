"""Do other losses, R-Drop and other ways of fine-tuning beat plain binary cross-entropy?

    python -m benchmarks.training_variants --data path/to/goemotions --output runs/variants --fraction 0.1 --seeds 0 1 2

Every variant is trained on the same fraction of the training rows with each seed. It replaces one function of the method: the loss, the
loss of a micro-batch, or the groups of parameters; some losses are settings of train.py. Every run is validated on the whole
validation split, and the table compares each variant with `bce` on the same rows, by macro average precision, which needs no thresholds.
The test split is not read. Finished runs in `--output` are kept, and an interrupted one is resumed.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.learning_rates import METRICS
from benchmarks.learning_rates import read_scores as read_run_scores
from benchmarks.study import call
from emotion.config import TrainingConfig
from emotion.data.reading import Examples
from emotion.errors import exit_on_error
from emotion.evaluation.metrics import compute_macro_average_precision
from emotion.evaluation.uncertainty import find_interval
from emotion.files import write_json
from emotion.tracking.run_folder import RunFolder
from emotion.training.losses import Loss

NUM_RESAMPLES = 400


def asymmetric(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 4.0, margin: float = 0.05) -> torch.Tensor:
    """Asymmetric loss: easy negatives count little, those below the margin nothing (Ridnik et al. 2021)."""
    shifted = (torch.sigmoid(logits) - margin).clamp(min=0)
    positives = labels * functional.logsigmoid(logits)
    negatives = (1 - labels) * shifted**gamma * torch.log1p(-shifted)
    return -(positives + negatives).sum()


def label_correlation(logits: torch.Tensor, labels: torch.Tensor, weight: float = 0.2) -> torch.Tensor:
    """SpanEmo's loss: cross-entropy and a row's mean of exp(p of a negative - p of a positive) (Alhuzali and Ananiadou 2021)."""
    probabilities = torch.sigmoid(logits)
    counts = labels.sum(dim=1) * (1 - labels).sum(dim=1)
    pairs = ((1 - labels) * probabilities.exp()).sum(dim=1) * (labels * (-probabilities).exp()).sum(dim=1)
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return (1 - weight) * losses + weight * labels.shape[1] * (pairs / counts.clamp(min=1)).sum()


def r_drop(model: Any, micro_batch: Any, loss_function: Loss, num_targets: int, weight: float = 1.0) -> torch.Tensor:
    """Return the mean loss of two passes with different dropout and how far they disagree, in symmetric KL (Liang et al. 2021)."""
    first, second = (model(**micro_batch.inputs).logits.float() for _ in range(2))
    losses = (loss_function(first, micro_batch.labels) + loss_function(second, micro_batch.labels)) / 2
    disagreement = ((torch.sigmoid(first) - torch.sigmoid(second)) * (first - second)).sum() / 2  # the mean of both directions' KL
    return (losses + weight * disagreement) / num_targets


LOSSES: dict[str, Loss] = {"asymmetric": asymmetric, "label-correlation": label_correlation}
LAYER_DECAYS = {"layer-decay-0.9": 0.9}
SETTINGS = {"focal": ["training.loss=focal"], "distribution-balanced": ["training.loss=distribution_balanced"]}
"""Variants that train.py has itself."""
VARIANTS = ("bce", *SETTINGS, *LOSSES, "r-drop", *LAYER_DECAYS, "frozen-embeddings")


def main() -> int:
    if sys.argv[1:2] == ["--train"]:
        return train_variant(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, metavar="FOLDER", help="a folder with one file per split")
    parser.add_argument("--output", default="runs/variants", help="folder for the runs and variants.json")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="which ones, beside bce (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--fraction", type=float, default=0.1, help="fraction of the training rows (default: a tenth)")
    arguments = parser.parse_args()
    output = Path(arguments.output)
    settings = [f"data.source={arguments.data}", "data.hub_config=null", f"data.train_fraction={arguments.fraction}"]
    settings += [f"run.folder={output}", "tracking.backend=none"]
    names = list(dict.fromkeys(["bce", *arguments.variants]))
    for seed in arguments.seeds:
        for name in names:
            if not RunFolder(output / f"{name}-{seed}").is_finished:
                own = [f"training.seed={seed}", f"run.name={name}-{seed}", *SETTINGS.get(name, [])]
                call("-m", "benchmarks.training_variants", "--train", name, "--config", "configs/minilm.yaml", "--resume", *settings, *own)
    rows = [read_scores(output, name, arguments.seeds) for name in names]
    write_json(output / "variants.json", rows)
    print("\n".join(format_table(rows)))
    return 0


def train_variant(name: str, options: Sequence[str]) -> int:
    """Run train.py in this process with the function of a variant in the place of its own, and return its exit status."""
    train: Any = import_module("train")
    optimization: Any = import_module("emotion.training.optimization")
    build_optimizer = optimization.build_optimizer
    if name in LOSSES:
        losses: Any = import_module("emotion.training.losses")
        losses.build_loss, losses.find_base_rates = lambda *_: LOSSES[name], partial(find_constant_rates, LOSSES[name])
    elif name == "r-drop":
        train.compute_loss = r_drop
    elif name in LAYER_DECAYS:
        optimization.group_parameters = partial(group_by_layer, decay=LAYER_DECAYS[name])
    elif name == "frozen-embeddings":
        optimization.build_optimizer = lambda model, *arguments: build_optimizer(freeze_embeddings(model), *arguments)
    sys.argv = ["train.py", *options]
    return int(train.main())


def find_constant_rates(loss: Loss, config: TrainingConfig, rows: Examples, num_steps: int = 400) -> np.ndarray:
    """Return the probabilities, float32 (L,), that have the lowest loss as the answer to every row: where a head starts."""
    targets = torch.tensor(rows.targets, dtype=torch.float32)
    logits = torch.zeros(targets.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(num_steps):
        optimizer.zero_grad()
        (loss(logits.expand_as(targets), targets) / targets.numel()).backward()
        optimizer.step()
    return torch.sigmoid(logits.detach()).numpy()


def group_by_layer(model: Any, head_parameters: set[str], config: TrainingConfig, decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups, in which every layer has the learning rate of the one above times `decay`, the embeddings the lowest."""
    head_rate = config.head_learning_rate or config.learning_rate
    num_layers = model.config.num_hidden_layers
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        number = re.search(r"\.layer\.(\d+)\.", name)
        depth = num_layers - 1 - int(number[1]) if number else num_layers if "embeddings" in name else 0
        rate = head_rate if name in head_parameters else config.learning_rate * decay**depth
        groups.setdefault((rate, config.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": weight_decay} for (rate, weight_decay), parameters in groups.items()]


def freeze_embeddings(model: Any) -> Any:
    """Stop the word embeddings of a model from learning, and return it."""
    model.get_input_embeddings().requires_grad_(False)
    return model


def read_scores(output: Path, name: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return a variant's validation scores, one a seed, and its mean difference in mAP from `bce` with an interval over rows."""
    folders = [RunFolder(output / f"{name}-{seed}") for seed in seeds]
    scores = [read_run_scores(folder.path) for folder in folders]
    rows = [folder.read_predictions("validation") for folder in folders]
    references = [RunFolder(output / f"bce-{seed}").read_predictions("validation") for seed in seeds]

    def compare(sample: np.ndarray) -> float:
        maps = [compute_macro_average_precision(run.labels[sample], run.probabilities[sample]) for run in (*rows, *references)]
        return float(np.mean(maps[: len(rows)]) - np.mean(maps[len(rows) :]))

    num_rows, generator = len(rows[0].labels), np.random.default_rng(0)
    difference = compare(np.arange(num_rows))
    resampled = np.array([compare(generator.integers(num_rows, size=num_rows)) for _ in range(NUM_RESAMPLES if name != "bce" else 0)])
    return {
        "variant": name,
        **{metric: [run[metric] for run in scores] for metric in METRICS},
        "difference": difference,
        "interval": find_interval(resampled, difference),
        "training_seconds": [json.loads(folder.efficiency.read_text(encoding="utf-8"))["training_seconds"] for folder in folders],
    }


def format_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the Markdown table: means over the seeds, in brackets the lowest and the highest."""
    lines = ["| variant | mAP | difference | macro-F1 | micro-F1 | seconds |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{np.mean(row[metric]):.3f} ({min(row[metric]):.3f}-{max(row[metric]):.3f})" for metric in METRICS]
        low, high = row["interval"]
        cells.insert(1, "" if row["variant"] == "bce" else f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
        lines.append(f"| {row['variant']} | " + " | ".join(cells) + f" | {np.mean(row['training_seconds']):.0f} |")
    return lines


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
