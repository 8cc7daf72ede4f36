"""A taxonomy for a trained model: where its validation predictions are, and what evaluate.py does with them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from emotion.config import Config
from emotion.errors import DataError
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.metrics import score_predictions
from emotion.labels import LabelSet
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.run_rows import read_validation
from emotion.tracking.taxonomies import fit_taxonomy, merge_run
from tests.conftest import SAMPLE, copy_run, run_script

LABELS = LabelSet(("joy", "love", "anger", "other"))
GENERATOR = np.random.default_rng(0)
GOLD = GENERATOR.random((200, 4)) < 0.3
PROBABILITIES = np.clip(np.where(GOLD, 0.6, 0.3) + GENERATOR.normal(0, 0.2, GOLD.shape), 0.01, 0.99)
IDS = [str(row) for row in range(200)]


def write_validation(folder, labels=LABELS):
    RunFolder(folder).write_predictions("validation", IDS, GOLD, PROBABILITIES, labels)
    return str(folder)


def test_a_model_folder_may_hold_its_own_validation_predictions(tmp_path):
    assert read_validation(write_validation(tmp_path), LABELS, "parents are").ids == IDS
    parents = fit_taxonomy("ekman", str(tmp_path), LABELS)
    assert parents.label_set.names == ("anger", "joy") and parents.level.notes[-1].endswith("'other'")


def test_without_validation_predictions_one_line_says_what_is_missing(tmp_path):
    with pytest.raises(DataError) as caught:
        fit_taxonomy("ekman", str(tmp_path), LABELS)
    assert str(caught.value) == (
        f"--taxonomy ekman: parents are fitted on validation rows, and {tmp_path}/predictions/validation.parquet does not exist; "
        "give the run folder, or copy predictions/validation.parquet of the run into the model folder"
    )


def test_validation_predictions_of_another_model_are_refused(tmp_path):
    write_validation(tmp_path, LabelSet(("joy", "love", "anger", "fear")))
    with pytest.raises(DataError, match=r"validation.parquet has other labels than the model; restore the file"):
        fit_taxonomy("ekman", str(tmp_path), LABELS)


def test_runs_are_merged_by_fitted_parents_and_labels_from_a_file_by_their_union(tmp_path):
    is_judged = np.ones_like(GOLD)
    is_judged[:50, 0] = False
    labels = GOLD & is_judged
    run = Run("run", Config(), LABELS, IDS, labels, PROBABILITIES, (PROBABILITIES >= 0.5) & is_judged, {}, {}, is_judged)
    merged, union = merge_run(run, "ekman", write_validation(tmp_path)), merge_run(run, "ekman", None)
    assert merged.taxonomy == "ekman" and merged.label_set.names == ("anger", "joy")
    np.testing.assert_array_equal(merged.labels, np.stack([labels[:, 2], (labels[:, 0] | labels[:, 1]) & is_judged[:, 0]], axis=1))
    np.testing.assert_array_equal(merged.is_judged, np.stack([is_judged[:, 2], is_judged[:, 0]], axis=1))
    parents = fit_taxonomy("ekman", str(tmp_path), LABELS)
    np.testing.assert_array_equal(merged.predictions, parents.rule.decide(parents.convert(PROBABILITIES)) & merged.is_judged)
    np.testing.assert_array_equal(union.predictions[50:, 1], (PROBABILITIES[50:, :2] >= 0.5).any(axis=1))
    assert union.probabilities is None and not (union.predictions & ~union.is_judged).any() and len(union.notes) == 1


def test_labels_from_a_file_count_for_a_parent_whose_own_label_was_annotated():
    """The gold labels were joy alone of those of the parent joy, so its column is that of the parent, and who says love has found it."""
    labels, is_judged = np.array([[True, False, False, False]]), np.array([[True, False, True, True]])
    predictions = np.array([[False, True, False, False]])
    run = Run("file", None, LABELS, ["1"], labels, None, predictions & is_judged, {}, {}, is_judged, given=predictions)
    merged = merge_run(run, "ekman", None)
    assert merged.label_set.names == ("anger", "joy")
    assert merged.labels.tolist() == merged.predictions.tolist() == [[False, True]]


@pytest.mark.slow
def test_evaluate_and_score_with_a_taxonomy(tiny_run, tmp_path):
    """The reports and predictions of the model's own labels stay; gold labels of a file may be those of the parents."""
    run, output = copy_run(tiny_run, tmp_path, "--split", "validation", "--taxonomy", "sentiment")
    kept = [
        (tiny_run / name).read_bytes() == (run / name).read_bytes() for name in ("predictions/validation.parquet", "model/emotion.json")
    ]
    assert all(kept) and "validation-sentiment, 300 rows" in output
    report = json.loads((run / "report" / "validation-sentiment" / "metrics.json").read_text())
    frame, leaves = (pd.read_parquet(run / "predictions" / f"{name}.parquet") for name in ("validation-sentiment", "validation"))
    parents = fit_taxonomy("sentiment", str(run), LabelSet(tuple(name for name in leaves if f"gold:{name}" in leaves)))
    names = list(parents.label_set.names)
    gold, probabilities = frame[[f"gold:{name}" for name in names]].to_numpy(), frame[names].to_numpy()
    np.testing.assert_array_equal(gold[:, 3], leaves["gold:neutral"])
    assert report["at_decision_rule"]["macro_f1"] == pytest.approx(score_predictions(gold, parents.rule.decide(probabilities))["macro_f1"])

    data = pd.read_csv(SAMPLE / "validation.csv", keep_default_na=False)
    data["labels"] = ["|".join(name for name, is_on in zip(names, row, strict=True) if is_on) for row in gold]
    data.iloc[:50].to_csv(tmp_path / "gold.csv", index=False)
    arguments = ["--model", str(run / "model"), "--input", str(tmp_path / "gold.csv"), "--taxonomy", "sentiment"]
    result = run_script("evaluate.py", *arguments, "--output", str(tmp_path / "scored.csv"), "--probabilities", "all")
    assert result.returncode == 0, result.stderr
    scored = pd.read_csv(tmp_path / "scored.csv", keep_default_na=False)
    # Batches of other texts move logits by rounding: 1e-3 is far above it, and far below what another parent or row would move.
    np.testing.assert_allclose(scored[[f"probability_{name}" for name in names]], probabilities[:50], rtol=0, atol=1e-3)
    assert json.loads((tmp_path / "scored.csv.metrics.json").read_text())["num_rows"] == 50
    shutil.rmtree(run / "predictions")
    result = run_script("evaluate.py", *arguments, "--output", str(tmp_path / "out"))
    assert result.returncode == 2 and "validation.parquet does not exist; give the run folder" in result.stderr
