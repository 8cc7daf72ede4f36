"""Texts that a model cannot answer for: another script, unknown words, more tokens than it reads. Said for one text, counted for files."""

import json
import shutil

import numpy as np
import pytest

from emotion.config import ModelConfig
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.inference.text_checks import (
    TextChecks,
    build_letter_weights,
    describe_counts,
    describe_text,
    find_foreign,
    find_script,
    find_unknown,
    measure_scripts,
)
from emotion.modeling.baseline import fit_baseline
from tests.conftest import run_script

ENGLISH = {"LATIN": 0.999, "GREEK": 0.001}
RUSSIAN = "мне очень грустно"
SIDECAR = Sidecar(("anger", "joy"), ModelConfig(), 128, "fp32", {}, scripts=ENGLISH)


@pytest.mark.parametrize(
    ("character", "script"),
    [("a", "LATIN"), ("É", "LATIN"), ("ﬁ", "LATIN"), ("ｂ", "LATIN"), ("𝓬", "LATIN"), ("ж", "CYRILLIC"), ("怒", "CJK"), ("の", "HIRAGANA"),
     ("ｱ", "KATAKANA"), ("ー", "KATAKANA"), ("غ", "ARABIC"), ("한", "HANGUL"), ("ª", "LATIN"), ("7", None), (" ", None), ("🙃", None)],
)  # fmt: skip
def test_script_of_a_character(character, script):
    assert find_script(character) == script


def test_scripts_of_training_texts_are_fractions_of_letters():
    assert measure_scripts(["ab 12!", "cж🙃", ""]) == {"LATIN": 0.75, "CYRILLIC": 0.25}
    assert measure_scripts(["a" * 99_999, "ж"]) == {"LATIN": 1.0} and measure_scripts(["12", "🙃"]) == {}


@pytest.mark.parametrize(
    ("scripts", "foreign"),
    [
        (ENGLISH, [RUSSIAN, "αβγ", "ok мне", "我很难过"]),  # a tenth of a percent of Greek letters is decoration
        ({"CYRILLIC": 0.98, "LATIN": 0.02}, ["αβγ", "我很难过"]),
        ({"CYRILLIC": 1.0}, ["I am sad", "αβγ", "我很难过", "naïve café"]),
        ({}, []),
        (None, []),
    ],
    ids=["English", "both", "Russian", "no letters", "not known"],
)
def test_texts_mostly_in_a_script_that_was_not_seen(scripts, foreign):
    texts = ["I am sad", RUSSIAN, "αβγ", "ok мне", "ab вг", "我很难过", "12 🙃!", "naïve café"]
    found = find_foreign(texts, build_letter_weights(scripts))
    assert [text for text, is_foreign in zip(texts, found, strict=True) if is_foreign] == foreign


def test_texts_of_unknown_tokens():
    token_ids = [[2, 1, 1, 1, 3], [2, 1, 1, 9, 3], [2, 1, 9, 3], [2, 3], [2, 9, 9, 3]]
    assert find_unknown(token_ids, 1, 2).tolist() == [True, True, False, False, False]
    assert not find_unknown(token_ids, None, 2).any()


def test_unknown_words_of_the_baseline():
    _, tokenizer = fit_baseline(["so happy today", "so happy here", "a sad day", "a sad day"], np.eye(4, dtype=bool), 64, seed=0)
    texts = ["so happy", "so happy dog", "zq dog xx so", "zq dog", "день", "a sad day"]
    token_ids = tokenizer(texts, max_length=64).input_ids
    assert tokenizer.find_unknown(texts, token_ids).tolist() == [False, False, True, True, True, False]


def test_long_texts_are_found_exactly_and_alike_by_all_backends(tiny_run):
    """A text of exactly `max_length` tokens is not cut."""
    predictor, light = Predictor.load(str(tiny_run)), NumpyPredictor.load(str(tiny_run))
    words = predictor.sidecar.max_length - 2
    texts = ["the " * words, "the " * (words + 1), "the " * 900, "the", RUSSIAN, "☃ ☃ ☃ the"]
    assert predictor.sidecar.scripts["LATIN"] > 0.99
    probabilities, checks = predictor.predict_checked(texts)
    np.testing.assert_array_equal(probabilities, predictor.predict(texts))
    assert checks.is_cut.tolist() == [False, True, True, False, False, False]
    assert checks.is_foreign.tolist() == [False, False, False, False, True, False]
    assert checks.is_unknown.tolist()[5] and not checks.is_unknown[:4].any()
    light_probabilities, light_checks = light.predict_checked(texts)
    np.testing.assert_array_equal(light_probabilities, light.predict(texts))
    for name, values in vars(checks).items():
        np.testing.assert_array_equal(getattr(light_checks, name), values, err_msg=name)
    assert checks.counts == {"cut": 2, "unknown": int(checks.is_unknown.sum()), "foreign": 1}
    assert predictor.predict_checked([])[1].counts == light.predict_checked([])[1].counts == TextChecks.build_empty(0).counts


