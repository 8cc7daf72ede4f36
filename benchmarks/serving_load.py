"""Load `serve.py` over the loopback: texts per second and the time of a request, batched across requests and one text at a time.

    python -m benchmarks.serving_load --model runs/NAME --output serving_load.json [--backends numpy torch] [--seconds 5]

Each client sends one text a request and the next one when the answer has come, so a slow server gets fewer requests: times are not those at
a given rate of requests. After a second of warm-up with as many clients, the answers that come within the measured seconds count. The
servers with `--max-batch 32` and with `--max-batch 1` (each text alone) run at the same time and take turns, so that noise of the machine
affects both. Clients and servers share the machine.
"""

import argparse
import csv
import http.client
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from emotion.cpu.machine import count_cores, name_cpu
from emotion.errors import exit_on_error
from emotion.files import write_json

TEXTS = "emotion/data/sample/test.csv"
BATCHES = {"batched": 32, "one at a time": 1}
CLIENTS = (1, 8, 32)
WARM_UP_SECONDS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder")
    parser.add_argument("--backends", nargs="+", default=["auto"], help="backends to measure (default: auto)")
    parser.add_argument("--texts", default=TEXTS, help=f"csv file with a column `text` (default: {TEXTS})")
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement (default: 5)")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each server (default: 2)")
    parser.add_argument("--output", default="serving_load.json", help="JSON file for the results (default: serving_load.json)")
    arguments = parser.parse_args()
    with Path(arguments.texts).open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    machine = {"cpu": name_cpu(), "cores": count_cores(), "load_average": os.getloadavg()[0], "threads": os.environ.get("OMP_NUM_THREADS")}
    rows = []
    for backend in arguments.backends:
        rows += measure_backend(arguments.model, backend, texts, arguments.seconds, arguments.repeats)
    write_json(Path(arguments.output), {"machine": machine, "command": sys.argv[1:], "rows": rows})
    print(f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_average']:.1f} at the start\n")
    print("| backend | server | clients | texts/s | p50, ms | p99, ms | texts of a batch |\n|---|---|---|---|---|---|---|")
    for row in rows:
        figures = " | ".join(f"{row[key]:.3g}" for key in ("texts_per_second", "p50_ms", "p99_ms", "texts_per_batch"))
        print(f"| {row['backend']} | {row['server']} | {row['clients']} | {figures} |")
    return 0


def measure_backend(model: str, backend: str, texts: list[str], seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each server and number of clients."""
    servers = {name: start_server(model, backend, max_batch) for name, max_batch in BATCHES.items()}
    try:
        rows = []
        for num_clients in CLIENTS:
            times: dict[str, list[float]] = {name: [] for name in servers}
            before = {name: read_batches(port) for name, (_, port, _) in servers.items()}
            for _ in range(repeats):
                for name, (_, port, _) in servers.items():
                    times[name] += load(port, texts, num_clients, seconds)
            for name, (_, port, used) in servers.items():
                num_texts, num_batches = read_batches(port) - before[name]
                row = {"backend": used, "server": name, "clients": num_clients, "texts_per_batch": num_texts / num_batches}
                rows.append(row | summarize(times[name], repeats * seconds))
        return rows
    finally:
        for process, *_ in servers.values():
            process.terminate()
            process.wait(60)


def start_server(model: str, backend: str, max_batch: int) -> tuple[subprocess.Popen[str], int, str]:
    """Return a running server, its port and the name of its backend."""
    command = [sys.executable, "serve.py", "--model", model, "--backend", backend, "--port", "0", "--max-batch", str(max_batch)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().split()[0].rpartition(":")[2])
    return process, port, json.loads(fetch(port, "/health"))["backend"]


def load(port: int, texts: list[str], num_clients: int, seconds: float) -> list[float]:
    """Return the seconds of each request of several clients whose answer came in the measured time, after the warm-up."""
    begin = time.perf_counter() + WARM_UP_SECONDS
    with ThreadPoolExecutor(num_clients) as pool:
        parts = pool.map(lambda client: ask_until(begin + seconds, port, texts[client:] + texts[:client]), range(num_clients))
        return [end - start for part in parts for start, end in part if begin <= end <= begin + seconds]


def ask_until(deadline: float, port: int, texts: list[str]) -> list[tuple[float, float]]:
    """Return the begin and end of each of a client's requests, one text after the other and from the first one again, until a deadline."""
    times: list[tuple[float, float]] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for text in itertools.cycle(texts):
        if (start := time.perf_counter()) > deadline:
            break
        connection.request("POST", "/predict", json.dumps({"text": text}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        times.append((start, time.perf_counter()))
    connection.close()
    return times


def read_batches(port: int) -> np.ndarray:
    """Return the numbers of texts and of batches that a server has predicted, float (2,)."""
    values = dict(line.split() for line in fetch(port, "/metrics").splitlines() if line.startswith("emotion_batch_texts_"))
    return np.array([float(values[f"emotion_batch_texts_{name}"]) for name in ("sum", "count")])


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
        return answer.read().decode()


def summarize(times: list[float], seconds: float) -> dict[str, float]:
    p50, p99 = 1_000 * np.quantile(times, (0.5, 0.99))
    return {"texts_per_second": len(times) / seconds, "p50_ms": p50, "p99_ms": p99}


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
