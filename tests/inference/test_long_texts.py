"""Texts in segments: each backend reads the whole text, and nothing changes for a text that fits."""

import hashlib
import json
import shutil
import signal
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tqdm import tqdm
from transformers import AutoTokenizer, BertweetTokenizer

from emotion.config import DataConfig
from emotion.data.batching import tokenize
from emotion.data.segments import Segment, split_text
from emotion.errors import ConfigError, ModelError
from emotion.evaluation.combination import combine_logits
from emotion.export.serving import check_serving
from emotion.export.verification import verify_model
from emotion.inference import predictor as torch_predictor
from emotion.inference.explanation import MAX_SEQUENCES, MAX_WORDS, explain
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Segments, read_sidecar
from emotion.inference.text_checks import TextChecks, describe_counts, describe_text
from emotion.scoring.manifest import ScoringJob, describe_job
from tests.conftest import run_script
from tests.runs import assert_same_run, kill_when, train_arguments

MAX_LENGTH, STRIDE = 16, 4
SCALE, ROUNDING = np.float32(300), 1e-4
"""The tiny model answers almost the same to all texts: its head is multiplied, so that texts differ by more than rounding errors."""
VOCABULARY = ["thanks", "love", "sad", "day", "happy", "the", "and", "a", "very", "not", "i", "so", "you", "was"]
WORDS = np.random.default_rng(0).choice(VOCABULARY, 300).tolist()
LONG = [" ".join(WORDS[:100]), " ".join(WORDS[5:60])]
SHORT = ["I love it", "so sad", "the"]


def copy_model(run, folder, combination="mean", max_length=MAX_LENGTH, **segments):
    """Copy a run's model, with another `max_length`; it splits long texts if a combination is given."""
    shutil.copytree(run / "model", folder)
    values = json.loads((folder / "emotion.json").read_text()) | {"max_length": max_length}
    if combination is not None:
        values |= {"format_version": 2, "segments": {"stride": STRIDE, "combination": combination} | segments}
    (folder / "emotion.json").write_text(json.dumps(values))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] *= SCALE
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


@pytest.fixture(scope="module")
def models(tiny_run, tmp_path_factory):
    """The model folder of the tiny run in three variants."""
    folder = tmp_path_factory.mktemp("models")
    return {name: copy_model(tiny_run, folder / str(name), name) for name in (None, "mean", "max")}


