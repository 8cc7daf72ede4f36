"""A model that splits long texts into segments against the same model that cuts them: short texts, and a text of 200 pages.

    python -m benchmarks.long_texts --model models/goemotions-minilm --texts FILE

Both take turns on portions of the texts, so that noise of the machine affects both. Models are loaded once, and loading is not timed.
"""

import argparse
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.scoring_speed import read_texts
from emotion.cpu.machine import name_cpu
from emotion.errors import exit_on_error
from emotion.inference.explanation import explain
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import SEGMENTS_VERSION, SIDECAR, find_model_folder

PORTION = 500
NUM_WORDS = 100_000
"""Words of a text of 200 pages."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder of a transformer that cuts long texts")
    parser.add_argument("--texts", required=True, help="file with a column `text`, or with the texts in its first column")
    parser.add_argument("--rows", type=int, default=10_000, help="number of different texts (default: 10000)")
    arguments = parser.parse_args()
    folder, texts = Path(find_model_folder(arguments.model)), read_texts(Path(arguments.texts), arguments.rows)
    with tempfile.TemporaryDirectory() as tmp_dir:
        cut, split = Predictor.load(str(folder)), Predictor.load(write_split(folder, Path(tmp_dir) / "model"))
    print(f"{name_cpu()}; segments of {split.sidecar.max_length} tokens that share {split.sidecar.stride}")
    compare(cut, split, texts)
    measure_long(split, " ".join(islice((word for text in cycle(texts) for word in text.split()), NUM_WORDS)))
    return 0


def write_split(folder: Path, target: Path) -> str:
    """Write a copy of a model folder that splits long texts, with the default stride, and return its path."""
    shutil.copytree(folder, target)
    values = json.loads((target / SIDECAR).read_text(encoding="utf-8"))
    segments = {"stride": values["max_length"] // 4, "combination": "mean"}
    values |= {"format_version": SEGMENTS_VERSION, "segments": segments}
    (target / SIDECAR).write_text(json.dumps(values), encoding="utf-8")
    return str(target)


def compare(cut: Predictor, split: Predictor, texts: list[str]) -> None:
    """Print which answers differ, and the ratio of the times."""
    is_long, is_other, ratios = [], [], []
    for number, start in enumerate(range(0, len(texts), PORTION)):
        portion, seconds, answers = texts[start : start + PORTION], {}, {}
        for predictor in (cut, split) if number % 2 else (split, cut):
            started = time.process_time()  # other programs count less in CPU time
            answers[predictor is split], checks = predictor.predict_checked(portion)
            seconds[predictor is split] = time.process_time() - started
            if checks.num_segments is not None:
                is_long.append(checks.num_segments > 1)
        is_other.append((answers[True] != answers[False]).any(axis=1))
        ratios.append(seconds[True] / seconds[False])
    long, other = np.concatenate(is_long), np.concatenate(is_other)
    print(
        f"{len(texts):,} texts: {long.sum():,} are longer, {other.sum():,} have other probabilities, {(other & ~long).sum():,} of the rest"
    )
    spread = f"median of {len(ratios)} portions, {min(ratios):.3f}-{max(ratios):.3f}"
    print(f"CPU time in segments / cut: {statistics.median(ratios):.3f} ({spread})")


def measure_long(split: Predictor, text: str) -> None:
    """Print seconds and memory of a long text, and of its explanation."""
    before, started = measure_peak(), time.perf_counter()
    _, checks = split.predict_checked([text])
    seconds = time.perf_counter() - started
    assert checks.num_segments is not None
    more = measure_peak() - before
    print(f"{len(text.split()):,} words: {checks.num_segments[0]:,} segments in {seconds:.1f} s, {more:.0f} MiB more than before")
    started = time.perf_counter()
    explanation = explain(split, text)
    print(f"its explanation: {len(explanation.spans)} groups of {explanation.group_size} words in {time.perf_counter() - started:.1f} s")


def measure_peak() -> float:
    """Return the peak memory of this process so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
