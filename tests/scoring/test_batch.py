"""A scorer of Arrow batches can be pickled and adds the columns of a scored file, whichever engine passes the batches."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import emotion
from emotion.config import DataConfig, DecisionConfig
from emotion.evaluation.parents import fit_parents
from emotion.evaluation.taxonomy import read_taxonomy
from emotion.inference.loading import load_predictor
from emotion.scoring import batch
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.scoring import score_files
from tests.conftest import ROOT, SAMPLE
from tests.test_docs import list_blocks

TEXTS = [*pd.read_csv(SAMPLE / "test.csv").text[:40], None, " \n", "ok", "ok"]
TABLE = pa.table({"id": range(len(TEXTS)), "text": TEXTS, "notes": [[str(row)] for row in range(len(TEXTS))]})


def make_scorer(run, **options):
    return emotion.BatchScorer(run, options=emotion.BatchOptions(backend="numpy", **options))


def break_text(text_bytes):
    """Return a string array of "ok" and of bytes that are not UTF-8."""
    offsets = pa.array([0, 2, 2 + len(text_bytes)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ok" + text_bytes)])


@pytest.mark.parametrize("probabilities", ["none", "all", 2])
def test_a_pickled_scorer_adds_the_columns_of_a_scored_file(probabilities, tiny_run, tmp_path):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    predictor = load_predictor(str(tiny_run), "numpy")
    rule = predictor.rule.with_overrides(0.2, "top1")
    job = ScoringJob((tmp_path / "a.parquet",), tmp_path / "out.parquet", DataConfig(), str(probabilities))
    tally = score_files(predictor, rule, job, lambda message: None)
    expected = pq.read_table(tmp_path / "out.parquet")
    scorer = make_scorer(tiny_run, probabilities=probabilities, threshold=0.2, empty_set="top1")
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 10_000  # the weights stay where they are
    scored, faults, counts = pickle.loads(pickled).score(TABLE)
    assert scored.schema.equals(scorer.extend_schema(TABLE.schema)) and scored.schema.equals(expected.schema)
    assert scored.equals(expected)  # to the digit: the batches of texts are the same
    assert faults == {40: "empty text", 41: "empty text"} and vars(counts) == vars(tally)
    assert scored.column("predicted_labels")[40].as_py() is None


def test_a_row_gets_its_answer_in_any_batch(tiny_run):
    whole = make_scorer(tiny_run, probabilities="all", digits=None)(TABLE)
    batches = [make_scorer(tiny_run, probabilities="all", digits=None)(part) for part in TABLE.to_batches(max_chunksize=7)]
    assert all(isinstance(part, pa.RecordBatch) for part in batches)  # Spark passes these, and takes no tables
    parts = pa.Table.from_batches(batches)
    assert parts.column("predicted_labels").equals(whole.column("predicted_labels"))
    for name in whole.column_names[4:]:
        values, expected = (table.column(name).to_numpy() for table in (parts, whole))
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)
        assert not np.array_equal(np.round(expected, 4), expected)  # all digits


def test_a_model_is_loaded_once_in_a_process_and_not_before_the_first_batch(tiny_run, monkeypatch):
    loaded = []
    monkeypatch.setattr(batch, "load_predictor", lambda *names, **options: loaded.append(names) or load_predictor(*names, **options))
    batch._load_once.cache_clear()
    pickled = pickle.dumps(make_scorer(tiny_run))
    assert not loaded
    for _ in range(3):
        pickle.loads(pickled)(TABLE.slice(0, 2))
    assert len(loaded) == 1


def test_other_weights_in_the_folder_are_refused(tiny_run):
    scorer = make_scorer(tiny_run)
    scorer.version = "of yesterday"
    with pytest.raises(emotion.ModelError) as caught:
        scorer(TABLE)
    message = "its weights are not those with which the scoring began; copy the same model to every machine"
    assert str(caught.value) == f"{scorer.model}: {message}"


def test_rows_that_cannot_be_scored_are_marked(tiny_run):
    scorer = make_scorer(tiny_run)
    scored, faults, tally = scorer.score(pa.table({"text": break_text(b"\xff")}))
    assert scored.column("text").to_pylist() == ["ok", None]  # otherwise no reader of the output gets past this row
    assert scored.column("predicted_labels").is_null().to_pylist() == [False, True]
    assert "'utf-8' codec can't decode byte 0xff" in faults[1] and tally.num_bad == 1
    numbers, faults, _ = scorer.score(pa.table({"text": [1, None]}))
    assert faults == {0: "text is 1, not a string", 1: "empty text"} and numbers.column("text").to_pylist() == [1, None]
    assert scorer(TABLE.slice(0, 0)).schema.equals(scorer.extend_schema(TABLE.schema))


def test_texts_that_arrow_stores_otherwise_are_the_same_texts(tiny_run):
    scorer = make_scorer(tiny_run, probabilities="all")
    text = TABLE.column("text").combine_chunks()
    expected = scorer(pa.table({"text": text})).drop_columns("text")
    for column in (text.cast(pa.large_string()), text.dictionary_encode(), text.cast(pa.string_view())):
        assert scorer(pa.table({"text": column})).drop_columns("text").equals(expected)


def test_the_parents_of_a_taxonomy(tiny_run):
    scorer = make_scorer(tiny_run)
    labels = np.eye(28, dtype=bool)[np.arange(56) % 28]
    level = read_taxonomy("sentiment").apply(scorer.model_label_set)
    parents = fit_parents(level, labels, np.full((56, 28), 0.1), DecisionConfig())
    scored = make_scorer(tiny_run, probabilities="all", parents=parents)(TABLE)
    expected = parents.convert(load_predictor(str(tiny_run), "numpy").predict(TEXTS[:3]))
    names = [f"probability_{name}" for name in parents.label_set.names]
    np.testing.assert_allclose(scored.select(names).slice(0, 3).to_pandas(), expected, rtol=0, atol=0.501e-4)
    assert scored.column_names == [*TABLE.column_names, "predicted_labels", *names]


def test_datasets_map(tiny_run, tmp_path, monkeypatch):
    """By the code of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "comments").mkdir()
    pq.write_table(TABLE, "comments/a.parquet")
    (code,) = [block for block in list_blocks(ROOT / "docs" / "cluster.md", "python") if "import datasets" in block]
    names: dict = {}
    exec(code.replace("runs/NAME", str(tiny_run)), names)
    scorer, expected = names["scorer"], names["scorer"](TABLE)
    for found in (names["scored"][:], pq.read_table("scored.parquet")):
        assert found.equals(expected.cast(found.schema)) and found.column_names == expected.column_names
    rows, copy = names["rows"].with_format("arrow"), pickle.loads(pickle.dumps(scorer))
    assert rows.map(copy, batched=True, batch_size=4_096)._fingerprint == names["scored"]._fingerprint  # the cache knows the scorer
    copy.version = "of yesterday"
    with pytest.raises(emotion.ModelError):  # and does not take other weights for it
        rows.map(copy, batched=True, batch_size=4_096)


MISTAKES = {
    "text_column='body': is not exactly one of the columns ['id', 'text', 'notes']": lambda run: make_scorer(run, text_column="body")(
        TABLE
    ),
    "the batch: has a column 'predicted_labels' already, which scoring would add; rename it in the input": lambda run: make_scorer(run)(
        make_scorer(run)(TABLE)
    ),
    "--probabilities 29: the model has 28 labels; give at most 28": lambda run: make_scorer(run, probabilities=29),
    "probabilities=0: must be 'none', 'all' or a number of labels, at least 1": lambda run: emotion.BatchOptions(probabilities=0),
    "threshold=1: must be in (0, 1)": lambda run: emotion.BatchOptions(threshold=1),
    "empty_set='all': must be one of none, top1": lambda run: emotion.BatchOptions(empty_set="all"),
    "backend='tpu': must be one of auto, torch, onnx, numpy": lambda run: emotion.BatchOptions(backend="tpu"),
    "--model runs/gone: no such folder; `ls runs` lists the runs": lambda run: emotion.BatchScorer("runs/gone"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named(message, tiny_run):
    with pytest.raises(emotion.EmotionError) as caught:
        MISTAKES[message](tiny_run)
    assert str(caught.value) == message
