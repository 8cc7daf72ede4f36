"""Kill runs at random moments and resume them until they end: is the result bit-identical to that of an uninterrupted run?

    python -m benchmarks.kill_and_resume --kills 200 --output kill_and_resume.json

Tiny random models on the CPU in six variants: full fine-tuning (with dropout), LoRA, and LoRA on NF4, each on one process and on two. Each
start is a fork of a process that has the slow packages imported. SIGKILL comes at a moment drawn uniformly over most of the time of an
uninterrupted run, loading included; for every fourth kill, the next save is awaited. With two processes, one is killed and up to 50 ms
later the other, as a launcher would do. Compared are the saved weights, the decision rule, all validation probabilities and every logged
row except its times.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotion.files import write_json
from emotion.tracking.run_folder import RunFolder
from emotion.training.state import list_states
from tests import warm
from tests.conftest import ROOT, find_free_port, make_backbone
from tests.runs import assert_same_run, train_arguments

KILL_FRACTION = 0.6
"""Kills come within this fraction of an uninterrupted run's time: most runs do not end before, some have saved no state yet."""
MAX_SECONDS = 300
"""Limit for a run that is not killed."""
HALF_BATCH = "training.per_device_batch_size=16"


@dataclass(frozen=True)
class Variant:
    """How a run is made."""

    family: str
    settings: tuple[str, ...] = ()
    num_processes: int = 1


VARIANTS = {
    "full": Variant("bert"),
    "LoRA": Variant("bert", ("lora.r=4",)),
    "NF4 + LoRA": Variant("mistral", ("lora.r=4", "model.quantization=nf4")),
    "full, two processes": Variant("bert", (HALF_BATCH,), 2),
    "LoRA, two processes": Variant("bert", ("lora.r=4", HALF_BATCH), 2),
    "NF4 + LoRA, two processes": Variant("mistral", ("lora.r=4", "model.quantization=nf4", HALF_BATCH), 2),
}
SETTINGS = ["training.per_device_batch_size=32", "training.epochs=2", "training.save_every_steps=2", "training.log_every=5"]
SETTINGS += ["data.train_fraction=0.5"]


@dataclass
class Tally:
    """Counts of one variant."""

    variant: str
    whole_seconds: float = 0.0
    """Of the uninterrupted run."""
    num_kills: int = 0
    num_before_first_state: int = 0
    num_while_saving: int = 0
    num_runs: int = 0
    """Runs that were killed at least once, resumed to their end and compared."""
    num_identical: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="number of kills over all variants (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--output", metavar="FILE", help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warm.import_slow_packages()
    tallies = []
    tmp_dir = Path(tempfile.mkdtemp(prefix="kills-"))  # the first fork that exits would remove a TemporaryDirectory
    try:
        for number, name in enumerate(VARIANTS):
            num_kills = arguments.kills // len(VARIANTS) + (number < arguments.kills % len(VARIANTS))
            harness = Harness(name, tmp_dir, np.random.default_rng([arguments.seed, number]))
            tallies.append(harness.run(num_kills))
            print(format_row(tallies[-1]) if number else f"{HEADER}\n{format_row(tallies[-1])}", flush=True)
    finally:
        shutil.rmtree(tmp_dir)
    for message in (message for tally in tallies for message in tally.failures):
        print(message, file=sys.stderr)
    if arguments.output:
        rows = [asdict(tally) for tally in tallies]
        write_json(Path(arguments.output), {"seed": arguments.seed, "torch": torch.__version__, "variants": rows})
    return int(any(tally.num_identical < tally.num_runs or tally.failures for tally in tallies))


