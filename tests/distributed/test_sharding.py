"""A model in shards (FSDP2) makes the run of a model in one piece, and writes the same files: two processes, on a CPU."""

import re
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from emotion.distributed.sharding import shard_model
from emotion.errors import TrainingError
from emotion.inference.predictor import Predictor
from emotion.tracking.run_folder import RunFolder
from emotion.training.state import list_states
from tests.conftest import make_once, run_processes, run_script, start_processes, start_script
from tests.runs import assert_equal_probabilities, assert_equal_to_rounding, assert_same_run, train_arguments, wait_until

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""What Accelerate's launcher sets for `fsdp_version: 2`."""
MAX_GRAD_NORM = 0.1
"""All gradients are longer, so each of them is clipped."""
SETTINGS = ["training.epochs=1", "training.log_every=2", "training.per_device_batch_size=9", f"training.max_grad_norm={MAX_GRAD_NORM}"]
"""86 rows are validated in batches of 18: the second process has no fifth."""
LORA = ["lora.r=4", "lora.dropout=0"]
WITH_STATES = ["lora.r=4", "training.save_every_steps=4"]
VARIANTS = {
    "full": ["model.gradient_checkpointing=true"],
    "lora": LORA,
    "nf4": [*LORA, "model.quantization=nf4"],
}


@pytest.fixture(scope="module")
def command(tiny_backbones, small_data):
    """A function that returns the command line of a run. BERT draws dropout, Mistral does not."""
    data = f"data.source={small_data}"
    return lambda family, folder, name, *more: train_arguments(tiny_backbones[family], folder, name, data, *SETTINGS, *more)


@pytest.fixture(scope="module", params=VARIANTS)
def one_run(request, command):
    """The folder of one process's run, and the settings of its variant. Mistral draws no dropout."""
    settings = VARIANTS[request.param]

    def train(folder):
        accumulated = "training.gradient_accumulation_steps=4"
        result = run_script(*command("mistral", folder, "one", *settings, accumulated))
        assert result.returncode == 0, result.stderr

    return make_once(f"one-piece-{request.param}", train) / "one", settings


def assert_halved(printed):
    """Check that a process printed that it holds half of the weights, up to what cannot be halved evenly."""
    found = re.search(r"2 shards: ([\d,]+) of ([\d,]+) bytes of weights are on this process \(FSDP2\)", printed).groups()
    local, total = (int(number.replace(",", "")) for number in found)
    assert total > 60_000 and local == pytest.approx(total / 2, rel=0.01)


