"""A model in shards (FSDP2, ZeRO-3) makes the run of one in one piece, its states and folders are the same files: two processes, a CPU."""

import re
import signal
from importlib.util import find_spec
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
from tests.conftest import SAMPLE, as_process, run_processes, run_script, start_script
from tests.test_processes import assert_equal_to_rounding
from tests.test_resume import assert_same, wait_until

SHARDED = {
    "FSDP2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "ZeRO-3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}
"""What Accelerate's launcher sets for `fsdp_version: 2` and `zero_stage: 3`."""
IS_THERE = {"FSDP2": True, "ZeRO-3": find_spec("deepspeed") is not None}
each_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.skipif(not IS_THERE[kind], reason="deepspeed is not installed")) for kind in SHARDED]
)
SETTINGS = ["training.epochs=1", "data.train_fraction=0.25", "training.log_every=2", "training.per_device_batch_size=12"]
SETTINGS += ["training.max_grad_norm=0.2"]
"""300 rows are validated in batches of 24: the second process has no thirteenth. All gradients are longer than .2."""
LORA = ["lora.r=4", "lora.dropout=0"]
WITH_STATES = ["lora.r=4", "training.save_every_steps=2"]
FORMS = {
    "full": ["model.gradient_checkpointing=true"],
    "lora": LORA,
    "nf4": [*LORA, "model.quantization=nf4"],
}


def words(backbone, folder, name, *more):
    given = [f"model.backbone={backbone}", f"run.folder={folder}", f"run.name={name}", *SETTINGS, *more]
    return ["train.py", "--config", "configs/quickstart.yaml", *given]


@pytest.fixture(scope="module", params=FORMS)
def one_run(request, tiny_backbones, tmp_path_factory):
    """The folder of one process's run, and the settings of its form. Mistral draws no dropout."""
    folder = tmp_path_factory.mktemp("runs")
    more = FORMS[request.param]
    result = run_script(*words(tiny_backbones["mistral"], folder, "one", *more, "training.gradient_accumulation_steps=4"))
    assert result.returncode == 0, result.stderr
    return folder / "one", more


def assert_halved(printed, kind):
    """Hold a process to have said that half of the weights are with it, but for what is odd."""
    found = re.search(r"2 shards: ([\d,]+) of ([\d,]+) bytes of weights are here \((.*)\)", printed).groups()
    local, total = (int(number.replace(",", "")) for number in found[:2])
    assert found[2] == kind
    assert total > 60_000 and local == pytest.approx(total / 2, rel=0.01)


@each_kind
def test_shards_make_the_run_of_one_process_and_its_model_folder(kind, one_run, tiny_backbones, tmp_path):
    (one, more), folder = one_run, tmp_path / "two"
    command = words(tiny_backbones["mistral"], tmp_path, "two", *more, "training.gradient_accumulation_steps=2")
    first, second = run_processes(*command, port=29690 + list(FORMS.values()).index(more), **SHARDED[kind])
    if kind == "ZeRO-3" and more == FORMS["nf4"]:
        assert first.returncode == second.returncode == 2 and len(first.stderr.splitlines()) == 1 and "fsdp_qlora.yaml" in first.stderr
        return
    assert first.returncode == second.returncode == 0, first.stderr
    assert_halved(first.stdout, kind)
    assert_equal_to_rounding(one, folder)
    norms, others = ([row["grad_norm"] for row in RunFolder(path).read_metrics() if "grad_norm" in row] for path in (one, folder))
    assert len(norms) > 2 and min(norms) > 0.2 and others == pytest.approx(norms, rel=1e-5)
    sizes, other_sizes = (pd.read_json(path / "efficiency.json", typ="series") for path in (one, folder))
    for key in ("parameters", "trainable_parameters"):
        assert sizes[key] == other_sizes[key] > 0
    validation = pd.read_csv(SAMPLE / "validation.csv")
    found = Predictor.load(str(folder)).predict(validation.text.tolist())
    stored = pd.read_parquet(RunFolder(folder).predictions("validation")).iloc[:, -found.shape[1] :]
    np.testing.assert_allclose(found, stored, rtol=0, atol=1e-6)


def test_a_dry_run_plans_for_a_shard(tmp_path):
    command = [*words("distilbert/distilbert-base-uncased", tmp_path, "none"), "--dry-run"]  # by its numbers, without its files
    asked = [{}, *(environment for kind, environment in SHARDED.items() if IS_THERE[kind])]
    plans = [run_processes(*command, port=29680, **environment)[0].stdout for environment in asked]
    weights, *shares = (float(re.search(r"weights ([\d.]+) GiB", plan)[1]) for plan in plans)
    assert weights > 0.2 and shares == pytest.approx([weights / 2] * len(shares), abs=0.01)
    assert all("one of 2 shards" in plan for plan in plans[1:]) and "shards" not in plans[0]


