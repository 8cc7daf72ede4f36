"""A word's contribution is how much the logit falls without it."""

import json
import re

import numpy as np
import pytest

from emotion.inference.answers import scale_contributions
from emotion.inference.explanation import MAX_WORDS, explain
from emotion.inference.predictor import Predictor
from tests.conftest import run_script


class WordCounter(Predictor):
    """A model whose logits count words, so that each contribution is known."""

    def __init__(self):
        pass

    def split(self, text):
        return []

    def predict_logits(self, texts, description=None, is_alone=False, is_padded=False):
        return np.array([[2.0 * text.count("happy") - text.count("not"), float(len(text) == 0)] for text in texts])


def test_contributions_of_a_known_model():
    explanation = explain(WordCounter(), "I'm happy, happy - not sad.")
    assert explanation.words == ["I'm", "happy", ",", "happy", "-", "not", "sad", "."]
    assert explanation.contributions[:, 0].tolist() == [0, 2, 0, 2, 0, -1, 0, 0]


def test_characters_are_the_words_of_scripts_without_blanks():
    class CharacterCounter(WordCounter):
        def predict_logits(self, texts, description=None, is_alone=False, is_padded=False):
            return np.array([[2.0 * text.count("高")] for text in texts])

    explanation = explain(CharacterCounter(), "我很高兴")
    assert explanation.words == ["我", "很", "高", "兴"] and explanation.contributions[:, 0].tolist() == [0, 0, 2, 0]


def test_words_of_a_long_text_are_limited():
    explanation = explain(WordCounter(), "happy " * (MAX_WORDS + 1))
    assert len(explanation.words) == MAX_WORDS and explanation.contributions.shape == (MAX_WORDS, 2)
    assert explanation.limit == f"The first {MAX_WORDS} words were tried."
    assert explain(WordCounter(), "happy " * MAX_WORDS).limit == ""


def test_infer_explains_on_a_terminal_and_in_json(tiny_run):
    arguments = ["infer.py", "--model", str(tiny_run), "--explain", "--threshold", "0.03", "--text", "I love it, thanks"]
    answer = json.loads(run_script(*arguments, "--json").stdout)
    assert list(answer["contributions"]) == answer["labels"] and len(answer["labels"]) > 0
    predictor = Predictor.load(str(tiny_run))
    label = answer["labels"][0]
    column = predictor.label_set.columns[label]
    whole, without = predictor.predict_logits(["I love it, thanks", "I  it, thanks"])[:, column]
    assert [word for word, _ in answer["contributions"][label]] == ["I", "love", "it", ",", "thanks"]
    assert answer["contributions"][label][1][1] == pytest.approx(whole - without, abs=2e-3)
    printed = run_script("infer.py", "--model", "models/goemotions-minilm", "--explain", "--text", "I love it, thanks").stdout
    assert re.search(r"gratitude .* thanks\[\+\d+\.\d\]", printed)


def test_what_is_shown_as_zero_is_not_highlighted():
    assert scale_contributions(np.array([5.0, 0.4, -1.0, 0.0, -0.5])) == [1.0, 0.0, -0.2, 0.0, -0.1]
    assert scale_contributions(np.array([0.04, -0.049])) == [0.0, 0.0] and scale_contributions(np.array([])) == []
