"""Train the models of a study on one data set, open their test splits and compare them: `make study` and `make study-real`.

    python -m benchmarks.study --data path/to/goemotions --runs real --output runs/study

Every model sees the same fraction of the training rows, two of them also a quarter of it, and the whole test split. Finished runs in
`--output` are kept and an interrupted one is resumed, so the command can be stopped and repeated. Before each run it prints what is left
and about how long that takes.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.config import load_config
from emotion.data.reading import read_dataset
from emotion.errors import exit_on_error
from emotion.tracking.run_folder import RunFolder

LORA = ("lora.r=16", "lora.alpha=32", "training.learning_rate=1e-3")


@dataclass(frozen=True)
class StudyRun:
    """A run of a study."""

    name: str
    config: str
    rate: float
    """Training rows per second on two cores of an AMD EPYC (AVX2), for the estimate of the time."""
    settings: tuple[str, ...] = ()
    is_reduced: bool = False
    """Whether it is trained on a quarter of the rows of the others."""


TFIDF = StudyRun("tfidf", "configs/tfidf.yaml", 5_000)
FULL = StudyRun("minilm", "configs/minilm.yaml", 60)
FULL_1 = StudyRun("minilm-seed1", "configs/minilm.yaml", 60, ("training.seed=1",))
FULL_REDUCED = StudyRun("minilm-reduced", "configs/minilm.yaml", 60, is_reduced=True)
STUDIES = {
    "small": [
        TFIDF,
        FULL,
        FULL_1,
        FULL_REDUCED,
        StudyRun("minilm-lora", "configs/minilm.yaml", 65, LORA),
        StudyRun("minilm-nf4", "configs/minilm.yaml", 65, (*LORA, "model.quantization=nf4")),
    ],
    "real": [
        TFIDF,
        FULL,
        FULL_1,
        FULL_REDUCED,
        StudyRun("mpnet-reduced", "configs/mpnet.yaml", 9, is_reduced=True),
        StudyRun("mpnet", "configs/mpnet.yaml", 9),
        StudyRun("mpnet-lora", "configs/mpnet_lora.yaml", 11),
        StudyRun("mpnet-nf4", "configs/mpnet_lora.yaml", 9, ("model.quantization=nf4",)),
        StudyRun("gemma-lora", "configs/gemma3_270m_lora.yaml", 7),
        StudyRun("gemma-nf4", "configs/gemma3_270m_qlora.yaml", 6),
    ],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="GoEmotions, or another data set (default: the bundled corpus)")
    parser.add_argument("--runs", choices=STUDIES, default="small", help="small: a backbone of 22M; real: also 110M and 268M")
    parser.add_argument("--output", help="folder for the runs and the report (default: runs/study-DATA)")
    parser.add_argument("--fraction", type=float, default=0.25, help="fraction of the training rows (default: a quarter)")
    parser.add_argument("--epochs", type=int, help="epochs of the transformers, instead of those of their configs")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train and evaluate only these runs, without a report")
    parser.add_argument(
        "--predictions", action="append", default=[], metavar="NAME=FILE", help="another model for the report, as in compare.py"
    )
    arguments = parser.parse_args()
    output = arguments.output or f"runs/study-{Path(arguments.data).name}"
    runs = [run for run in STUDIES[arguments.runs] if not arguments.only or run.name in arguments.only]
    started = time.monotonic()
    dataset = read_dataset(load_config(None, [f"data.source={arguments.data}"]).data)
    num_rows = {split: len(examples) for split, examples in dataset.splits.items()}
    left = [run for run in runs if not (Path(output) / run.name / "report" / "test" / "speed.json").is_file()]
    while left:
        print(describe_rest(left, [run for run in runs if run not in left], num_rows, output, arguments), file=sys.stderr, flush=True)
        run = left.pop(0)
        folder = Path(output) / run.name
        if not RunFolder(folder).is_finished:
            call("train.py", "--config", run.config, "--resume", *list_settings(run, output, arguments))
        call("evaluate.py", "--model", str(folder), "--split", "test")
    if not arguments.only:
        texts = ["--no-texts"] if arguments.data != "sample" else []
        others = [word for value in arguments.predictions for word in ("--predictions", value)]
        call("compare.py", *(f"{output}/{run.name}" for run in runs), *others, "--output", f"{output}/report", *texts)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes", file=sys.stderr)
    return 0


def list_settings(run: StudyRun, output: str, arguments: argparse.Namespace) -> list[str]:
    """Return the settings of a run, as on the command line of train.py."""
    fraction = arguments.fraction / 4 if run.is_reduced else arguments.fraction
    settings = [f"data.source={arguments.data}", f"run.folder={output}", f"run.name={run.name}", *run.settings]
    settings += [f"data.train_fraction={fraction}", "tracking.backend=none"]
    return settings + ([f"training.epochs={arguments.epochs}"] if arguments.epochs and run is not TFIDF else [])


def describe_rest(
    left: list[StudyRun], finished: list[StudyRun], num_rows: dict[str, int], output: str, arguments: argparse.Namespace
) -> str:
    """Return which runs are left and about how long they take, corrected by the speed of those that are finished."""
    ratios = []
    for run in finished:
        efficiency = json.loads((Path(output) / run.name / "efficiency.json").read_text(encoding="utf-8"))
        ratios.append(efficiency["examples_per_second"] / run.rate)
    speed = float(np.median(ratios)) if ratios else 1.0
    seconds = {run.name: estimate_work(run, num_rows, output, arguments) / (speed * run.rate) for run in left}
    names = ", ".join(f"{name} (about {value / 60:.0f} min)" for name, value in seconds.items())
    return f"\nstudy: {len(left)} runs are left, about {sum(seconds.values()) / 3600:.1f} h: {names}"


def estimate_work(run: StudyRun, num_rows: dict[str, int], output: str, arguments: argparse.Namespace) -> float:
    """Return the work of a run in rows of training: prediction of a validation or test row is a third of it."""
    config = load_config(run.config, list_settings(run, output, arguments))
    num_epochs = 1 if run is TFIDF else config.training.num_epochs
    num_trained = num_rows["train"] * config.data.train_fraction
    return num_epochs * (num_trained + num_rows["validation"] / 3) + num_rows["test"] / 3


def call(script: str, *options: str) -> None:
    """Run a script of the project and stop where it fails."""
    command = [sys.executable, script, *options]
    print(shlex.join(command), file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
