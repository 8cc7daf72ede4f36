"""The plan that `train.py --dry-run` prints."""

import numpy as np
import pytest

from emotion.config import Config, TrainingConfig, load_config
from emotion.data.reading import read_dataset
from emotion.errors import ConfigError
from emotion.planning.memory import Footprint
from emotion.planning.plan import Plan, format_plan, plan_run


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


def test_a_plan_counts_rows_and_parameters_of_the_bundled_data_and_model():
    config = load_config(None)
    plan = plan_run(config, 1, "fp32")
    assert plan.num_rows == len(read_dataset(config.data)["train"].texts) == 1_300
    assert plan.footprint.num_parameters == plan.footprint.num_trainable == 22_713_216 + 28 * 385
    assert plan.lengths.shape == (1_300,) and plan.largest_batch == (32, plan.lengths.max())
    assert "loading" not in format_plan(plan)


def test_a_plan_has_the_number_of_automatic_epochs():
    plan = plan_run(load_config(None, ["training.epochs=auto"]), 1, "fp32")
    assert plan.config.training.epochs == 8 and plan.num_steps == 8 * 41
    assert f"steps       {8 * 41} in 8 epochs, 32 rows each" in format_plan(plan)


def test_a_sharded_plan_names_its_shards_and_the_memory_for_loading():
    text = format_plan(plan_run(load_config(None), 2, "fp32", num_shards=2))
    assert "this is one of 2 shards" in text and "in the main memory of each process, before they are sharded" in text


def test_the_baseline_has_no_plan():
    with pytest.raises(ConfigError, match="has no training steps to plan"):
        plan_run(load_config(None, ["model.backbone=tfidf"]), 1, "fp32")
