"""Tokenizers that transformers has in Python only, such as BERTweet's: the model works with torch, and elsewhere one line says why not."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, BertweetTokenizer

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import default_rule
from emotion.export.onnx_export import export_onnx
from emotion.inference.loading import load_predictor
from emotion.inference.model_folder import save_model
from emotion.inference.onnx_predictor import OnnxPredictor
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.inference.torch_free import load_tokenizer
from emotion.labels import LabelSet
from emotion.modeling.build import build_model

LABELS = LabelSet(("anger", "joy", "fear"))
TEXTS = ["ok", "an end </s> and more words behind it", "so happy"]


@pytest.fixture(scope="module")
def bertweet(tmp_path_factory):
    """A model folder of a tiny RoBERTa with BERTweet's tokenizer."""
    folder = tmp_path_factory.mktemp("bertweet")
    letters = "abcdefghijklmnopqrstuvwxyz</>"
    pieces = [piece for letter in letters for piece in (letter, f"{letter}@@")]
    (folder / "vocab.txt").write_text("".join(f"{piece} 1\n" for piece in pieces))
    (folder / "bpe.codes").write_text("o k 1\n")
    tokenizer = BertweetTokenizer(str(folder / "vocab.txt"), str(folder / "bpe.codes"))
    tokenizer.save_pretrained(folder / "base")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 66}
    config = AutoConfig.for_model("roberta", vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, eos_token_id=2, **sizes)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder / "base")
    settings = ModelConfig(str(folder / "base"))
    model, tokenizer = build_model(settings, LoraConfig(), LABELS, np.full(3, 0.3))
    save_model(folder / "model", model, tokenizer, default_rule(3), Sidecar(LABELS.names, settings, 64, "fp32", {}), "card")
    return folder / "model"


def test_a_model_with_a_tokenizer_in_python_predicts_with_torch(bertweet):
    predictor = load_predictor(str(bertweet), "auto", is_brief=True)
    probabilities, checks = predictor.predict_checked(TEXTS)
    assert isinstance(predictor, Predictor) and probabilities.shape == (3, 3) and not checks.is_cut.any()
    np.testing.assert_allclose(predictor.predict(TEXTS[1:2]), probabilities[1:2], atol=1e-6)
    tokenizer = predictor.tokenizer
    assert [tokenizer(text).input_ids.count(tokenizer.eos_token_id) for text in TEXTS] == [1, 1, 1]


def test_onnx_says_that_the_tokenizer_is_in_python(bertweet):
    message = (
        f"{bertweet}: has no tokenizer.json, which ONNX and numpy need: transformers has its tokenizer in Python only, as those of "
        "BERTweet and Japanese BERT, or the file is lost; use the model with torch"
    )
    predictor = Predictor.load(str(bertweet))
    for call in (
        lambda: export_onnx(predictor, str(bertweet), False, TEXTS, np.eye(3, dtype=bool)),
        lambda: load_tokenizer(bertweet, predictor.sidecar),
    ):
        with pytest.raises(ModelError) as caught:
            call()
        assert str(caught.value) == message
    assert not (bertweet / "onnx").exists()


def test_an_exported_model_that_lost_its_tokenizer_is_not_told_to_be_exported_again(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    predictor = Predictor.load(str(run))
    export_onnx(predictor, str(run), False, TEXTS, np.ones((3, len(predictor.label_set)), dtype=bool))
    (run / "model" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json, which ONNX and numpy need"):
        OnnxPredictor.load(str(run))
