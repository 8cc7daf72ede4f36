"""The baseline computes what scikit-learn computes, and its runs have the files of all other runs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from emotion.config import load_config
from emotion.data.batching import batch_by_length, tokenize
from emotion.data.reading import read_dataset
from emotion.errors import ConfigError, DataError, ModelError
from emotion.export.onnx_export import export_onnx
from emotion.export.verification import verify_model
from emotion.inference.predictor import Predictor
from emotion.modeling.baseline import INVERSE_REGULARIZATION, fit_baseline, list_ngrams
from emotion.modeling.prediction import predict_logits
from emotion.words import COUNTED_WORD
from tests.conftest import run_script

DATA = load_config(None).data


def test_ngrams_are_words_and_signs_then_pairs_without_repetition():
    assert list_ngrams("So so GOOD!") == ["so", "good", "!", "so so", "so good", "good !"]


def test_each_label_is_fitted_to_the_rows_in_which_it_was_annotated():
    train = read_dataset(DATA)["train"]
    labels, is_judged = train.labels[:, :2].copy(), np.ones((len(train), 2), dtype=bool)
    is_judged[::2, 1] = False
    model, tokenizer = fit_baseline(train.texts, labels & is_judged, 512, seed=0, is_judged=is_judged)
    whole, _ = fit_baseline(train.texts, labels, 512, seed=0)
    noise = labels.copy()
    noise[::2, 1] = ~labels[::2, 1]  # what stands where nobody judged has no influence
    again, _ = fit_baseline(train.texts, noise, 512, seed=0, is_judged=is_judged)
    weights = model.head.weight.detach()
    assert torch.equal(weights, again.head.weight.detach()) and len(tokenizer.ngrams) > 100
    assert torch.equal(weights[0], whole.head.weight[0]) and not torch.equal(weights[1], whole.head.weight[1])


def test_fractions_count_as_weighted_positives_and_negatives():
    train = read_dataset(DATA)["train"]
    labels = train.labels[:300, :2]
    texts, dissenting = train.texts[:300], np.where(np.arange(300) % 3 == 0, ~labels[:, 1], labels[:, 1])
    targets = np.column_stack([labels[:, 0], (labels[:, 1].astype(np.float32) + dissenting) / 2])
    model, _ = fit_baseline(texts, targets, 512, seed=0)
    hard, tokenizer = fit_baseline(texts, labels, 512, seed=0)
    weights, of_labels = model.head.weight.detach(), hard.head.weight.detach()
    assert torch.equal(weights[0], of_labels[0]) and not torch.allclose(weights[1], of_labels[1], atol=0.1)  # targets of 0 and 1 are labels
    # Two raters are two rows with half the weight, so half of C.
    vectorizer = TfidfVectorizer(token_pattern=COUNTED_WORD.pattern, ngram_range=(1, 2), min_df=2, binary=True)
    features = vectorizer.fit_transform(texts)
    twice, votes = vstack([features, features]), np.concatenate([labels[:, 1], dissenting])
    expected = LogisticRegression(C=INVERSE_REGULARIZATION / 2, solver="liblinear", random_state=0).fit(twice, votes)
    logits = predict_logits(model, batch_by_length(tokenize(tokenizer, texts, 512), 16), len(texts), torch.device("cpu"))
    np.testing.assert_allclose(logits[:, 1], expected.decision_function(features), atol=0.02)


def test_logits_equal_those_of_scikit_learn():
    train, test = (read_dataset(DATA)[split] for split in ("train", "test"))
    labels = train.labels[:, :3].copy()
    labels[:, 2] = False  # a label without positives
    model, tokenizer = fit_baseline(train.texts, labels, 512, seed=0)
    texts = [*test.texts[:50], "zzzz"]  # the last has no known n-gram
    logits = predict_logits(model, batch_by_length(tokenize(tokenizer, texts, 512), 16), len(texts), torch.device("cpu"))
    vectorizer = TfidfVectorizer(token_pattern=COUNTED_WORD.pattern, ngram_range=(1, 2), min_df=2, binary=True)
    features = vectorizer.fit_transform(train.texts)
    for label in range(2):
        fitted = LogisticRegression(C=INVERSE_REGULARIZATION, solver="liblinear", random_state=0).fit(features, labels[:, label])
        np.testing.assert_allclose(logits[:, label], fitted.decision_function(vectorizer.transform(texts)), atol=2e-3)
    np.testing.assert_allclose(logits[:, 2], np.log(0.001 / 1.001), rtol=1e-6)


def test_texts_without_blanks_are_counted_by_characters():
    texts, labels = ["我很高兴", "他真高兴", "我很难过", "她太难过了"], np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    model, tokenizer = fit_baseline(texts, labels, 64, seed=0)
    assert {"高", "兴", "高 兴", "难 过"} <= set(tokenizer.ngrams) and "我很高兴" not in tokenizer.ngrams
    ids = tokenizer(["你高兴吗"], 64).input_ids
    logits = model(torch.tensor(ids), torch.ones(1, len(ids[0]))).logits[0]
    assert logits[0] > logits[1]
    assert tokenizer.find_unknown(["天地玄黄高", "高兴"], tokenizer(["天地玄黄高", "高兴"], 64).input_ids).tolist() == [True, False]


def test_texts_without_a_common_word_are_refused():
    with pytest.raises(DataError, match="no word occurs in 2 of the 3 training texts"):
        fit_baseline(["one", "two", "three"], np.eye(3, dtype=bool), 512, seed=0)


@pytest.mark.slow
def test_a_run_of_the_baseline_has_all_files_of_a_run(tmp_path):
    result = run_script("train.py", "--config", "configs/tfidf.yaml", "data.source=sample", f"run.folder={tmp_path}", "run.name=run")
    assert result.returncode == 0, result.stderr
    run = tmp_path / "run"
    files = {path.name for path in (run / "model").iterdir()}
    assert files == {"README.md", "emotion.json", "model.safetensors", "vocabulary.json"}  # no pickle
    result = run_script("evaluate.py", "--model", str(run), "--split", "test")
    assert result.returncode == 0, result.stderr
    scores = json.loads((run / "report" / "test" / "metrics.json").read_text())["at_decision_rule"]
    labels = read_dataset(DATA)["test"].labels
    assert scores["macro_f1"] > 2 * labels.mean()  # random guesses at the base rate score about that
    speed = json.loads((run / "report" / "test" / "speed.json").read_text())
    assert speed["texts"] == 400 and speed["texts_per_second"] > 0 and speed["milliseconds_per_text"] > 0
    trained = pd.read_parquet(run / "predictions" / "validation.parquet").iloc[:, 29:].to_numpy()
    predictor, validation = Predictor.load(str(run)), read_dataset(DATA)["validation"]
    np.testing.assert_allclose(predictor.predict(validation.texts), trained, atol=1e-5)
    agreements = verify_model(predictor, str(run), validation.texts, validation.labels, trained, None)
    assert len(agreements) == 3 and all(agreement.is_within for agreement in agreements)
    with pytest.raises(ModelError, match="has no ONNX export"):
        export_onnx(predictor, str(run), False, validation.texts, validation.labels)
    efficiency = json.loads((run / "efficiency.json").read_text())
    assert "padding_share" not in efficiency  # it has no tokens
    assert efficiency["parameters"] == efficiency["trainable_parameters"] > 28 * 1_000 and efficiency["examples_seen"] == 1_300


def test_adapters_on_the_baseline_are_refused():
    with pytest.raises(ConfigError, match=r"set lora\.r=0"):
        load_config(None, ["model.backbone=tfidf", "lora.r=4"])