def test_what_is_said_of_a_text_and_of_a_file():
    yes, no = np.array([True]), np.array([False])
    foreign = "most letters are Cyrillic, which the training texts do not have: the answer means little"
    cut = "longer than 128 tokens: the rest was not read"
    assert describe_text(RUSSIAN, TextChecks(yes, yes, yes), 0, SIDECAR) == [foreign, cut]
    assert describe_text("我很难过", TextChecks(no, no, yes), 0, SIDECAR) == [foreign.replace("Cyrillic", "CJK")]
    mixed = "thank you ありがとう感謝感謝!"  # more Latin letters than of any other script, but fewer than of both others
    checks = TextChecks(no, no, find_foreign([mixed], build_letter_weights(ENGLISH)))
    assert describe_text(mixed, checks, 0, SIDECAR) == [foreign.replace("Cyrillic", "Hiragana")]
    assert describe_text("zq", TextChecks(no, yes, no), 0, SIDECAR) == ["most words are unknown to the model: the answer means little"]
    assert describe_text("ok", TextChecks(no, no, no), 0, SIDECAR) == []
    assert describe_counts({"cut": 3, "unknown": 0, "foreign": 1_000}, 2_000) == [
        "3 of 2,000 texts (0.1%) are longer than the model reads (data.max_length) and were cut",
        "1,000 of 2,000 texts (50.0%) are mostly in a script that the training texts do not have: their answers mean little",
    ]
    assert describe_counts({}, 5) == []


def test_infer_says_it_below_the_answer_and_in_json(tiny_run):
    note = "most letters are Cyrillic, which the training texts do not have: the answer means little"
    result = run_script("infer.py", "--model", str(tiny_run), "--text", RUSSIAN, "--text", "I am sad")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("note: ") == 1 and f"\n  note: {note}\nI am sad\n" in result.stdout
    result = run_script("infer.py", "--model", str(tiny_run), "--json", "--text", RUSSIAN, "--text", "I am sad")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["notes"] == [note] and "notes" not in second


def test_scored_and_judged_files_count_them(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    texts = ["I am sad", RUSSIAN, RUSSIAN, "I am glad. " * 200]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{text},joy\n" for text in texts))
    sentences = [
        "1 of 4 texts (25.0%) are longer than the model reads (data.max_length) and were cut",
        "2 of 4 texts (50.0%) are mostly in a script that the training texts do not have: their answers mean little",
    ]
    scored = run_script("evaluate.py", "--model", str(run), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "b.csv"))
    assert scored.returncode == 0 and all(f"{sentence}\n" in scored.stderr for sentence in sentences), scored.stderr
    judged = run_script("evaluate.py", "--model", str(run), "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out"))
    assert judged.returncode == 0 and all(f"note: {sentence}\n" in judged.stdout for sentence in sentences), judged.stderr
    metrics = json.loads((tmp_path / "out" / "report" / "a" / "metrics.json").read_text())
    assert set(sentences) <= set(metrics["notes"]) and metrics["text_checks"]["cut"] == 1 and metrics["text_checks"]["foreign"] == 2


def test_letters_are_looked_up_in_texts_beyond_ascii_only(monkeypatch):
    """So checking a million English texts takes no longer than a million calls of `isascii`."""
    weights, looked_up = build_letter_weights(ENGLISH), []

    def record(self, character):
        looked_up.append(character)
        return dict.__getitem__(self, character)

    monkeypatch.setattr(type(weights), "__getitem__", record, raising=False)
    assert find_foreign(["I did not expect that to happen today", RUSSIAN], weights).tolist() == [False, True]
    assert looked_up == ["a", *RUSSIAN]  # once, whether Latin letters were seen in training
