"""How many tokens a backbone has positions for, as its modules say."""

import numpy as np
import pytest
import torch

from benchmarks.tiny_checkpoints import NUM_POSITIONS, make_checkpoint
from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ConfigError
from emotion.labels import LabelSet
from emotion.modeling.build import build_model, check_length
from emotion.modeling.limits import count_model_positions, count_positions

LABELS = LabelSet(("anger", "joy", "fear"))
LIMITS = {
    **dict.fromkeys(("bert", "gpt2", "opt", "bart"), NUM_POSITIONS),
    **dict.fromkeys(("roberta", "camembert", "mpnet", "longformer", "ibert"), NUM_POSITIONS - 2),  # behind the pad token's index, 1
}


def build(model_type, folder):
    make_checkpoint(model_type, folder / "base")
    return build_model(ModelConfig(str(folder / "base")), LoraConfig(), LABELS, np.full(3, 0.3))[0].eval()


@pytest.mark.parametrize(("model_type", "limit"), LIMITS.items())
def test_a_text_may_have_as_many_tokens_as_there_are_positions(model_type, limit, tmp_path):
    model = build(model_type, tmp_path)
    assert count_model_positions(model) == limit
    check_length(model, limit)
    with pytest.raises(
        ConfigError, match=rf"^data\.max_length={limit + 1}: the backbone has positions for at most {limit} tokens; lower it$"
    ):
        check_length(model, limit + 1)
    ids = torch.full((1, limit), 7)
    ids[0, -1] = model.config.eos_token_id or 7  # where BART reads its answer
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.isfinite().all()


@pytest.mark.parametrize("model_type", ["t5", "bloom"])
def test_relative_positions_have_no_limit(model_type, tmp_path):
    model = build(model_type, tmp_path)
    assert count_model_positions(model) is None
    check_length(model, 100_000)


def test_a_config_that_says_less_than_one_says_nothing():
    assert [count_positions(value, "xlnet") for value in (None, -1, 0, 5)] == [None, None, None, 5]
