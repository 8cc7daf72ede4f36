"""Does a change affect quality? Train the same runs before and after it, over several seeds, and compare them on the validation rows.

    python -m benchmarks.quality_guard --data path/to/goemotions --before REF --output quality_guard.json [section.key=value ...]
    python -m benchmarks.quality_guard --data path/to/goemotions --change training.per_device_batch_size=64 --output quality_guard.json

"Before" is the code of a git commit, in a temporary worktree, or, with `--change`, this code without the settings of `--change`. Each run
trains on a tenth of the training rows. The test split is not read.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from emotion.errors import ConfigError, exit_on_error
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.uncertainty import draw_counts, find_interval, resample_several
from emotion.files import write_json
from emotion.tracking.finished_runs import read_finished_run

SETTINGS = ["data.train_fraction=0.1", "training.epochs=2", "tracking.backend=none"]
RECIPE = ["data.max_length=64", "training.learning_rate=2e-4", "training.head_learning_rate=2e-3"]
"""Turns quickstart.yaml into the recipe of minilm.yaml for one model, in code of any age."""
METRICS = ("macro_f1", "micro_f1")
NUM_RESAMPLES = 1_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, metavar="SOURCE", help="GoEmotions, or another dataset with a validation split")
    parser.add_argument("--before", metavar="REF", help="compare this code with that of a git commit")
    parser.add_argument(
        "--change",
        nargs="+",
        default=[],
        metavar="section.key=value",
        help="settings of the runs after the change, which the runs before lack",
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--output", default="quality_guard.json", help="JSON file for the results (default: quality_guard.json)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of all runs")
    arguments = parser.parse_args()
    if bool(arguments.before) == bool(arguments.change):
        raise ConfigError("give either --before REF or --change section.key=value")
    data = arguments.data if not Path(arguments.data).exists() else str(Path(arguments.data).resolve())
    common = [f"data.source={data}", *SETTINGS, *arguments.overrides]
    runs: dict[str, list[Run]] = {"before": [], "after": []}
    with tempfile.TemporaryDirectory() as tmp_dir, code_of(arguments.before) as old_code:
        for seed in range(arguments.seeds):  # in turn, so that times can be compared
            for side, code, change in (("before", old_code, []), ("after", Path.cwd(), arguments.change)):
                name = f"{side}-{seed}"
                settings = [*RECIPE, *common, *change, f"training.seed={seed}", f"run.folder={tmp_dir}", f"run.name={name}"]
                subprocess.run([sys.executable, "train.py", "--config", "configs/quickstart.yaml", *settings], cwd=code, check=True)
                runs[side].append(read_finished_run(f"{tmp_dir}/{name}", "validation"))
        comparison = compare(runs)
    write_json(Path(arguments.output), comparison)
    print("| validation | before | after | difference (95% interval over rows) | by seed |\n|---|---|---|---|---|")
    for metric in METRICS:
        row = comparison[metric]
        low, high = row["interval_95"]
        seeds = ", ".join(f"{gap:+.3f}" for gap in row["by_seed"])
        print(f"| {metric} | {row['before']:.3f} | {row['after']:.3f} | {row['difference']:+.4f} ({low:+.4f} to {high:+.4f}) | {seeds} |")
    print(f"\nexamples/s: {comparison['examples_per_second']}")
    return 0


@contextmanager
def code_of(ref: str | None) -> Iterator[Path]:
    """Yield the folder of a commit's code, a temporary worktree; for None, the working directory."""
    if ref is None:
        yield Path.cwd()
        return
    with tempfile.TemporaryDirectory() as tmp_dir:
        folder = Path(tmp_dir) / "before"
        try:
            subprocess.run(["git", "worktree", "add", "--detach", str(folder), ref], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise ConfigError(f"--before {ref}: {error.stderr.strip().splitlines()[-1]}") from None
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], check=True)


def compare(runs: dict[str, list[Run]]) -> dict[str, dict[str, Any]]:
    """Return for each metric the mean over seeds on both sides and the difference with its interval over rows; also the speed."""
    labels, num_seeds = runs["before"][0].labels, len(runs["before"])
    predictions = [run.predictions for side in ("before", "after") for run in runs[side]]
    resampled = resample_several(labels, predictions, draw_counts(len(labels), NUM_RESAMPLES))
    whole = resample_several(labels, predictions, iter([np.ones((1, len(labels)), np.float32)]))
    comparison: dict[str, dict[str, Any]] = {}
    for metric in METRICS:
        scores = np.array([scored[metric][0] for scored in whole]).reshape(2, num_seeds)
        draws = np.array([scored[metric] for scored in resampled]).reshape(2, num_seeds, -1).mean(axis=1)
        comparison[metric] = {
            "before": float(scores[0].mean()),
            "after": float(scores[1].mean()),
            "difference": float(scores[1].mean() - scores[0].mean()),
            "interval_95": find_interval(draws[1] - draws[0], float(scores[1].mean() - scores[0].mean())),
            "by_seed": (scores[1] - scores[0]).tolist(),
        }
    rates = {side: [run.efficiency["examples_per_second"] for run in members] for side, members in runs.items()}
    comparison["examples_per_second"] = {side: round(float(np.median(values)), 1) for side, values in rates.items()}
    return comparison


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
