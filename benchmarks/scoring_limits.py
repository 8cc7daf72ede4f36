"""Test what scoring a file promises: constant memory, and the same bytes after kills and with several processes.

    python -m benchmarks.scoring_limits --model runs/NAME --output scoring_limits.json [--rows 1000000] [--kills 20]

The texts are random words, all different. evaluate.py is started as a user starts it; SIGKILL comes at random moments from a fixed seed.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emotion.errors import exit_on_error
from emotion.files import write_json

VOCABULARY = "the of a to happy sad why it rains again love hate thanks never always maybe today friend help lost found late home work"
SMALL_DIVISOR = 20
"""Memory is compared with that of a file with this fraction of the rows: 50,000 instead of 1,000,000."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large file (default: 1000000)")
    parser.add_argument("--kill-rows", type=int, default=20_000, help="rows of the file whose scoring is killed (default: 20000)")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: 20)")
    parser.add_argument("--output", default="scoring_limits.json", help="JSON file for the results (default: scoring_limits.json)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp_dir:
        folder = Path(tmp_dir)
        results = measure_memory(arguments.model, arguments.rows, folder)
        results |= compare_outputs(arguments.model, write_texts(folder, arguments.kill_rows), arguments.kills, folder)
    write_json(Path(arguments.output), results)
    print("| measurement | result |\n|---|---|")
    for name, value in results.items():
        print(f"| {name} | {f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else value} |")
    return 0 if all(value for value in results.values() if isinstance(value, bool)) else 1


def measure_memory(model: str, max_rows: int, folder: Path) -> dict[str, object]:
    """Return peak memory and speed for a small and a large file."""
    results: dict[str, object] = {}
    for num_rows in (max_rows // SMALL_DIVISOR, max_rows):
        source, target = write_texts(folder, num_rows), folder / f"scored-{num_rows}.csv"
        started = time.perf_counter()
        peak = run_to_end([sys.executable, *build_command(model, source, target)])
        results[f"peak MiB, {num_rows:,} rows"] = round(peak / 2**20)
        results[f"rows/s, {num_rows:,} rows"] = round(num_rows / (time.perf_counter() - started))
    return results


def compare_outputs(model: str, source: Path, num_kills: int, folder: Path) -> dict[str, object]:
    """Return whether the scored file is the same after kills, and with several processes."""
    whole, killed = folder / "whole.csv", folder / "killed.csv"
    started = time.perf_counter()
    run_to_end([sys.executable, *build_command(model, source, whole, "--part-rows", "500")])
    seconds = time.perf_counter() - started
    command = build_command(model, source, killed, "--part-rows", "500")
    results: dict[str, object] = {"kills": kill_and_resume(command, num_kills, seconds, killed)}
    results["killed file is byte-identical"] = compute_digest(killed) == compute_digest(whole)
    for num_processes in (2, 4):
        target = folder / f"by-{num_processes}.csv"
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
        run_to_end([sys.executable, *launch, *build_command(model, source, target, "--part-rows", "500")])
        results[f"file of {num_processes} processes is byte-identical"] = compute_digest(target) == compute_digest(whole)
    return results


def build_command(model: str, source: Path, target: Path, *options: str) -> list[str]:
    return ["evaluate.py", "--model", model, "--input", str(source), "--output", str(target), "--probabilities", "all", *options]


def write_texts(folder: Path, num_rows: int) -> Path:
    """Write a csv of different random texts, 3 to 20 words each; the same number of rows always has the same texts."""
    words = VOCABULARY.split()
    path, generator = folder / f"texts-{num_rows}.csv", random.Random(num_rows)
    if not path.exists():
        with path.open("w") as stream:
            stream.write("id,text\n")
            for row in range(num_rows):
                stream.write(f"{row},{' '.join(generator.choices(words, k=generator.randint(3, 20)))} {row}\n")
    return path


def run_to_end(command: list[str]) -> int:
    """Run a command and return its peak memory in bytes.

    Raises: SystemExit if it fails.
    """
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{errors[-2_000:]}")
    return usage.ru_maxrss * 1_024


def kill_and_resume(command: list[str], num_kills: int, seconds: float, target: Path) -> int:
    """Start a command `num_kills` times and kill it at random moments, then let it end; return how many kills came before its end."""
    generator, num_killed = random.Random(0), 0
    for _ in range(num_kills):
        process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
        try:
            process.wait(generator.uniform(0.2 * seconds, 0.6 * seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            num_killed += process.wait() == -signal.SIGKILL
        if target.exists():
            target.unlink()  # the command ended before its kill: start again
    run_to_end([sys.executable, *command])
    return num_killed


def compute_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