@pytest.mark.slow
def test_shards_make_the_run_of_one_process_and_its_model_folder(one_run, command, small_data, tmp_path):
    (one, settings), folder = one_run, tmp_path / "two"
    arguments = command("mistral", tmp_path, "two", *settings, "training.gradient_accumulation_steps=2")
    first, second = run_processes(*arguments, **FSDP2)
    assert first.returncode == second.returncode == 0, first.stderr
    assert_halved(first.stdout)
    assert_equal_to_rounding(one, folder, small_data)
    norms, others = ([row["grad_norm"] for row in RunFolder(path).read_metrics() if "grad_norm" in row] for path in (one, folder))
    assert len(norms) > 2 and min(norms) > MAX_GRAD_NORM and others == pytest.approx(norms, rel=1e-5)
    sizes, other_sizes = (pd.read_json(path / "efficiency.json", typ="series") for path in (one, folder))
    for key in ("parameters", "trainable_parameters"):
        assert sizes[key] == other_sizes[key] > 0
    validation = pd.read_csv(small_data / "validation.csv", keep_default_na=False)
    found = Predictor.load(str(folder)).predict(validation.text.tolist())
    stored = pd.read_parquet(RunFolder(folder).predictions("validation")).iloc[:, -found.shape[1] :]
    np.testing.assert_allclose(found, stored, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_dry_run_plans_for_a_shard(tmp_path):
    arguments = train_arguments("distilbert/distilbert-base-uncased", tmp_path, "none", "--dry-run")  # its files are not read
    whole, sharded = (run_processes(*arguments, **environment)[0].stdout for environment in ({}, FSDP2))
    weights, shard = (float(re.search(r"weights ([\d.]+) GiB", plan)[1]) for plan in (whole, sharded))
    assert weights > 0.2 and shard == pytest.approx(weights / 2, abs=0.01)
    assert "one of 2 shards" in sharded and "shards" not in whole


def test_fp16_is_refused_in_shards():
    with pytest.raises(TrainingError, match="fp16: is not supported for a sharded model"):
        shard_model(None, SimpleNamespace(mixed_precision="fp16"))


def stop(scripts, states, number):
    """Send the processes a signal as soon as there are states, and return the exit status of each."""
    wait_until(scripts[0], lambda: list_states(states))
    for script in scripts:
        script.send_signal(number)
    return [script.wait(120) for script in scripts]


@pytest.mark.slow
def test_killed_and_resumed_in_shards_equals_uninterrupted(command, tmp_path):
    """A BERT with dropout, each process drawing its own."""
    whole = run_processes(*command("bert", tmp_path, "whole", *WITH_STATES), **FSDP2)
    assert [result.returncode for result in whole] == [0, 0], whole[0].stderr
    states = tmp_path / "cut" / "state"
    arguments = command("bert", tmp_path, "cut", *WITH_STATES)
    assert stop(start_processes(*arguments, **FSDP2), states, signal.SIGKILL) == [-signal.SIGKILL] * 2
    with safe_open(list_states(states)[0] / "weights.safetensors", "pt") as weights:
        names, shapes = set(weights.keys()), {tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    assert len(names) > 20 and all("lora_" in name or "classifier" in name for name in names)  # only what is trained ...
    assert {(4, 32), (6, 32)} <= shapes  # ... in one piece
    resumed = run_processes(*arguments, "--resume", **FSDP2)
    assert [result.returncode for result in resumed] == [0, 0] and "resumed after step" in resumed[0].stdout, resumed[0].stderr
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_state_goes_from_one_process_to_shards_and_copies_and_back(command, small_data, tmp_path):
    common = [*LORA, "training.save_every_steps=3", "training.epochs=4"]
    one, two = ([*common, f"training.gradient_accumulation_steps={number}"] for number in (4, 2))
    whole = run_script(*command("mistral", tmp_path, "whole", *one))
    assert whole.returncode == 0, whole.stderr
    states, ended = tmp_path / "cut" / "state", 128 + signal.SIGTERM
    script = start_script(*command("mistral", tmp_path, "cut", *one))
    assert stop([script], states, signal.SIGTERM) == [ended]
    steps = [list_states(states)[0].name]
    for environment in (FSDP2, {}):
        scripts = start_processes(*command("mistral", tmp_path, "cut", *two, "--resume"), **environment)
        wait_until(scripts[0], lambda: list_states(states)[0].name > steps[-1])
        assert stop(scripts, states, signal.SIGTERM) == [ended] * 2, scripts[0].outputs[1].read_text()
        assert ("2 shards" in scripts[0].outputs[0].read_text()) == bool(environment)
        steps.append(list_states(states)[0].name)
    last = run_script(*command("mistral", tmp_path, "cut", *one, "--resume"))
    assert last.returncode == 0, last.stderr
    assert len(set(steps)) == 3
    losses, others = ([row["loss"] for row in RunFolder(tmp_path / name).read_metrics()] for name in ("whole", "cut"))
    assert len(losses) == len(others) > 10 and others == pytest.approx(losses, abs=1e-6)
    assert_equal_probabilities(tmp_path / "whole", tmp_path / "cut", small_data)


@pytest.mark.slow
def test_out_of_memory_in_shards_is_one_line(command, tmp_path):
    """In the first micro-batch, after which a model in one piece would begin the batch anew."""
    arguments = command("mistral", tmp_path, "short", "training.gradient_accumulation_steps=2")
    limits = {"SHORT_RANK": "1", "MAX_ROWS": "6", "SHORT_IN": "forward"}
    other, short = run_processes("tests/short_of_memory.py", *arguments[1:], **limits, **FSDP2)
    assert short.returncode == other.returncode == 2, other.stderr
    lines = [line for line in short.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "step 1: out of memory with" in lines[0] and "gradient_accumulation_steps" in lines[0]
    assert "another one is gone" in other.stderr and "Traceback" not in short.stderr + other.stderr
