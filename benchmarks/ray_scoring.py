"""Score a parquet file on local Ray clusters of several nodes, kill a node in the middle, and compare with one process.

    python -m benchmarks.ray_scoring --model models/goemotions-minilm --rows 200000 --nodes 2 4 --output ray_scoring.json

Each node has one core. The head node has none, as it holds the driver, which must live. The rows are the texts of the bundled corpus, made
different by a number, with an empty text in every thousand rows. One process is `evaluate.py` with as many threads as there are nodes; the
probabilities are compared before they are rounded.
"""

import argparse
import os
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scoring_limits import run_to_end
from emotion.config import DataConfig
from emotion.cpu.machine import name_cpu
from emotion.errors import exit_on_error
from emotion.files import write_json
from emotion.scoring.batch import BatchOptions, BatchScorer
from emotion.scoring.cluster import ClusterJob, score_on_cluster

SAMPLE = Path(__file__).parents[1] / "emotion" / "data" / "sample" / "train.csv"
EMPTY_EVERY = 1_000
MAX_DIFFERENCE = 1e-6
ROUNDING = 0.5e-4
"""Of a probability in a scored file."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="models/goemotions-minilm", help="run or model folder (default: models/goemotions-minilm)")
    parser.add_argument("--rows", type=int, default=200_000, help="rows to score (default: 200000)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 4], help="nodes of the clusters, one core each (default: 2 4)")
    parser.add_argument("--part-rows", type=int, default=2_000, help="rows of a part (default: 2000)")
    parser.add_argument("--output", default="ray_scoring.json", help="JSON file for the results (default: ray_scoring.json)")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"cpu": name_cpu(), "cores": os.cpu_count(), "load before": os.getloadavg()[0], "rows": arguments.rows}
    with tempfile.TemporaryDirectory() as tmp_dir:
        folder = Path(tmp_dir)
        source = write_rows(folder / "texts.parquet", arguments.rows)
        options = BatchOptions(probabilities="all", digits=None, backend="torch")
        expected = BatchScorer(arguments.model, None, options)(pq.read_table(source))
        for num_nodes in arguments.nodes:
            rounded = folder / f"one-{num_nodes}.parquet"
            one = time_one_process(arguments.model, source, rounded, num_nodes)
            results[f"rows/s, evaluate.py, one process, {num_nodes} threads"] = round(arguments.rows / one)
            for is_killed in (False, True):
                output = folder / f"{num_nodes}-{is_killed}"
                job = ClusterJob([str(source)], str(output), DataConfig(), arguments.part_rows)
                seconds, num_done = score_on_nodes(arguments.model, options, job, num_nodes, is_killed)
                name = f"{num_nodes} nodes, one killed after {num_done} parts" if is_killed else f"{num_nodes} nodes"
                results[f"rows/s, {name}"] = round(arguments.rows / seconds)
                results |= {f"{name}: {key}": value for key, value in compare(expected, pd.read_parquet(rounded), output).items()}
    write_json(Path(arguments.output), results | {"machine": platform.machine(), "load after": os.getloadavg()[0]})
    for key, value in results.items():
        print(f"{key}: {value}")
    return 0 if all(value for value in results.values() if isinstance(value, bool)) else 1


def write_rows(path: Path, num_rows: int) -> Path:
    """Write a parquet file with ids and texts."""
    texts = pd.read_csv(SAMPLE, keep_default_na=False).text.tolist()
    rows = [None if row % EMPTY_EVERY == EMPTY_EVERY - 1 else f"{texts[row % len(texts)]} {row}" for row in range(num_rows)]
    pq.write_table(pa.table({"id": range(num_rows), "text": rows}), path)
    return path


def time_one_process(model: str, source: Path, output: Path, num_threads: int) -> float:
    """Return how long `evaluate.py` takes with some threads, from start to end."""
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    started = time.perf_counter()
    options = ["--input", str(source), "--output", str(output), "--probabilities", "all", "--quiet"]
    run_to_end([sys.executable, "evaluate.py", "--model", model, *options])
    del os.environ["OMP_NUM_THREADS"]
    return time.perf_counter() - started


def score_on_nodes(model: str, options: BatchOptions, job: ClusterJob, num_nodes: int, is_killed: bool) -> tuple[float, int]:
    """Return how long a cluster takes, with the start of its workers, and how many parts were done when a node was killed."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 2**27})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=2**27) for _ in range(num_nodes)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        markers, num_parts = Path(job.output) / "_parts", -(-pq.read_metadata(job.inputs[0]).num_rows // job.part_rows)
        while not ended.wait(0.05):
            if (num_done := len(list(markers.glob("*.json")))) >= num_parts / 3:
                cluster.remove_node(nodes[0], allow_graceful=False)
                killed.append(num_done)
                return

    thread = threading.Thread(target=kill)
    started = time.perf_counter()
    if is_killed:
        thread.start()
    try:
        score_on_cluster(model, None, options, job, print)
        seconds = time.perf_counter() - started
    finally:
        ended.set()
        if is_killed:
            thread.join()
        ray.shutdown()
        cluster.shutdown()
    if is_killed and not killed:
        raise SystemExit("the job ended before a node was killed; give more rows")
    return seconds, killed[0] if killed else 0


def compare(expected: pa.Table, rounded: pd.DataFrame, output: Path) -> dict[str, Any]:
    """Return whether a cluster's rows are those of one process, in order, and the largest difference of a probability."""
    found = pd.read_parquet(output)
    columns = [name for name in expected.column_names if name.startswith("probability_")]
    whole = expected.to_pandas()
    differences = np.abs(found[columns].to_numpy(float) - whole[columns].to_numpy(float))
    from_file = np.abs(found[columns].to_numpy(float) - rounded[columns].to_numpy(float))
    labels = [[None if names is None else list(names) for names in frame.predicted_labels] for frame in (found, whole, rounded)]
    return {
        "every row once, in order": found.id.tolist() == list(range(len(whole))),
        "rows without an answer are the same": bool((found[columns].isna() == rounded[columns].isna()).all(axis=None)),
        "same labels as one process": labels[0] == labels[1] == labels[2],
        "largest difference of a probability": float(np.nanmax(differences)),
        f"at most {MAX_DIFFERENCE:g}": bool(np.nanmax(differences) <= MAX_DIFFERENCE),
        "rounded as in the file of one process": bool(np.nanmax(from_file) <= ROUNDING + MAX_DIFFERENCE),
    }


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
