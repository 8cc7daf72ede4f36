"""Texts per second from csv to csv: this project and transformers' own pipeline, on the same rows, in one run.

    python -m benchmarks.scoring_speed --model runs/NAME --texts FILE --rows 20000 --output scoring_speed.json

The contenders take turns on portions of the rows, so that noise of the machine affects all of them. The number of threads is the default
of torch and ONNX Runtime, or OMP_NUM_THREADS. Models are loaded once, and loading is not timed. ONNX takes part if
`python export.py --model runs/NAME --onnx` (or `--onnx --int8`) has written it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import pipeline

from emotion.config import DataConfig
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import Row
from emotion.errors import exit_on_error
from emotion.files import write_json
from emotion.inference.loading import load_predictor
from emotion.inference.onnx_predictor import has_onnx
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import find_model_folder
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.scoring import score_files

Contender = Callable[[Path, Path], None]
"""Scores one csv file into another."""

PORTION = 2_000
"""Rows that a contender scores before the next one takes its turn."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder of a full model, with or without ONNX files")
    parser.add_argument("--texts", required=True, help="file with a column `text`, or with the texts in its first column")
    parser.add_argument("--rows", type=int, default=20_000, help="number of different texts (default: 20000)")
    parser.add_argument("--output", default="scoring_speed.json", help="JSON file for the results (default: scoring_speed.json)")
    arguments = parser.parse_args()
    texts = read_texts(Path(arguments.texts), arguments.rows)
    folder = find_model_folder(arguments.model)
    ours = Predictor.load(folder)
    classify = pipeline("text-classification", model=folder, top_k=None, truncation=True, max_length=ours.sidecar.max_length)
    contenders: dict[str, Contender] = {
        "pipeline, defaults": lambda source, target: run_pipeline(classify, ours, source, target, {}),
        "pipeline, batch_size=32": lambda source, target: run_pipeline(classify, ours, source, target, {"batch_size": 32}),
        "evaluate.py, torch": lambda source, target: run_scoring(ours, source, target),
    }
    if has_onnx(Path(folder)):
        onnx = load_predictor(folder, "onnx")
        contenders[f"evaluate.py, {onnx.backend_name}"] = lambda source, target: run_scoring(onnx, source, target)
    seconds, num_changed = measure(contenders, texts)
    rows = summarize(seconds, num_changed, len(texts))
    write_json(Path(arguments.output), {"rows": len(texts), "contenders": rows})
    print("| contender | texts/s | vs. defaults | vs. batch_size=32 | rows with other labels |\n|---|---|---|---|---|")
    for row in rows:
        ratios = " | ".join(f"{row[key]:.2f}x" for key in ("vs_default", "vs_batched"))
        print(f"| {row['contender']} | {row['texts_per_second']:.0f} | {ratios} | {row['rows_with_other_labels']} |")
    return 0


def measure(contenders: dict[str, Contender], texts: list[str]) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return each contender's seconds per portion, and its number of rows whose labels differ from the first contender's."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    num_changed = dict.fromkeys(contenders, 0)
    with tempfile.TemporaryDirectory() as tmp_dir:
        for start in range(0, len(texts), PORTION):
            portion = texts[start : start + PORTION]
            source = Path(tmp_dir) / f"{start}.csv"
            pd.DataFrame({"id": range(start, start + len(portion)), "text": portion}).to_csv(source, index=False)
            labels = {}
            for position, (name, run) in enumerate(contenders.items()):
                target = Path(tmp_dir) / f"{start}-{position}.csv"
                started = time.perf_counter()
                run(source, target)
                seconds[name].append(time.perf_counter() - started)
                labels[name] = pd.read_csv(target, keep_default_na=False).predicted_labels.tolist()
            expected = next(iter(labels.values()))
            for name, found in labels.items():
                num_changed[name] += sum(mine != theirs for mine, theirs in zip(found, expected, strict=True))
            print(f"{start + len(portion):,} of {len(texts):,} rows", file=sys.stderr)
    return seconds, num_changed


def read_texts(path: Path, num_rows: int) -> list[str]:
    """Return the first different texts of a file; with repeated texts, contenders that predict them once would have less to do."""
    with open_rows(path) as rows:
        column = rows.columns.index("text") if "text" in rows.columns else 0
        cells = (entry.values[column] for entry in rows.entries if isinstance(entry, Row))
        return list(islice(dict.fromkeys(cell for cell in cells if cell.strip()), num_rows))


def run_pipeline(classify: Any, ours: Predictor, source: Path, target: Path, options: dict[str, int]) -> None:
    """Score a file as a user of the pipeline would: read, classify, compare the scores with the thresholds, write."""
    frame = pd.read_csv(source, keep_default_na=False)
    columns = ours.label_set.columns
    thresholds = dict(zip(ours.label_set.names, ours.rule.thresholds, strict=True))
    predicted = []
    for scores in classify(frame.text.tolist(), **options):
        labels = [score["label"] for score in scores if score["score"] >= thresholds[score["label"]]]
        predicted.append("|".join(sorted(labels, key=columns.__getitem__)))
    frame.assign(predicted_labels=predicted).to_csv(target, index=False)


def run_scoring(predictor: Any, source: Path, target: Path) -> None:
    score_files(predictor, predictor.rule, ScoringJob((source,), target, DataConfig(text_column="text")), lambda message: None)


def summarize(seconds: dict[str, list[float]], num_changed: dict[str, int], num_rows: int) -> list[dict[str, Any]]:
    """Return one row per contender: its rate over all rows, and the medians over portions of its ratios to the pipeline."""
    return [
        {
            "contender": name,
            "texts_per_second": num_rows / sum(values),
            "vs_default": statistics.median(np.divide(seconds["pipeline, defaults"], values).tolist()),
            "vs_batched": statistics.median(np.divide(seconds["pipeline, batch_size=32"], values).tolist()),
            "rows_with_other_labels": num_changed[name],
        }
        for name, values in seconds.items()
    ]


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
