"""What is tried before training, and the one line for an architecture that fails."""

import re

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from benchmarks.tiny_checkpoints import make_checkpoint
from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.trial import try_model
from tests.tiny import make_model

LABELS = LabelSet(("anger", "joy", "fear"))


def build(folder, **settings):
    return build_model(ModelConfig(str(folder), **settings), LoraConfig(), LABELS, np.full(3, 0.3))


def test_a_backbone_whose_answers_depend_on_padding_is_refused(tmp_path):
    make_checkpoint("xlnet", tmp_path / "base")
    with pytest.raises(ModelError) as caught:
        build(tmp_path / "base")
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}/base: the answers of \w+ForSequenceClassification to a text change with the padding behind it, "
        "so they would depend on the texts beside it; give another backbone",
        str(caught.value),
    )


def test_a_forward_pass_that_fails_is_one_line(tiny_bert, monkeypatch):
    model, tokenizer = make_model(tiny_bert), AutoTokenizer.from_pretrained(tiny_bert)

    def fail(*_, **__):
        raise ValueError("only\nfor images")

    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(ModelError) as caught:
        try_model(model, tokenizer, "base")
    message = "base: BertForSequenceClassification cannot be trained here (only for images); give another backbone"
    assert str(caught.value) == message


@pytest.mark.parametrize("is_training", [True, False])
def test_the_trial_changes_neither_the_model_nor_the_random_numbers(is_training, tiny_bert):
    model, tokenizer = make_model(tiny_bert), AutoTokenizer.from_pretrained(tiny_bert)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    try_model(model.train(is_training), tokenizer, "base")
    assert torch.equal(torch.rand(4), expected) and model.training == is_training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("model_type", ["vit", "led", "pegasus"])
def test_an_architecture_without_a_head_is_one_line(model_type, tiny_bert, tmp_path):
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        build(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: transformers has no sequence-classification head for {model_type!r}; give a backbone that has one: "
        "docs/models.md lists them"
    )


def test_canine_has_no_word_embedding_and_is_trained(tmp_path):
    make_checkpoint("canine", tmp_path / "base")
    model, tokenizer = build(tmp_path / "base")
    assert type(model).__name__ == "CanineForSequenceClassification" and tokenizer("ab").input_ids[1:-1] == [97, 98]


def test_the_refused_are_known_to_transformers():
    """So that the tests above are of what this version of transformers does."""
    assert {"vit", "led", "pegasus"} <= set(AutoModel._model_mapping._model_mapping)