@pytest.mark.parametrize(("num_tokens", "expected"), [(1, 1), (14, 1), (15, 2), (24, 2), (25, 3), (34, 3), (35, 4)])
def test_segments_cover_a_text_and_overlap(num_tokens, expected, tiny_bert):
    """Of 16 tokens, two are special; the other 14 begin with the last 4 of the segment before."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = " ".join(WORDS[:num_tokens])
    content = tokenizer(text, add_special_tokens=False).input_ids
    assert len(content) == num_tokens
    tokens = tokenize(tokenizer, [text, "the"], MAX_LENGTH, stride=STRIDE)
    segments = tokens.token_ids[:-1]
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert segments == [[first, *content[start : start + 14], last] for start in range(0, 10 * expected, 10)]
    assert tokens.starts.tolist() == [0, expected] and tokens.num_segments.tolist() == [expected, 1] and tokens.num_texts == 2
    assert tokens.num_ending.tolist() == [0] * (expected - 1) + [1, 1]
    assert segments[0] == tokenize(tokenizer, [text], MAX_LENGTH).token_ids[0]


def test_a_tokenizer_in_python_splits_alike(tmp_path):
    pieces = [piece for letter in "abcdefghij" for piece in (letter, f"{letter}@@")]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece} 1\n" for piece in pieces))
    (tmp_path / "bpe.codes").write_text("o k 1\n")
    tokenizer = BertweetTokenizer(str(tmp_path / "vocab.txt"), str(tmp_path / "bpe.codes"))
    text = " ".join("abcdefghij" * 4)
    content = tokenizer(text, add_special_tokens=False).input_ids
    segments = [segment.token_ids for segment in split_text(tokenizer, text, MAX_LENGTH, STRIDE)]
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert len(content) == 40 and not tokenizer.is_fast
    assert segments == [[first, *content[start : start + 14], last] for start in (0, 10, 20, 30)]
    assert segments[0] == tokenizer(text, truncation=True, max_length=MAX_LENGTH).input_ids


def test_combined_logits_by_hand():
    logits = np.array([[1, -1], [2, -5], [6, 0], [0.1, 0.7]], dtype=np.float32)
    starts = np.array([0, 3])
    np.testing.assert_array_equal(combine_logits(logits, starts, "mean"), np.array([[3, -2], [0.1, 0.7]], dtype=np.float32))
    np.testing.assert_array_equal(combine_logits(logits, starts, "max"), np.array([[6, 0], [0.1, 0.7]], dtype=np.float32))
    for combination in ("mean", "max"):
        assert combine_logits(logits, None, combination) is logits
        assert combine_logits(logits[:0], np.zeros(0, dtype=np.int64), combination).shape == (0, 2)


@pytest.mark.parametrize("backend", [Predictor, NumpyPredictor])
@pytest.mark.parametrize("combination", ["mean", "max"])
def test_predicted_from_all_segments(models, backend, combination):
    cut, whole = backend.load(models[None]), backend.load(models[combination])
    assert (cut.predict(SHORT) == whole.predict(SHORT)).all()  # bit by bit
    texts = [LONG[0], *SHORT, LONG[1]]
    logits = whole.predict_logits(texts)
    np.testing.assert_allclose(logits[1:4], cut.predict_logits(SHORT), atol=ROUNDING)  # neighbors do not matter
    for row, text in ((0, LONG[0]), (4, LONG[1])):
        sequences = [segment.token_ids for segment in whole.split(text)]
        assert len(sequences) > 3
        expected = getattr(whole.predict_sequences(sequences), combination)(axis=0)
        np.testing.assert_allclose(logits[row], expected, atol=ROUNDING)
        assert np.abs(expected - cut.predict_logits([text])[0]).max() > 50 * ROUNDING
    probabilities, checks = whole.predict_checked(texts)
    np.testing.assert_array_equal(probabilities, whole.predict(texts))
    num_segments = [len(whole.split(text)) or 1 for text in texts]
    assert checks.num_segments.tolist() == num_segments and not checks.is_cut.any()
    assert checks.counts == {"cut": 0, "unknown": 0, "foreign": 0, "split": 2, "segments": num_segments[0] + num_segments[4]}
    assert checks.count(np.array([1, 4])) == {"cut": 0, "unknown": 0, "foreign": 0, "split": 1, "segments": num_segments[4]}
    assert whole.predict_checked([])[1].counts == {"cut": 0, "unknown": 0, "foreign": 0, "split": 0, "segments": 0}


def test_backends_agree(models):
    by_torch, by_numpy = Predictor.load(models["max"]), NumpyPredictor.load(models["max"])
    np.testing.assert_allclose(by_numpy.predict_logits(LONG), by_torch.predict_logits(LONG), atol=ROUNDING)
    np.testing.assert_allclose(by_torch.predict_logits(LONG, is_alone=True), by_torch.predict_logits(LONG), atol=ROUNDING)
    for text in (*LONG, "the"):
        assert by_numpy.split(text) == by_torch.split(text)


def test_a_text_of_many_pages_is_predicted_in_bounded_batches(models, monkeypatch):
    predictor, sizes, updates = Predictor.load(models["mean"]), [], []
    predictor.model.register_forward_pre_hook(lambda _, __, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True)

    class Progress(tqdm):
        def update(self, number=1):
            updates.append(number)

    monkeypatch.setattr(torch_predictor, "tqdm", Progress)
    predictor.predict([" ".join(WORDS * 20), "the"])
    assert len(sizes) > 10 and max(sizes) <= torch_predictor.BATCH_TOKENS["cpu"]
    assert sum(updates) == 2 and len(updates) == len(sizes)  # texts, not segments


def test_most_tokens_of_a_text_are_unknown(models):
    texts = ["☃ " * 60 + "the " * 30, "☃ " * 30 + "the " * 60]
    for backend in (Predictor, NumpyPredictor):
        _, checks = backend.load(models["mean"]).predict_checked(texts)
        assert checks.is_unknown.tolist() == [True, False]


def test_what_is_said(models):
    predictor = Predictor.load(models["mean"])
    _, checks = predictor.predict_checked([LONG[0], "the"])
    assert describe_text(LONG[0], checks, 0, predictor.sidecar) == ["longer than 16 tokens: read in 10 segments"]
    assert describe_text("the", checks, 1, predictor.sidecar) == []
    assert TextChecks.concatenate([checks, checks]).num_segments.tolist() == [10, 1, 10, 1]
    _, cut = Predictor.load(models[None]).predict_checked([LONG[0]])
    assert TextChecks.concatenate([cut, cut]).num_segments is None
    sentence = "1 of 2 texts (50.0%) are longer than data.max_length and were split into 10 segments"
    assert describe_counts(checks.counts, 2) == [sentence]


def test_the_format_rises_with_segments_only(models):
    for name, version in ((None, 1), ("max", 2)):
        sidecar, _ = read_sidecar(models[name])
        assert sidecar.format_version == version and sidecar.stride == (STRIDE if name else None)
    assert sidecar.segments == Segments(STRIDE, "max")


@pytest.mark.parametrize(
    ("segments", "fault"),
    [
        ({"stride": -1}, "segments.stride=-1: must be an integer of at least 0"),
        ({"combination": "sum"}, "segments.combination='sum': must be mean or max"),
        ({"stride": 14}, "segments.stride=14: must be at most 13, so that a segment of 16 tokens begins with new ones"),
    ],
)
@pytest.mark.parametrize("backend", [Predictor, NumpyPredictor])
def test_a_damaged_sidecar_is_one_line(tiny_run, tmp_path, segments, fault, backend):
    folder = copy_model(tiny_run, tmp_path / "model", **segments)
    with pytest.raises(ModelError) as caught:
        backend.load(folder)
    separator = ": " if segments.get("stride") == 14 else "/"
    assert str(caught.value) == f"{folder}{separator}emotion.json: {fault}; restore the file or save the model again"


def test_a_stride_that_fills_a_segment_is_refused(tiny_bert):
    with pytest.raises(ConfigError) as caught:
        tokenize(AutoTokenizer.from_pretrained(tiny_bert), ["the"], 16, stride=14)
    assert str(caught.value) == "data.stride=14: must be at most 13, so that a segment of 16 tokens begins with new ones; lower it"


def test_a_scoring_job_knows_the_setting_and_jobs_of_earlier_versions_stay(models, tmp_path):
    (tmp_path / "a.csv").write_text("text\nok\n")
    job = ScoringJob((tmp_path / "a.csv",), tmp_path / "b.csv", DataConfig())
    described = {}
    for name, folder in models.items():
        predictor = NumpyPredictor.load(folder)
        described[name] = describe_job(predictor, predictor.rule, job)["model and rule"]
        if name is None:  # as before there were segments
            sidecar = {key: value for key, value in asdict(predictor.sidecar).items() if key not in ("scripts", "segments")}
            earlier = json.dumps([sidecar, predictor.rule.to_dict(), "numpy"], sort_keys=True)
            assert described[None] == hashlib.sha256(earlier.encode()).hexdigest()[:16]
    assert len({*described.values()}) == 3


@pytest.mark.parametrize("backend", [Predictor, NumpyPredictor])
@pytest.mark.parametrize("combination", ["mean", "max"])
def test_words_of_the_whole_text_are_explained(models, backend, combination):
    """Leaving a word out changes the segments that contain it: worked out here for one word of two segments."""
    predictor, text = backend.load(models[combination]), LONG[1]
    explanation = explain(predictor, text)
    words, segments = text.split(), predictor.split(text)
    assert explanation.words == words and explanation.group_size == 1 and explanation.contributions.shape == (len(words), 28)
    before = [segment.token_ids for segment in segments]
    number = 12  # tokens 10 to 13 of the text are in the first two segments
    after = [list(ids) for ids in before]
    del after[0][1 + number], after[1][1 + number - 10]
    assert before[0][1 + number] == before[1][1 + number - 10]
    expected, without = (getattr(predictor.predict_sequences(ids), combination)(axis=0) for ids in (before, after))
    np.testing.assert_allclose(explanation.contributions[number], expected - without, atol=ROUNDING)
    assert np.abs(expected - without).max() > 10 * ROUNDING
    assert np.abs(explanation.contributions[-5:]).max() > 10 * ROUNDING or combination == "max"  # also of the last segment
    short = explain(backend.load(models[None]), SHORT[0])
    np.testing.assert_array_equal(explain(predictor, SHORT[0]).contributions, short.contributions)


def test_the_cost_of_an_explanation_is_bounded(models, monkeypatch):
    predictor, counts = Predictor.load(models["mean"]), []
    predict = Predictor.predict_sequences
    monkeypatch.setattr(Predictor, "predict_sequences", lambda self, ids: counts.append(len(ids)) or predict(self, ids))
    text = " ".join(WORDS * 7)  # 2,100 words, 210 segments
    explanation = explain(predictor, text)
    assert explanation.group_size == 5 and len(explanation.spans) == 420 <= MAX_WORDS
    assert explanation.spans[0][0] == 0 and explanation.spans[-1][1] == len(text)
    assert counts[0] <= len(predictor.split(text)) + 4 * MAX_WORDS
    one_word = explain(predictor, "x" * 200)
    assert one_word.contributions.shape == (1, 28) and np.isfinite(one_word.contributions).all()
    monkeypatch.setattr(Predictor, "split", lambda self, text: [Segment([1], [])] * 1_000)  # of a tokenizer in Python
    assert len(explain(predictor, " ".join(WORDS[:20])).spans) == MAX_SEQUENCES // 1_000


def test_verification_compares_transformers_on_texts_that_fit(models):
    texts = [*SHORT, *LONG]
    labels = np.zeros((len(texts), 28), dtype=bool)
    agreements = verify_model(Predictor.load(models["mean"]), models["mean"], texts, labels, None, None)
    assert {row.variant: row.num_rows for row in agreements} == {
        "one text at a time": 5,
        "padded to 16 tokens": 5,
        "plain transformers model": 3,
    }
    assert all(row.is_within for row in agreements)


def test_other_servers_do_not_split(models):
    remedy = "send segments of 16 tokens that share 4, and take the max of their logits; or this project"
    report = check_serving(models["max"])
    found = [remark.server for remark in report.remarks if remark.remedy == remedy]
    assert report.is_ok and len(found) == len({*found}) == len(report.runs) == 5
    assert not any("does not split" in remark.problem for remark in check_serving(models[None]).remarks)


def test_a_run_in_segments_from_training_to_answers(tiny_bert, small_data, tmp_path):
    settings = [f"data.source={small_data}", "training.epochs=2", "data.max_length=10", "data.long_texts=segments", "tracking.backend=none"]
    result = run_script(*train_arguments(tiny_bert, tmp_path, "a", *settings))
    assert result.returncode == 0, result.stderr
    printed = " ".join((result.stdout + result.stderr).split())
    assert "are longer than the model reads (data.max_length) and were cut" in printed  # the training texts
    assert "are longer than data.max_length and were split into" in printed
    assert "validation: segments are combined by the" in printed and "validation rows have several segments, macro_f1_tuned is" in printed
    values = json.loads((tmp_path / "a" / "model" / "emotion.json").read_text())
    assert values["format_version"] == 2 and values["segments"]["stride"] == 2 and values["max_length"] == 10
    tried = {name: values["validation"][f"macro_f1_tuned_{name}_of_segments"] for name in ("mean", "max")}
    assert tried[values["segments"]["combination"]] == max(tried.values()) == values["validation"]["macro_f1_tuned"]
    card = (tmp_path / "a" / "model" / "README.md").read_text()
    note = "This project predicts a text of more than 10 tokens from segments of it; other programs, as above, read the first 10."
    assert note in card
    arguments = train_arguments(tiny_bert, tmp_path, "resumed", *settings)
    assert kill_when(arguments, (tmp_path / "resumed" / "model" / "emotion.json").is_file, signal.SIGTERM) == 128 + signal.SIGTERM
    resumed = run_script(*arguments, "--resume")  # its best validation so far is in logits of segments
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(tmp_path / "a", tmp_path / "resumed")
    answer = run_script("infer.py", "--model", str(tmp_path / "a"), "--json", "--explain", "--text", LONG[1])
    record = json.loads(answer.stdout)
    assert record["notes"] == ["longer than 10 tokens: read in 9 segments"]
    report = run_script("evaluate.py", "--model", str(tmp_path / "a"), "--split", "test")
    assert report.returncode == 0 and "were split into" in report.stdout, report.stderr
    (tmp_path / "b.csv").write_text("text\n" + "".join(f"{text}\n" for text in (*LONG, *SHORT)))
    arguments = ["--input", str(tmp_path / "b.csv"), "--output", str(tmp_path / "c.csv"), "data.long_texts=cut"]
    refused = run_script("evaluate.py", "--model", str(tmp_path / "a"), *arguments)
    assert refused.returncode == 2 and "data.long_texts=cut: has no effect here" in refused.stderr
    scored = run_script("evaluate.py", "--model", str(tmp_path / "a"), *arguments[:-1])
    assert "2 of 5 texts (40.0%) are longer than data.max_length and were split into" in scored.stderr, scored.stderr
