"""Texts per second from csv to csv: this project against transformers' own pipeline, on the same rows, in one run.

    python -m benchmarks.scoring_speed --model runs/NAME --texts FILE --rows 20000 --output scoring_speed.json

The rows are cut into portions; each contender takes each portion in turn, so that a noisy machine is noisy for all. Threads are
those that torch and ONNX Runtime choose, or OMP_NUM_THREADS for all. Start-up is left out; the models are loaded once.
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

PORTION = 2_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder of a full model; its ONNX form takes part if it has one")
    parser.add_argument("--texts", required=True, help="a file with a column text, or with texts first, such as GoEmotions' train.tsv")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--output", default="scoring_speed.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    texts = read_texts(Path(arguments.texts), arguments.rows)
    folder = find_model_folder(arguments.model)
    ours = Predictor.load(folder)
    classify = pipeline("text-classification", model=folder, top_k=None, truncation=True, max_length=ours.sidecar.max_length)
    contenders: dict[str, Callable[[Path, Path], Any]] = {
        "pipeline, defaults": lambda source, target: run_pipeline(classify, ours, source, target, {}),
        "pipeline, batch_size=32": lambda source, target: run_pipeline(classify, ours, source, target, {"batch_size": 32}),
        "evaluate.py, torch": lambda source, target: run_scoring(ours, source, target),
    }
    if has_onnx(Path(folder)):
        fast = load_predictor(folder, "onnx")
        contenders[f"evaluate.py, {fast.form}"] = lambda source, target: run_scoring(fast, source, target)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    flipped = dict.fromkeys(contenders, 0)
    with tempfile.TemporaryDirectory() as place:
        for number, start in enumerate(range(0, len(texts), PORTION)):
            source = Path(place) / f"{number}.csv"
            pd.DataFrame({"id": range(start, start + len(texts[start : start + PORTION])), "text": texts[start : start + PORTION]}).to_csv(
                source, index=False
            )
            answers = {}
            for position, (name, run) in enumerate(contenders.items()):
                target = Path(place) / f"{number}-{position}.csv"
                started = time.perf_counter()
                run(source, target)
                seconds[name].append(time.perf_counter() - started)
                answers[name] = pd.read_csv(target, keep_default_na=False).predicted_labels.tolist()
            for name, labels in answers.items():
                flipped[name] += sum(ours != theirs for ours, theirs in zip(labels, answers["pipeline, defaults"], strict=True))
            print(f"{start + PORTION:,} of {len(texts):,} rows", file=sys.stderr)
    rows = summarize(seconds, flipped, len(texts))
    write_json(Path(arguments.output), {"rows": len(texts), "contenders": rows})
    print("| way | texts/s | against the defaults | against batch_size=32 | rows decided otherwise |\n|---|---|---|---|---|")
    for row in rows:
        ratios = " | ".join(f"{row[key]:.2f}x" for key in ("against_default", "against_batched"))
        print(f"| {row['way']} | {row['texts_per_second']:.0f} | {ratios} | {row['rows_decided_otherwise']} |")
    return 0


def read_texts(path: Path, num_rows: int) -> list[str]:
    """Return the first texts of a file, repeats left out: every contender is to do all the work."""
    with open_rows(path) as rows:
        column = rows.columns.index("text") if "text" in rows.columns else 0
        cells = (entry.values[column] for entry in rows.entries if isinstance(entry, Row))
        return list(islice(dict.fromkeys(cell for cell in cells if cell.strip()), num_rows))


def run_pipeline(classify: Any, ours: Predictor, source: Path, target: Path, options: dict[str, int]) -> None:
    """Do what a user of the pipeline writes: read, classify, hold the scores against the thresholds, write."""
    frame = pd.read_csv(source, keep_default_na=False)
    columns = ours.label_set.columns
    thresholds = dict(zip(ours.label_set.names, ours.rule.thresholds, strict=True))
    predicted = []
    for answers in classify(frame.text.tolist(), **options):
        on = [answer["label"] for answer in answers if answer["score"] >= thresholds[answer["label"]]]
        predicted.append("|".join(sorted(on, key=columns.__getitem__)))
    frame.assign(predicted_labels=predicted).to_csv(target, index=False)


def run_scoring(predictor: Any, source: Path, target: Path) -> None:
    score_files(predictor, predictor.rule, ScoringJob((source,), target, DataConfig(text_column="text")), lambda message: None)


def summarize(seconds: dict[str, list[float]], flipped: dict[str, int], num_rows: int) -> list[dict[str, Any]]:
    """Return a row a contender: its rate over all rows, and the medians of the ratios over portions."""
    return [
        {
            "way": name,
            "texts_per_second": num_rows / sum(values),
            "against_default": statistics.median(np.divide(seconds["pipeline, defaults"], values).tolist()),
            "against_batched": statistics.median(np.divide(seconds["pipeline, batch_size=32"], values).tolist()),
            "rows_decided_otherwise": flipped[name],
        }
        for name, values in seconds.items()
    ]


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