@pytest.mark.parametrize("form", ["fsdp2", "zero3"])
def test_fp16_is_refused_in_shards(form):
    with pytest.raises(TrainingError, match="fp16: is not for a sharded model"):
        shard_model(None, SimpleNamespace(mixed_precision="fp16"), form)


def stop(scripts, states, number):
    """Send the processes a signal as soon as there are states, and return how each ended."""
    wait_until(scripts[0], lambda: list_states(states))
    for script in scripts:
        script.send_signal(number)
    return [script.wait(120) for script in scripts]


def start_two(command, port, **environment):
    return [start_script(*command, warm=rank, **as_process(rank, port), **environment) for rank in range(2)]


@each_kind
def test_killed_and_resumed_in_shards_equals_uninterrupted(kind, tiny_backbones, tmp_path):
    """A BERT with dropout, each process drawing its own."""
    whole = run_processes(*words(tiny_backbones["bert"], tmp_path, "whole", *WITH_STATES), port=29682, **SHARDED[kind])
    assert [result.returncode for result in whole] == [0, 0], whole[0].stderr
    states = tmp_path / "cut" / "state"
    command = words(tiny_backbones["bert"], tmp_path, "cut", *WITH_STATES)
    assert stop(start_two(command, 29683, **SHARDED[kind]), states, signal.SIGKILL) == [-signal.SIGKILL] * 2
    with safe_open(list_states(states)[0] / "weights.safetensors", "pt") as weights:
        names, shapes = set(weights.keys()), {tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    assert len(names) > 20 and all("lora_" in name or "classifier" in name for name in names)  # only what is trained ...
    assert {(4, 32), (28, 32)} <= shapes  # ... in one piece
    resumed = run_processes(*command, "--resume", port=29684, **SHARDED[kind])
    assert [result.returncode for result in resumed] == [0, 0] and "resumed after step" in resumed[0].stdout, resumed[0].stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_state_goes_from_one_process_to_shards_and_copies_and_back(tiny_backbones, tmp_path):
    common = [*LORA, "training.save_every_steps=2", "training.epochs=4"]
    one, two = ([*common, f"training.gradient_accumulation_steps={number}"] for number in (4, 2))
    whole = run_script(*words(tiny_backbones["mistral"], tmp_path, "whole", *one))
    assert whole.returncode == 0, whole.stderr
    states, ended = tmp_path / "cut" / "state", 128 + signal.SIGTERM
    script = start_script(*words(tiny_backbones["mistral"], tmp_path, "cut", *one), warm=0)
    assert stop([script], states, signal.SIGTERM) == [ended]
    steps = [list_states(states)[0].name]
    ways = {29685: SHARDED["FSDP2"], 29686: {}} | ({29687: SHARDED["ZeRO-3"]} if IS_THERE["ZeRO-3"] else {})
    for port, environment in ways.items():
        command = words(tiny_backbones["mistral"], tmp_path, "cut", *two, "--resume")
        scripts = start_two(command, port, **environment)
        wait_until(scripts[0], lambda: list_states(states)[0].name > steps[-1])
        assert stop(scripts, states, signal.SIGTERM) == [ended] * 2, scripts[0].outputs[1].read_text()
        assert ("2 shards" in scripts[0].outputs[0].read_text()) == bool(environment)
        steps.append(list_states(states)[0].name)
    last = run_script(*words(tiny_backbones["mistral"], tmp_path, "cut", *one, "--resume"))
    assert last.returncode == 0, last.stderr
    assert len(set(steps)) == 1 + len(ways)
    losses, others = ([row["loss"] for row in RunFolder(tmp_path / name).read_metrics()] for name in ("whole", "cut"))
    assert len(losses) == len(others) > 10 and others == pytest.approx(losses, abs=1e-6)
    frames = [pd.read_parquet(RunFolder(tmp_path / name).predictions("validation")) for name in ("whole", "cut")]
    np.testing.assert_allclose(frames[1].iloc[:, 29:], frames[0].iloc[:, 29:], rtol=0, atol=1e-6)


@each_kind
def test_out_of_memory_in_shards_is_one_line(kind, tiny_backbones, tmp_path):
    """In the first micro-batch, after which a model in one piece would begin the window anew."""
    command = words(tiny_backbones["mistral"], tmp_path, "short", "training.gradient_accumulation_steps=2")
    short = {"SHORT_RANK": "1", "MOST_ROWS": "8", "SHORT_IN": "forward"}
    other, short = run_processes("tests/short_of_memory.py", *command[1:], port=29688, **short, **SHARDED[kind])
    assert short.returncode == other.returncode == 2, other.stderr
    lines = [line for line in short.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "step 1: out of memory with" in lines[0] and "gradient_accumulation_steps" in lines[0]
    assert "another one is gone" in other.stderr and "Traceback" not in short.stderr + other.stderr
