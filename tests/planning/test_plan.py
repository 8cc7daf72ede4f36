"""The plan that `train.py --dry-run` prints."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emotion.config import Config, DistillationConfig, TrainingConfig, load_config
from emotion.data.reading import read_dataset
from emotion.errors import ConfigError
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.planning import machine
from emotion.planning.memory import Footprint, estimate_footprint
from emotion.planning.plan import Plan, _format_duration, format_plan, plan_run, print_plan


def test_steps_and_padding_by_hand():
    config = Config(training=TrainingConfig(epochs=3, per_device_batch_size=2, gradient_accumulation_steps=2))
    footprint = Footprint(10, 5, weights=40.0, gradients=20.0, optimizer=40.0, activations=7.0)
    lengths = np.array([5, 2, 4, 3])
    plan = Plan(config, 1, 4, "counted", lengths, "counted", "bf16", footprint, (2, 5), 1)
    assert (plan.batch_size, plan.num_steps) == (4, 3)
    assert plan.padding_fraction == 2 / 16  # micro-batches of lengths (2, 3) and (4, 5), padded to 3 and 5
    lines = format_plan(plan).splitlines()
    assert "tokens      3.5 per text, at most 5, 12.5% padding (counted)" in lines
    assert "steps       3 in 3 epochs, 4 rows each: 1 process(es) x 2 micro-batch(es) x 2" in lines


def test_the_padding_is_that_of_the_micro_batches_of_each_process():
    """Rows of 1, 2, 3 and 4 tokens: a process has those of 1 and 3, padded to 3, the other those of 2 and 4, padded to 4."""
    plan = make_plan(lengths=np.array([1, 2, 3, 4]), num_processes=2)
    plan = replace(plan, config=Config(training=TrainingConfig(epochs=1, per_device_batch_size=2, gradient_accumulation_steps=1)))
    assert plan.padding_fraction == 1 - 10 / (2 * 3 + 2 * 4)


def test_a_precision_that_was_asked_for_is_not_called_the_default():
    plan = make_plan()
    assert "precision   fp32 (the default of this device; " in format_plan(plan)
    asked = replace(plan.config, training=replace(plan.config.training, precision="fp32"))
    assert "precision   fp32\n" in format_plan(replace(plan, config=asked))


def make_plan(**changes):
    footprint = Footprint(10, 5, weights=2.0**30, gradients=0, optimizer=0, activations=0, flops_per_token=6e6, width=8)
    config = Config(training=TrainingConfig(epochs=3, per_device_batch_size=2, gradient_accumulation_steps=2))
    return replace(Plan(config, 1, 4, "counted", np.array([5, 2, 4, 3]), "counted", "fp32", footprint, (2, 5), 1), **changes)


@pytest.mark.parametrize(
    ("num_processes", "free", "line"),
    [
        (1, 3.0, "fits        yes: 2.20 GiB with 1.20 GiB of libraries, 3.00 GiB free in this machine"),
        (2, 5.0, "fits        yes: 4.40 GiB with 1.20 GiB of libraries in each of 2 processes, 5.00 GiB free in this machine"),
        (
            1,
            2.0,
            "fits        no: 2.20 GiB with 1.20 GiB of libraries, 2.00 GiB free in this machine; lower training.per_",
        ),
    ],
)
def test_a_plan_says_whether_it_fits_with_the_libraries(num_processes, free, line, monkeypatch):
    monkeypatch.setattr(machine, "measure_free_memory", lambda device: (free * 2**30, "free in this machine"))
    for device in ("cpu", "cpu:0"):  # the first of several processes names its device so
        assert line in format_plan(make_plan(num_processes=num_processes, device=device))


def test_the_libraries_are_not_in_the_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(machine, "measure_free_memory", lambda device: (2.0**30, f"free on {device}"))
    monkeypatch.setattr(machine, "measure_speed", lambda *_: 1e12)
    assert "fits        yes: 1.00 GiB, 1.00 GiB free on cuda:0" in format_plan(make_plan(device="cuda:0"))


def test_the_time_is_operations_by_speed(monkeypatch):
    """48 tokens: 3 epochs of 16, padding included. 6e6 operations each, at 70 % of 1e6 a second: 411 s; two processes take half."""
    monkeypatch.setattr(machine, "measure_speed", lambda *_: 1e6)
    assert make_plan().num_tokens == 48 and make_plan(lengths=None).num_tokens == 3 * 4 * Config().data.max_length
    assert "time        about 7 min, without validation (0.0 TFLOP, 0 GFLOP/s in matrix products here, " in format_plan(make_plan())
    assert "training is taken to reach 70%: a guess from one run of MiniLM on a CPU)" in format_plan(make_plan())
    assert "time        about 3 min" in format_plan(make_plan(num_processes=2))
    config = load_config(None, ["distillation.num_teachers=3"])
    plan = make_plan()
    taught = replace(plan, config=replace(plan.config, distillation=config.distillation))
    assert "time        about 27 min for 4 models, 7 min for each, without validation" in format_plan(taught)
    config = load_config(None, ["distillation.num_teachers=3", "distillation.teacher_configs=configs/mpnet.yaml"])
    text = format_plan(replace(plan, config=replace(plan.config, distillation=config.distillation)))
    assert "time        about 7 min, without teachers and validation" in text
    assert "3 of each of configs/mpnet.yaml, trained first; the lines below describe the run itself, not its teachers" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (9_000, "2.5 h"), (18_658_800, "216 days")])
def test_a_duration_is_in_its_largest_unit(seconds, text):
    assert _format_duration(seconds) == text


def test_free_memory_is_at_most_the_limit_of_a_container(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("1048576\n")
    monkeypatch.setattr(machine, "MEMORY_LIMITS", (str(tmp_path / "none"), str(tmp_path / "max")))
    assert machine.measure_free_memory(torch.device("cpu")) == (2**20, "free in this machine")
    (tmp_path / "max").write_text("max\n")
    assert machine.measure_free_memory(torch.device("cpu"))[0] > 2**27


def test_the_speed_is_counted_in_operations(monkeypatch):
    """200 products of (4, 8) x (8, 32) in 2 s by a clock that stands still until they are done."""
    times = iter([0.0, *[0.0] * 200, 2.0])
    monkeypatch.setattr("emotion.planning.machine.time.perf_counter", lambda: next(times))
    assert machine.measure_speed(torch.device("cpu"), "fp32", 4, 8) == 200 * 2 * 4 * 8 * 32 / 2


def test_a_plan_counts_rows_and_parameters_of_the_bundled_data_and_model():
    config = load_config(None)
    plan = plan_run(config, 1, "fp32")
    assert plan.num_rows == len(read_dataset(config.data)["train"].texts) == 1_300
    assert plan.footprint.num_parameters == plan.footprint.num_trainable == 22_713_216 + 28 * 385
    assert plan.lengths.shape == (1_300,) and plan.largest_batch == (32, plan.lengths.max())
    assert "loading" not in format_plan(plan)


def test_a_plan_counts_the_embeddings_of_emoji(tiny_bert):
    config = load_config(None, [f"model.backbone={tiny_bert}", "model.emoji_tokens=true"])
    model, _ = build_model(config.model, config.lora, LabelSet(("a", "b")), np.full(2, 0.5))
    footprint = estimate_footprint(config.model, config.lora, LabelSet(("a", "b")), "fp32", 1, 8)
    assert footprint.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_plan_counts_the_texts_that_are_cut(tmp_path):
    """Special tokens included, `a b` has 4 tokens and `a b c` has 5."""
    (tmp_path / "rows.csv").write_text(
        "text,labels\n" + "".join(f"{'a b c' if row < 5 else 'a b'},{'joy' if row % 2 else 'fear'}\n" for row in range(20))
    )
    settings = [f"data.train={tmp_path / 'rows.csv'}", f"data.validation={tmp_path / 'rows.csv'}", "data.max_length=4"]
    plan = plan_run(load_config(None, settings), 1, "fp32")
    assert plan.num_rows == 20 and (plan.lengths == 4).all() and plan.num_cut == 5
    assert "tokens      4.0 per text, at most 4, 0.0% padding (counted); 5 texts (25.0%) cut at data.max_length=4" in format_plan(plan)
    assert "cut" not in format_plan(plan_run(load_config(None, [*settings, "data.max_length=5"]), 1, "fp32"))


def test_a_plan_tells_how_the_data_are_read_as_a_run_does(tmp_path, capsys):
    rows = "".join(f"text number {row},{'joy' if row % 2 else 'fear'}\n" for row in range(40))
    (tmp_path / "rows.csv").write_text(f"comment,feeling\n{rows}")
    config = load_config(None, [f"data.source={tmp_path / 'rows.csv'}", "data.label_column=feeling"])
    accelerator = SimpleNamespace(num_processes=1, is_main_process=True, device="cpu")
    print_plan(config, SimpleNamespace(accelerator=accelerator, precision="fp32", num_shards=1))
    printed = capsys.readouterr().out
    expected = [f"data: {message}" for message in read_dataset(config.data).messages]
    assert "text from column 'comment', labels from column 'feeling'" in expected[0]
    assert all(message in " ".join(printed.split()) for message in expected) and printed.index("data:") < printed.index("backbone")


def test_a_plan_has_the_number_of_automatic_epochs():
    plan = plan_run(load_config(None, ["training.epochs=auto"]), 1, "fp32")
    assert plan.config.training.epochs == 8 and plan.num_steps == 8 * 41
    assert f"steps       {8 * 41} in 8 epochs, 32 rows each" in format_plan(plan)


def test_a_plan_has_the_epochs_of_the_student(monkeypatch):
    """A teacher of 2 epochs takes a third of the time of a student of 6, so three of them as long as the student. Both are rounded."""
    monkeypatch.setattr(machine, "measure_speed", lambda *_: 1e12)
    taught = "distillation.num_teachers=3"
    plan = plan_run(load_config(None, ["training.epochs=2", taught, "distillation.epochs=6"]), 1, "fp32")
    alone = replace(plan, config=replace(plan.config, distillation=DistillationConfig()))
    student, both = (re.search(r"about (\d+) s", format_plan(of))[1] for of in (alone, plan))
    assert plan.num_steps == 6 * 41 and abs(int(both) - 2 * int(student)) <= 1
    lines = " ".join(format_plan(plan).split())
    assert "3, trained first, in 2 epochs each; the lines below describe the student, the time all" in lines
    assert f"about {both} s for 4 models, " in lines and " s for each teacher, without validation" in lines
    automatic = plan_run(load_config(None, ["training.epochs=auto", taught]), 1, "fp32")
    assert automatic.num_steps == 32 * 41 and automatic.teacher_epochs == 8
    single = plan_run(load_config(None, ["training.epochs=2", taught]), 1, "fp32")
    assert single.num_steps == 2 * 41 and "the lines below describe each of them" in format_plan(single)


def test_a_sharded_plan_names_its_shards_and_the_memory_for_loading():
    text = format_plan(plan_run(load_config(None), 2, "fp32", num_shards=2))
    assert "this is one of 2 shards" in text and "in the main memory of each process, before they are sharded" in text


def test_the_baseline_has_no_plan():
    with pytest.raises(ConfigError, match="has no training steps to plan"):
        plan_run(load_config(None, ["model.backbone=tfidf"]), 1, "fp32")


def test_a_micro_batch_has_no_more_rows_than_a_batch_of_the_data(tmp_path):
    """50 texts by 2 micro-batches: 25 rows each, however many are allowed."""
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"text {row},{'ab'[row % 2]}\n" for row in range(60)))
    settings = [f"data.source={tmp_path / 'rows.csv'}", "data.validation_fraction=0.1", "data.test_fraction=0.06"]
    settings += ["training.per_device_batch_size=4096", "training.gradient_accumulation_steps=2"]
    plan = plan_run(load_config(None, settings), 1, "fp32")
    assert plan.num_rows >= 48 and plan.largest_batch[0] == -(-plan.num_rows // 2)


def test_a_run_that_would_be_refused_has_no_plan(tiny_bert):
    with pytest.raises(ConfigError, match=r"data\.max_length=129: the backbone has positions for at most 128 tokens"):
        plan_run(load_config(None, [f"model.backbone={tiny_bert}", "data.max_length=129"]), 1, "fp32")


def test_only_the_configuration_of_a_data_set_that_is_known_is_not_read(monkeypatch):
    source = "data.source=google-research-datasets/go_emotions"
    for name in ("null", "simplified"):
        assert plan_run(load_config(None, [source, f"data.hub_config={name}"]), 1, "fp32").num_rows == 43_410

    def refuse(_):
        raise ConfigError("is read")

    monkeypatch.setattr("emotion.planning.plan.read_dataset", refuse)
    with pytest.raises(ConfigError, match="is read"):  # `raw` has a row for each of several raters
        plan_run(load_config(None, [source, "data.hub_config=raw"]), 1, "fp32")


def test_a_stride_that_would_be_refused_has_no_plan(tiny_bert):
    settings = [f"model.backbone={tiny_bert}", "data.long_texts=segments", "data.max_length=16"]
    with pytest.raises(ConfigError, match=r"data\.stride=14: must be at most 13, so that a segment of 16 tokens begins with new ones"):
        plan_run(load_config(None, [*settings, "data.stride=14"]), 1, "fp32")
    assert plan_run(load_config(None, [*settings, "data.stride=13"]), 1, "fp32").num_rows == 1_300
