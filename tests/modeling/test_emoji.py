"""Emoji that a tokenizer does not know become tokens: read as such by every backend, also at the end of a word; nothing else changes."""

import re

import numpy as np
import pytest
import torch

from emotion.config import LoraConfig, ModelConfig, load_config
from emotion.errors import ConfigError
from emotion.evaluation.decision import default_rule
from emotion.export.onnx_export import export_onnx
from emotion.export.verification import MAX_LOGIT_DIFFERENCE
from emotion.inference.loading import load_predictor
from emotion.inference.model_folder import save_model
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.emoji import list_emoji

LABELS = LabelSet(("anger", "joy", "fear"))
TEXTS = ["so good🙀🙀", "my desk 😡❤️", "no sign", "😮‍💨", "👍", "👍🏿", "👍🏻", "🤷‍♀️ why", "🤷‍♂️ why"]


def build(backbone, emoji_tokens):
    torch.manual_seed(0)
    settings = ModelConfig(str(backbone), emoji_tokens=emoji_tokens)
    return settings, *build_model(settings, LoraConfig(), LABELS, np.full(3, 0.3))


def test_names_are_words_of_unicode():
    emoji = list_emoji()
    assert 1_500 < len(emoji) < 3_000 and {"😂": "tears joy", "❤": "heavy black heart", "🤔": "thinking"}.items() <= emoji.items()
    assert all(len(character) == 1 and words for character, words in emoji.items())
    assert not {"🏿", "♀", "♂", "a", "™"} & emoji.keys()


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_an_emoji_becomes_a_token_that_starts_at_the_mean_of_its_words(tiny_backbones, family):
    _, plain, before = build(tiny_backbones[family], False)
    _, model, tokenizer = build(tiny_backbones[family], True)
    assert before.tokenize("so good🙀") == ["so", "[UNK]"]  # the word is lost, too
    assert tokenizer.tokenize("so good🙀") == ["so", "good", "🙀"] and tokenizer.tokenize("no sign.") == before.tokenize("no sign.")
    old, new = plain.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert len(new) == len(tokenizer) == model.config.vocab_size and torch.equal(new[: len(old)], old)
    words = before("weary cat", add_special_tokens=False).input_ids
    torch.testing.assert_close(new[tokenizer.convert_tokens_to_ids("🙀")], old[words].mean(dim=0))
    inputs = [tokens(["no sign.", "what is it"], padding=True, return_tensors="pt") for tokens in (before, tokenizer)]
    torch.testing.assert_close(model.eval()(**inputs[1]).logits, plain.eval()(**inputs[0]).logits)


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_tokenizer_that_knows_all_bytes_gets_no_tokens(tiny_backbones, family):
    assert len(build(tiny_backbones[family], True)[2]) == len(build(tiny_backbones[family], False)[2])


def test_a_saved_model_reads_emoji_with_every_backend(tiny_bert, tmp_path):
    settings, model, tokenizer = build(tiny_bert, True)
    folder = tmp_path / "model"
    save_model(folder, model, tokenizer, default_rule(3), Sidecar(LABELS.names, settings, 64, "fp32", {}), "card")
    export_onnx(load_predictor(str(folder), "torch"), str(folder), False, TEXTS, np.ones((len(TEXTS), 3), dtype=bool))
    answers = {backend: load_predictor(str(folder), backend).predict(TEXTS) for backend in ("torch", "numpy", "onnx")}
    with torch.no_grad():
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        expected = model.eval()(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits.sigmoid().numpy()
    for answer in answers.values():  # the slope of the sigmoid is at most 1/4
        np.testing.assert_allclose(answer, expected, atol=MAX_LOGIT_DIFFERENCE["fp32"] / 4)
    ids = dict(zip(TEXTS, inputs.input_ids.tolist(), strict=True))
    assert ids["👍🏿"] == ids["👍🏻"] and ids["🤷‍♀️ why"] == ids["🤷‍♂️ why"]  # no answer depends on the tone of a skin


def test_emoji_tokens_are_refused_with_adapters():
    message = "model.emoji_tokens=true with lora.r=8: adapters hold no new embeddings; set model.emoji_tokens=false or lora.r=0"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, ["model.emoji_tokens=true", "lora.r=8"])
