"""Seconds from the start of a process to the emotions of one text: `infer.py` with each backend, and a script with a pipeline.

    python -m benchmarks.cold_start --model runs/NAME --output cold_start.json [--repeats 5]

Each answer is a process of its own. The contenders take turns in each repeat, after one round that is not counted.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from emotion.errors import exit_on_error
from emotion.files import write_json
from emotion.inference.numpy_predictor import is_numpy_supported
from emotion.inference.onnx_predictor import has_onnx
from emotion.inference.sidecar import find_model_folder

TEXT = "Thank you so much, you saved my day!"
PIPELINE = """
from transformers import pipeline
classify = pipeline("text-classification", model={folder!r}, top_k=None)
print(classify({text!r}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder of a full model, with or without ONNX files")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that are counted (default: 5)")
    parser.add_argument("--output", default="cold_start.json", help="JSON file for the results (default: cold_start.json)")
    arguments = parser.parse_args()
    folder = find_model_folder(arguments.model)
    infer = ["infer.py", "--model", folder, "--text", TEXT, "--backend"]
    contenders = {"transformers pipeline": ["-c", PIPELINE.format(folder=folder, text=TEXT)], "infer.py, torch": [*infer, "torch"]}
    if is_numpy_supported(Path(folder)):
        contenders["infer.py, numpy"] = [*infer, "numpy"]
    if has_onnx(Path(folder)):
        contenders["infer.py, ONNX"] = [*infer, "onnx"]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(arguments.repeats + 1):
        for name, command in contenders.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    pipeline = seconds["transformers pipeline"]
    rows: list[dict[str, Any]] = [
        {
            "contender": name,
            "seconds": statistics.median(values),
            "fraction_of_pipeline": statistics.median(ours / theirs for ours, theirs in zip(values, pipeline, strict=True)),
        }
        for name, values in seconds.items()
    ]
    write_json(Path(arguments.output), {"repeats": arguments.repeats, "contenders": rows})
    print("| contender | seconds | fraction of the pipeline's time |\n|---|---|---|")
    for row in rows:
        print("| {contender} | {seconds:.2f} | {fraction_of_pipeline:.2f} |".format(**row))
    return 0


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
