"""Which learning rate suits a config? Train a small fraction of the rows with each, and compare them on validation rows.

    python -m benchmarks.learning_rates --data path/to/goemotions --output runs/learning_rates \\
        --run configs/mpnet.yaml 2e-5 5e-5 1e-4 --run configs/mpnet_lora.yaml 3e-4 1e-3 2e-3

Every run sees the same stratified `--fraction` of the training rows and is validated on the same rows, drawn at random from the validation
split. The test split is not read. Finished runs in `--output` are kept, and an interrupted one is resumed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.study import call
from emotion.config import DataConfig, load_config
from emotion.data.reading import read_dataset
from emotion.errors import ConfigError, exit_on_error
from emotion.files import atomic_write, write_json
from emotion.tracking.run_folder import RunFolder

METRICS = ("macro_average_precision", "macro_f1", "micro_f1")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, metavar="FOLDER", help="a folder with one file per split")
    parser.add_argument("--output", default="runs/learning_rates", help="folder for the runs and learning_rates.json")
    parser.add_argument("--run", action="append", nargs="+", required=True, metavar="VALUE", help="a config and the learning rates to try")
    parser.add_argument("--fraction", type=float, default=1 / 16, help="fraction of the training rows (default: a sixteenth)")
    parser.add_argument("--validation-rows", type=int, default=1_357, help="number of validation rows (default: a quarter of GoEmotions')")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of all runs")
    arguments = parser.parse_intermixed_args()
    if any(len(run) < 2 for run in arguments.run):
        raise ConfigError("--run: give a config and at least one learning rate")
    output = Path(arguments.output)
    write_rows(output / "data", load_config(None, [f"data.source={arguments.data}"]).data, arguments.validation_rows)
    common = [f"data.source={output / 'data'}", f"data.train_fraction={arguments.fraction}"]
    common += [f"run.folder={output}", "tracking.backend=none", *arguments.overrides]
    rows = []
    for config, *learning_rates in arguments.run:
        for learning_rate in learning_rates:
            name = f"{Path(config).stem}-{learning_rate}"
            settings = [*common, f"training.learning_rate={learning_rate}", f"run.name={name}"]
            if not RunFolder(output / name).is_finished:
                call("train.py", "--config", config, "--resume", *settings)
            rows.append({"config": Path(config).stem, "learning_rate": float(learning_rate)} | read_scores(output / name))
            write_json(output / "learning_rates.json", rows)
    print("| config | learning rate | " + " | ".join(METRICS) + " |\n|" + "---|" * (len(METRICS) + 2))
    for row in rows:
        print(f"| {row['config']} | {row['learning_rate']:g} | " + " | ".join(f"{row[key]:.3f}" for key in METRICS) + " |")
    return 0


def write_rows(folder: Path, data: DataConfig, num_validation_rows: int) -> None:
    """Write the training rows and randomly drawn rows of the validation split, the same ones in every call."""
    dataset = read_dataset(data)
    names = dataset.label_set.names
    with atomic_write(folder) as partial:
        partial.mkdir()
        (partial / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for split in ("train", "validation"):
            rows = dataset[split]
            num_rows = len(rows) if split == "train" else num_validation_rows
            with (partial / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
                for row in np.sort(np.random.default_rng(0).permutation(len(rows))[:num_rows]):
                    labels = [names[label] for label in np.flatnonzero(rows.labels[row])]
                    stream.write(json.dumps({"id": rows.ids[row], "text": rows.texts[row], "labels": labels}) + "\n")


def read_scores(folder: Path) -> dict[str, float]:
    """Return the validation scores of a run's best checkpoint."""
    metrics = json.loads((folder / "report" / "validation" / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in (metrics["probabilities"] | metrics["at_decision_rule"]).items() if key in METRICS}


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
