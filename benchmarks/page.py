"""The page of `app.py` measured: start to first answer, one text, ten clients at once, a file beside them, and memory.

    python -m benchmarks.page --model runs/NAME --output page.json [--backends numpy torch] [--python PYTHON] [--folder FOLDER]

Each backend is a server of its own, asked over HTTP as a browser does. `--python` and `--folder` measure a copy of the page elsewhere, such
as a Space in an environment without torch.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emotion.errors import exit_on_error
from emotion.files import write_json

TEXT = "Thank you so much, you saved my day!"
NUM_TEXTS, NUM_CLIENTS, TEXTS_PER_CLIENT, FILE_ROWS = 30, 10, 10, 2_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="run or model folder")
    parser.add_argument("--backends", nargs="+", default=["numpy", "torch"], help="backends to measure (default: numpy torch)")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the server (default: this one)")
    parser.add_argument("--folder", default=".", help="folder of app.py (default: .)")
    parser.add_argument("--output", default="page.json", help="JSON file for the results (default: page.json)")
    arguments = parser.parse_args()
    model = str(Path(arguments.model).resolve())
    rows = [
        measure([arguments.python, "app.py", "--model", model, "--backend", backend], arguments.folder) for backend in arguments.backends
    ]
    write_json(Path(arguments.output), dict(zip(arguments.backends, rows, strict=True)))
    print("| measured | " + " | ".join(arguments.backends) + " |\n|" + "---|" * (1 + len(rows)))
    for name in rows[0]:
        print(f"| {name} | " + " | ".join(f"{row[name]:.4g}" for row in rows) + " |")
    return 0


def measure(command: list[str], folder: str) -> dict[str, float]:
    """Return the figures of one server."""
    import psutil
    from gradio_client import Client, handle_file

    environment = {**os.environ, "PYTHONPATH": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    started = time.perf_counter()
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        figures: dict[str, float] = {"s, start to address": time.perf_counter() - started}
        client = Client(address, verbose=False, analytics_enabled=False)
        client.predict(TEXT, api_name="/predict")
        figures["s, start to first answer"] = time.perf_counter() - started
        figures["ms, one text (median)"] = 1_000 * statistics.median(ask(client, NUM_TEXTS))
        figures["MiB, memory after texts"] = psutil.Process(server.pid).memory_info().rss / 2**20
        clients = [Client(address, verbose=False, analytics_enabled=False) for _ in range(NUM_CLIENTS)]
        figures |= measure_clients(clients, "ten clients")
        with tempfile.TemporaryDirectory() as tmp_dir, ThreadPoolExecutor(1) as pool:
            path = Path(tmp_dir) / "rows.csv"
            path.write_text("text\n" + "".join(f'"{TEXT} {number}"\n' for number in range(FILE_ROWS)), encoding="utf-8")
            begun = time.perf_counter()
            job = pool.submit(client.predict, handle_file(path), api_name="/score_file")
            time.sleep(2)
            figures["ms, one text beside a file"] = 1_000 * statistics.median(ask(clients[0], 10))
            job.result()
            figures[f"s, a file of {FILE_ROWS:,} rows beside it"] = time.perf_counter() - begun
        figures["MiB, memory after a file"] = psutil.Process(server.pid).memory_info().rss / 2**20
    finally:
        server.terminate()
        server.wait()
    return figures


def ask(client: Any, num_texts: int) -> list[float]:
    """Return the seconds of each of some texts, one after another."""
    seconds = []
    for number in range(num_texts):
        begun = time.perf_counter()
        client.predict(f"{TEXT} {number}", api_name="/predict")
        seconds.append(time.perf_counter() - begun)
    return seconds


def measure_clients(clients: list[Any], name: str) -> dict[str, float]:
    """Return texts per second and the median and largest waiting time of clients that ask at once."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(clients)) as pool:
        seconds = [value for own in pool.map(lambda client: ask(client, TEXTS_PER_CLIENT), clients) for value in own]
    return {
        f"texts/s, {name}": len(seconds) / (time.perf_counter() - begun),
        f"ms, {name} (median)": 1_000 * statistics.median(seconds),
        f"ms, {name} (longest)": 1_000 * max(seconds),
    }


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
