"""Does a change of structure change a result? The same runs by two commits, compared bit by bit.

    python -m benchmarks.identity_guard --before REF [--after REF] --output identity_guard.json

Full fine-tuning, LoRA, and NF4 + LoRA on the bundled corpus, on one process and on two: metrics.jsonl without its times, the saved weights,
the decision rule and the validation probabilities must be the same. A model folder that the old code wrote must give the same probabilities
by the new code, and a run that the old code left interrupted must end, resumed by the new code, as one that was never interrupted.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.quality_guard import code_of
from emotion.errors import exit_on_error
from emotion.files import write_json

TIMES = {"seconds", "peak_memory", "examples_per_second", "tokens_per_second"}
"""Keys of metrics.jsonl that are measurements of the machine."""
ADAPTERS = ["lora.r=8", "training.learning_rate=1e-3"]
VARIANTS = {"full": [], "LoRA": ADAPTERS, "NF4 + LoRA": [*ADAPTERS, "model.quantization=nf4"]}
SETTINGS = ["data.train_fraction=0.3", "training.epochs=2", "training.log_every=3", "training.save_every_steps=4", "tracking.backend=none"]
INFER = "import json, sys; {load}; print(json.dumps(Predictor.load(sys.argv[1]).predict(['I love it', 'No!']).tolist()))"
LOAD = "from emotion.inference.predictor import Predictor"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", required=True, metavar="REF", help="git commit to compare with")
    parser.add_argument("--after", metavar="REF", help="git commit to compare; the working tree if left out")
    parser.add_argument("--output", default="identity_guard.json", help="where the findings go as JSON")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        codes = {side: stack.enter_context(code_of(ref)) for side, ref in (("before", arguments.before), ("after", arguments.after))}
        for variant, settings in VARIANTS.items():
            for num_processes in (1, 2):
                name = f"{variant.replace(' ', '')}-{num_processes}"
                for side, code in codes.items():
                    train(code, folder / side, name, settings, num_processes)
                differing = compare(folder / "before" / name, folder / "after" / name)
                rows.append({"what": f"{variant}, {num_processes} process(es)", "differing": differing})
                print(format_row(rows[-1]), flush=True)
            answers = [predict(code, folder / "before" / f"{variant.replace(' ', '')}-1") for code in codes.values()]
            rows.append(
                {"what": f"{variant}, model folder of the old code", "differing": [] if answers[0] == answers[1] else ["probabilities"]}
            )
            print(format_row(rows[-1]), flush=True)
            cut = f"{variant.replace(' ', '')}-cut"
            interrupt(codes["before"], folder / "mixed", cut, settings)
            train(codes["after"], folder / "mixed", cut, [*settings], 1, "--resume")
            differing = compare(folder / "before" / f"{variant.replace(' ', '')}-1", folder / "mixed" / cut)
            rows.append({"what": f"{variant}, interrupted by the old code and resumed", "differing": differing})
            print(format_row(rows[-1]), flush=True)
    write_json(Path(arguments.output), {"before": arguments.before, "after": arguments.after, "rows": rows})
    return int(any(row["differing"] for row in rows))


def words_of(folder: Path, name: str, settings: list[str]) -> list[str]:
    return ["train.py", "--config", "configs/quickstart.yaml", *SETTINGS, *settings, f"run.folder={folder}", f"run.name={name}"]


def train(code: Path, folder: Path, name: str, settings: list[str], num_processes: int, *options: str) -> None:
    """Train a run by the code in a folder, on one or two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = words_of(folder, name, [*settings, f"training.per_device_batch_size={32 // num_processes}"])
    environments = [os.environ | {"OMP_NUM_THREADS": str(3 - num_processes), "ACCELERATE_USE_CPU": "1"} for _ in range(num_processes)]
    if num_processes > 1:
        for rank, environment in enumerate(environments):
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_processes)}
            environment |= {"LOCAL_WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    commands = [sys.executable, *words, *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(commands, cwd=code, env=environment, **quiet) for environment in environments]  # type: ignore[call-overload]
    if statuses := [process.wait() for process in processes if process.wait()]:
        raise SystemExit(f"{code}: {' '.join(commands)}: status {statuses[0]}")


def interrupt(code: Path, folder: Path, name: str, settings: list[str]) -> None:
    """Start a run and kill it after its first state."""
    words = words_of(folder, name, [*settings, "training.per_device_batch_size=32"])
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    process = subprocess.Popen([sys.executable, *words], cwd=code, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / name / "state").glob("step-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"{name}: ended before it could be killed")


def compare(before: Path, after: Path) -> list[str]:
    """Return the names of what differs between two run folders."""
    return [name for name in read(before) if read(before)[name] != read(after)[name]]


def read(run: Path) -> dict[str, Any]:
    """Return all of a run that must not depend on the code's structure."""
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    sidecar = json.loads((run / "model" / "emotion.json").read_text())
    found: dict[str, Any] = {
        "metrics": [{key: value for key, value in row.items() if key not in TIMES} for row in metrics],
        "decision": (sidecar["decision"], sidecar["validation"]),
        "probabilities": pd.read_parquet(run / "predictions" / "validation.parquet").to_csv(),
    }
    return found | {path.name: path.read_bytes() for path in sorted((run / "model").glob("*.safetensors"))}


def predict(code: Path, run: Path) -> str:
    """Return the answers of a model folder by the code in a folder, as text."""
    command = [sys.executable, "-c", INFER.format(load=LOAD), str(run)]
    return subprocess.run(command, cwd=code, capture_output=True, text=True, check=True).stdout


def format_row(row: dict[str, Any]) -> str:
    return f"{row['what']:<50} {'differs: ' + ', '.join(row['differing']) if row['differing'] else 'identical'}"


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
