"""Load `serve.py` over the loopback: texts per second and the time of a request, batched across requests and one text at a time.

    python -m benchmarks.serving_load --model runs/NAME --output serving_load.json [--backends numpy torch] [--seconds 5]

Each client sends one text a request and the next one when the answer has come. The servers with `--max-batch 32` and with `--max-batch 1`
(each text alone) run at the same time and take turns, so that noise of the machine affects both. Clients and servers share the machine.
"""

import argparse
import csv
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emotion.cpu.machine import count_cores, name_cpu
from emotion.errors import exit_on_error
from emotion.files import write_json

TEXTS = "emotion/data/sample/test.csv"
BATCHES = {"batched": 32, "one at a time": 1}
CLIENTS = (1, 8, 32)
NUM_WARM_UP = 20


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
        for _, port, _ in servers.values():
            ask_for(port, texts[:NUM_WARM_UP], seconds=60)
        rows = []
        for num_clients in CLIENTS:
            times: dict[str, list[float]] = {name: [] for name in servers}
            elapsed, batches = dict.fromkeys(servers, 0.0), dict.fromkeys(servers, 0.0)
            for _ in range(repeats):
                for name, (_, port, _) in servers.items():
                    before, started = count_batches(port), time.perf_counter()
                    times[name] += load(port, texts, num_clients, seconds)
                    elapsed[name] += time.perf_counter() - started
                    batches[name] += count_batches(port) - before
            rows += [
                {"backend": servers[name][2], "server": name, "clients": num_clients} | summarize(times[name], elapsed[name], batches[name])
                for name in servers
            ]
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
    """Return the seconds of each request that clients sent in turn, at the same time, for some seconds."""
    with ThreadPoolExecutor(num_clients) as pool:
        parts = pool.map(lambda client: ask_for(port, texts[client:] + texts[:client], seconds), range(num_clients))
        return [value for part in parts for value in part]


def ask_for(port: int, texts: list[str], seconds: float) -> list[float]:
    """Return the seconds of each of a client's requests, one text after the other, until the time is over or each text was sent."""
    times, deadline = [], time.perf_counter() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for text in texts:
        started = time.perf_counter()
        if started > deadline:
            break
        connection.request("POST", "/predict", json.dumps({"text": text}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        times.append(time.perf_counter() - started)
    connection.close()
    return times


def count_batches(port: int) -> float:
    """Return the number of batches that a server has predicted."""
    lines = fetch(port, "/metrics").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("emotion_batch_texts_count "))


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
        return answer.read().decode()


def summarize(times: list[float], elapsed: float, num_batches: float) -> dict[str, float]:
    percentiles = statistics.quantiles(times, n=100, method="inclusive")
    rates = {"texts_per_second": len(times) / elapsed, "texts_per_batch": len(times) / num_batches}
    return rates | {"p50_ms": 1_000 * percentiles[49], "p99_ms": 1_000 * percentiles[98]}


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
