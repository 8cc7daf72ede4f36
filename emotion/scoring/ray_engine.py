"""Run the parts of a job on Ray Data: on the cluster of `RAY_ADDRESS`, or on one of this machine for the time of the job."""

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from tqdm import tqdm

from emotion.errors import ConfigError
from emotion.scoring.batch import BatchScorer
from emotion.scoring.cluster_parts import FilePart
from emotion.scoring.cluster_worker import PartWorker, raise_error
from emotion.text import describe_error, is_quiet

OBJECT_STORE_BYTES = 2**27
"""Of a local cluster: rows do not travel through Ray, only the names of parts do."""
MAX_CONNECT_SECONDS = 10
MAX_MESSAGE = 300
"""Characters of an error of Ray that are shown."""


def check_ray() -> None:
    """Check that Ray is installed.

    Raises: ConfigError if it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--engine ray: ray is not installed: pip install -r requirements-ray.txt")


def run_parts(scorer: BatchScorer, output: str, parts: list[FilePart], worker_cores: int) -> None:
    """Give the parts to workers with `worker_cores` cores each, one part at a time, with a GPU each if the cluster has GPUs.

    Raises: ConfigError if there is no cluster, or it fails; the `EmotionError` of the first worker that has one.
    """
    check_ray()
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    with _join_cluster() as resources:
        is_on_gpu = scorer.options.backend in ("auto", "torch")
        num_gpus = 1 if is_on_gpu and resources.get("GPU", 0) >= 1 else 0
        if resources.get("CPU", 0) < worker_cores:
            raise ConfigError(f"--worker-cores {worker_cores}: the cluster has {resources.get('CPU', 0):.0f} CPU cores; give fewer")
        num_workers = int(resources["GPU"] if num_gpus else resources["CPU"] // worker_cores)
        DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        results = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts)).map_batches(
            PartWorker,
            fn_constructor_kwargs={"scorer": scorer, "output": output},
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=max(min(num_workers, len(parts)), 1)),
            num_cpus=worker_cores,
            num_gpus=num_gpus or None,
        )
        num_rows = sum(part.num_rows for part in parts)
        with tqdm(desc="score", total=num_rows, unit="row", unit_scale=True, disable=is_quiet(), leave=False, smoothing=0.1) as progress:
            for batch in results.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    raise_error(row)
                    progress.update(row["num_rows"])


@contextmanager
def _join_cluster() -> Iterator[dict[str, float]]:
    """Yield the resources of the cluster that this process is in, of `RAY_ADDRESS`, or of a new one on this machine.

    Raises: ConfigError if there is no cluster at the address, or Ray fails in the block.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    address, is_joined = os.environ.get("RAY_ADDRESS") or "local", ray.is_initialized()
    if not is_joined:
        _check_address(address)
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ part writes to stderr, past Python's logging
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise ConfigError(f"RAY_ADDRESS={address}: no Ray cluster can be used there ({describe_error(error)})") from None
    try:
        yield ray.cluster_resources()
    except RayTaskError:  # a bug in this project keeps its traceback
        raise
    except RayError as error:
        last = str(error).strip().rpartition("\n")[2]  # of the traceback of a worker
        cause = f"{type(error).__name__}: {last}"[:MAX_MESSAGE]
        raise ConfigError(f"--engine ray: {cause}; correct it, and start the command again: it goes on where it was") from None
    finally:
        if not is_joined:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Check that somebody listens at `HOST:PORT`: Ray would try for minutes.

    Raises: ConfigError if nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return  # `local`, `auto` or a scheme of Ray
    try:
        socket.create_connection((host.strip("[]"), int(port)), MAX_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"RAY_ADDRESS={address}: no Ray cluster can be used there ({describe_error(error)})") from None