class Harness:
    """Starts, kills and compares the runs of one variant."""

    def __init__(self, name: str, tmp_dir: Path, generator: np.random.Generator) -> None:
        self.name, self.variant, self.tmp_dir, self.generator = name, VARIANTS[name], tmp_dir, generator
        self.tally = Tally(name)

    def run(self, num_kills: int) -> Tally:
        """Kill and resume runs until there are `num_kills` kills, and compare each run with the uninterrupted one."""
        started = time.monotonic()
        whole, folder, tally = self.tmp_dir / "whole", self.tmp_dir / "cut", self.tally
        tally.whole_seconds = self.make_whole_run(whole)
        while tally.num_kills < num_kills and not tally.failures:
            is_ended, num_before = False, tally.num_kills
            while not is_ended and not tally.failures:
                is_last = tally.num_kills >= num_kills
                is_ended = self.run_once(folder, None if is_last else self.generator.uniform(0, KILL_FRACTION * tally.whole_seconds))
            if is_ended and tally.num_kills > num_before:
                self.compare(whole, folder)
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(whole)
        tally.seconds = time.monotonic() - started
        return tally

    def make_whole_run(self, folder: Path) -> float:
        """Make the uninterrupted run and return its seconds."""
        make_backbone_once(self.variant.family, self.tmp_dir)
        started = time.monotonic()
        statuses = wait(self.start(folder), MAX_SECONDS)
        if any(statuses):
            raise SystemExit(f"{self.name}: the uninterrupted run ended with {statuses}: {read_log(self.tmp_dir)}")
        return time.monotonic() - started

    def run_once(self, folder: Path, kill_after: float | None) -> bool:
        """Start or resume a run, kill it after some seconds (None: never), and return whether it reached its end."""
        states, tally = folder / "state", self.tally
        old = list_partial(states)
        processes = self.start(folder)
        statuses = wait(processes, MAX_SECONDS if kill_after is None else kill_after)
        if kill_after is not None and self.generator.random() < 0.25:
            statuses = wait(processes, MAX_SECONDS, lambda: bool(list_partial(states) - old), statuses)
        ended = self.kill(processes, statuses)
        if not any(ended):
            return True
        if -signal.SIGKILL not in ended:
            tally.failures.append(f"{self.name}: ended by itself with {ended}: {read_log(self.tmp_dir)}")
            return False
        tally.num_kills += 1
        tally.num_before_first_state += not list_states(states)
        tally.num_while_saving += bool(list_partial(states) - old)
        return RunFolder(folder).is_finished  # killed after its last file was written

    def start(self, folder: Path) -> list[int]:
        """Fork the processes of a run, which resumes from its newest state if there is one, and return their ids."""
        variant = self.variant
        backbone = self.tmp_dir / variant.family
        arguments = train_arguments(backbone, folder.parent, folder.name, *SETTINGS, *variant.settings, "--resume")
        environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1"}
        if variant.num_processes > 1:
            environment |= {"WORLD_SIZE": str(variant.num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_port())}
        processes = []
        for rank in range(variant.num_processes):
            logs = [self.tmp_dir / f"{stream}-{rank}" for stream in ("out", "err")]
            for log in logs:
                log.write_bytes(b"")
            request = {
                "arguments": arguments,
                "folder": str(ROOT),
                "environment": environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if variant.num_processes > 1 else {}),
                "files": [os.devnull, *map(str, logs)],
            }
            processes.append(fork(warm.run_to_the_end, request))
        return processes

    def kill(self, processes: list[int], statuses: list[int | None]) -> list[int]:
        """Kill the processes that still run, in random order, and return all exit statuses."""
        running = [process for process, status in zip(processes, statuses, strict=True) if status is None]
        for process in self.generator.permutation(running):
            os.kill(int(process), signal.SIGKILL)
            time.sleep(self.generator.uniform(0, 0.05) if len(processes) > 1 else 0)
        return [
            status if status is not None else os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            for process, status in zip(processes, statuses, strict=True)
        ]

    def compare(self, whole: Path, folder: Path) -> None:
        """Count a run, and whether it is identical to the uninterrupted one."""
        self.tally.num_runs += 1
        try:
            assert_same_run(whole, folder)
            self.tally.num_identical += 1
        except AssertionError as error:
            self.tally.failures.append(f"{self.name}: run {self.tally.num_runs} differs: {str(error)[:300]}")


def list_partial(states: Path) -> set[tuple[str, int]]:
    """Return the states that are being written, or were when their run was killed: name and inode of the folder."""
    found = set()
    for path in states.glob(".step-*.partial"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def fork(function: Callable[..., Any], *arguments: Any) -> int:
    """Call a function in a fork of this process and return the fork's id."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        function(*arguments)
        os._exit(0)
    return process


def wait(
    processes: list[int], seconds: float, is_time: Callable[[], bool] = lambda: False, known: list[int | None] | None = None
) -> list[int | None]:
    """Return the exit statuses after `seconds`, once `is_time()`, or when all processes have ended; None for a process that still runs."""
    statuses: list[int | None] = list(known or [None] * len(processes))
    deadline = time.monotonic() + seconds
    while None in statuses and time.monotonic() < deadline and not is_time():
        for number, process in enumerate(processes):
            if statuses[number] is None and (ended := os.waitpid(process, os.WNOHANG))[0]:
                statuses[number] = os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.001)
    return statuses


def make_backbone_once(family: str, tmp_dir: Path) -> None:
    """Write a backbone, in a process of its own: threads train its tokenizer, and a process with threads must not fork."""
    if not (tmp_dir / family).is_dir():
        (tmp_dir / family).mkdir()
        os.waitpid(fork(make_backbone, family, tmp_dir / family), 0)


def read_log(tmp_dir: Path) -> str:
    """Return the last lines that the processes of the current run wrote to stderr."""
    return " | ".join(line for path in sorted(tmp_dir.glob("err-*")) for line in path.read_text().splitlines()[-2:])


HEADER = "| variant | kills | before the first state | while saving | runs resumed to the end | identical | seconds |\n" + "|---" * 7 + "|"


def format_row(tally: Tally) -> str:
    counts = [tally.num_kills, tally.num_before_first_state, tally.num_while_saving, tally.num_runs, tally.num_identical]
    return "| " + " | ".join(map(str, [tally.variant, *counts, round(tally.seconds)])) + " |"


if __name__ == "__main__":
    sys.exit(main())
