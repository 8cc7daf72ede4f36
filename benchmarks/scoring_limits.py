"""What scoring a file promises, tried: flat memory, the same bytes after kills, the same bytes from several processes.

    python -m benchmarks.scoring_limits --model runs/NAME --output scoring_limits.json [--rows 1000000] [--kills 20]

The texts are made up, all different. evaluate.py is started as a user starts it; the kills are SIGKILLs at seeded random moments.
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

WORDS = [
    "the",
    "of",
    "a",
    "to",
    "happy",
    "sad",
    "why",
    "it",
    "rains",
    "again",
    "love",
    "hate",
    "thanks",
    "never",
    "always",
    "maybe",
    "today",
    "friend",
    "help",
    "lost",
    "found",
    "late",
    "home",
    "work",
]
SMALLER = 20
"""The file that the memory of the large one is held against has its rows over this: 50,000 of 1,000,000."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large file")
    parser.add_argument("--kill-rows", type=int, default=20_000, help="rows of the file that is killed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--output", default="scoring_limits.json")
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for num_rows in (arguments.rows // SMALLER, arguments.rows):
            source, target = write_texts(folder, num_rows), folder / f"scored-{num_rows}.csv"
            started = time.perf_counter()
            peak = run_to_end([sys.executable, *words(arguments.model, source, target)])
            found[f"peak MiB, {num_rows:,} rows"] = round(peak / 2**20)
            found[f"rows/s, {num_rows:,} rows"] = round(num_rows / (time.perf_counter() - started))
        source = write_texts(folder, arguments.kill_rows)
        whole = folder / "whole.csv"
        started = time.perf_counter()
        run_to_end([sys.executable, *words(arguments.model, source, whole, "--part-rows", "500")])
        seconds = time.perf_counter() - started
        target = folder / "killed.csv"
        found["kills"] = kill_and_go_on(words(arguments.model, source, target, "--part-rows", "500"), arguments.kills, seconds, target)
        found["killed file is byte-identical"] = digest(target) == digest(whole)
        for num_processes in (2, 4):
            target = folder / f"by-{num_processes}.csv"
            launch = ["-m", "torch.distributed.run", f"--nproc_per_node={num_processes}", "--master_port=29655"]
            run_to_end([sys.executable, *launch, *words(arguments.model, source, target, "--part-rows", "500")])
            found[f"file of {num_processes} processes is byte-identical"] = digest(target) == digest(whole)
    write_json(Path(arguments.output), found)
    print("| what | measured |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else value} |")
    return 0 if all(value for value in found.values() if isinstance(value, bool)) else 1


def words(model: str, source: Path, target: Path, *more: str) -> list[str]:
    return ["evaluate.py", "--model", model, "--input", str(source), "--output", str(target), "--probabilities", "all", *more]


def write_texts(folder: Path, num_rows: int) -> Path:
    """Write a csv of different made-up texts, 3 to 20 words each; the same for the same number of rows."""
    path, generator = folder / f"texts-{num_rows}.csv", random.Random(num_rows)
    if not path.exists():
        with path.open("w") as stream:
            stream.write("id,text\n")
            for row in range(num_rows):
                stream.write(f"{row},{' '.join(generator.choices(WORDS, k=generator.randint(3, 20)))} {row}\n")
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


def kill_and_go_on(command: list[str], num_kills: int, seconds: float, target: Path) -> int:
    """Start a command again and again, killing it at random moments, then let it end; return how many kills met it alive."""
    generator, num_met = random.Random(0), 0
    for _ in range(num_kills):
        process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
        try:
            process.wait(generator.uniform(0.2 * seconds, 0.6 * seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            num_met += process.wait() == -signal.SIGKILL
        if target.exists():
            target.unlink()  # it ended before its kill: begin anew
    run_to_end([sys.executable, *command])
    return num_met


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
