"""audit.py on a small run of the baseline: planted errors come first, finished folds are not trained again, what was stopped goes on."""

import json
import runpy
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("cleanlab", reason="needs requirements-audit.txt")

from emotion.config import load_config
from emotion.data.reading import read_dataset
from emotion.distributed.launch import start_launch
from emotion.errors import ConfigError, EmotionError
from emotion.inference.sidecar import read_sidecar
from emotion.tracking.run_folder import RunFolder
from emotion.training import folds
from emotion.training.folds import Fold, FoldRun, check_same_folds, list_folds, make_fold, train_fold
from tests.conftest import ROOT, make_once
from tests.runs import assert_same_run

NUM_PLANTED = 6
SETTINGS = ["model.backbone=tfidf", "data.max_length=512"]


@pytest.fixture(scope="module")
def launch():
    return start_launch(load_config(None, SETTINGS))


@pytest.fixture(scope="module")
def audited(launch, tmp_path_factory):
    """A folder with data, a run on them and its audit in two folds; six training rows of joy are labelled fear, and the reverse."""
    patch = pytest.MonkeyPatch()

    def make(folder):
        joy, fear = (
            ("I am so happy and full of joy", "what a joy, this makes me happy"),
            ("I am afraid and full of fear", "this fear, I am afraid"),
        )
        lines = [(f"{(joy, fear)[row % 2][row // 2 % 2]} {row % 7} {row}", ("joy", "fear")[row % 2]) for row in range(120)]
        planted = list(range(10, 10 + NUM_PLANTED))
        data = pd.DataFrame(lines, columns=["text", "labels"])
        data.insert(0, "id", [f"r{row}" for row in range(len(data))])
        data.loc[planted, "labels"] = ["fear" if row % 2 == 0 else "joy" for row in planted]
        (folder / "data").mkdir()
        data.to_csv(folder / "data" / "train.csv", index=False)
        data.iloc[60:90].assign(id=lambda frame: "v" + frame.id).to_csv(folder / "data" / "validation.csv", index=False)
        config = load_config(None, [*SETTINGS, f"data.source={folder / 'data'}", "run.name=run", f"run.folder={folder}"])
        train_fold(Fold(RunFolder(folder / "run"), config, read_dataset(config.data)), launch, lambda run: None, "")
        status, *_ = run_audit(patch, folder)
        assert status == 0

    try:
        return shutil.copytree(make_once("audited", make), tmp_path_factory.mktemp("audited") / "copy")
    finally:
        patch.undo()


def run_audit(monkeypatch, folder, *arguments, output="audit"):
    """Run audit.py in this process, and return its exit status and its command line."""
    words = ["audit.py", "--run", str(folder / "run"), "--folds", "2", "--output", str(folder / output), *arguments]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "audit.py"), run_name="__main__")
    return stopped.value.code, words


def read_audit(folder, output="audit"):
    return pd.read_csv(folder / output / "audit.csv", keep_default_na=False)


@pytest.mark.slow
def test_planted_errors_come_first(audited):
    rows = read_audit(audited)
    assert set(rows.id[:NUM_PLANTED]) == {f"r{row}" for row in range(10, 10 + NUM_PLANTED)}
    assert (rows.decision == "").all() and rows.quality.between(0, 1).all()
    first = rows.iloc[0]
    assert {first.looks_wrong, first.looks_missing} >= {first.labels} and f"{first.labels} 0." in first.probabilities
    assert {path.name for path in (audited / "audit").iterdir()} == {"audit.csv", "folds", "index.html", "noise.json", "predictions"}
    noise = json.loads((audited / "audit" / "noise.json").read_text())
    assert (noise["rows"], noise["folds"], noise["run"]) == (150, 2, "run") and len(noise["labels"]) == 2


@pytest.mark.slow
def test_every_row_has_a_prediction_of_a_fold_that_has_not_seen_its_text(audited):
    texts = {row.id: row.text for split in ("train", "validation") for row in pd.read_csv(audited / "data" / f"{split}.csv").itertuples()}
    held_out = {}
    for number in (1, 2):
        run = RunFolder(audited / "audit" / "folds" / f"fold-{number}")
        rows = pd.read_parquet(run.rows)
        by_split = {split: {texts[row_id] for row_id in part.id} for split, part in rows.groupby("split", observed=True)}
        assert not by_split["test"] & (by_split["train"] | by_split["validation"])
        assert not by_split["train"] & by_split["validation"] and len(by_split["validation"]) > 3
        held_out |= {row.id: (row.joy, row.fear) for row in pd.read_parquet(run.predictions("test")).itertuples()}
    assert held_out.keys() == texts.keys() and len(texts) == 150
    for split in ("train", "validation"):
        predictions = pd.read_parquet(audited / "audit" / "predictions" / f"{split}.parquet")
        assert predictions.id.tolist() == pd.read_csv(audited / "data" / f"{split}.csv").id.tolist()
        assert [(row.joy, row.fear) for row in predictions.itertuples()] == [held_out[row_id] for row_id in predictions.id]


@pytest.mark.slow
def test_an_audit_is_not_written_into_a_run(audited, monkeypatch, capsys):
    """Its predictions of the validation rows would replace those of the run."""
    status, _ = run_audit(monkeypatch, audited, output="run")
    expected = (
        f"error: --output {audited}/run: is the folder of a run or model, whose own predictions and reports are kept; choose another\n"
    )
    assert (status, capsys.readouterr().err) == (2, expected)


@pytest.mark.slow
def test_a_finished_fold_is_not_trained_again_and_what_was_stopped_goes_on(audited, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(audited, tmp_path / "copy")
    shutil.rmtree(copy / "audit" / "folds" / "fold-2")
    for name in ("audit.csv", "noise.json"):
        (copy / "audit" / name).unlink()
    trained = []

    def stop(run):
        trained.append(run.folder.path.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folds, "fit_baseline_run", stop)
        status, words = run_audit(patch, copy)
    assert (status, trained) == (130, ["fold-2"])
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; go on with: python {' '.join([str(ROOT / words[0]), *words[1:]])}"
    assert not (copy / "audit" / "audit.csv").exists()
    assert run_audit(monkeypatch, copy)[0] == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"with decisions: data.corrections={copy / 'audit' / 'reviewed.csv'}"
    for name in ("audit.csv", "noise.json", "index.html"):
        assert (copy / "audit" / name).read_bytes() == (audited / "audit" / name).read_bytes(), name


@pytest.mark.slow
def test_folds_of_other_settings_or_rows_are_refused(audited, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(audited, tmp_path / "copy")
    assert run_audit(monkeypatch, copy, "--folds", "3", "training.seed=1")[0] == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "training.seed: 0 -> 1; --folds: 2 -> 3; choose another --output, or remove it" in error
    assert read_audit(copy).equals(read_audit(audited))


@pytest.mark.slow
def test_settings_of_the_folds_are_taken_and_those_without_effect_refused(audited, monkeypatch, capsys):
    """The finished folds tell what would be trained."""
    for setting, message in (
        ("data.split_seed=1", "its folds were begun with others: data.split_seed: 0 -> 1; choose another"),
        ("data.validation_fraction=0.2", "its folds were begun with others: data.validation_fraction: 0.1 -> 0.2; choose another"),
        ("data.test_fraction=0.2", "data.test_fraction=0.2: has no effect here: folds have the rows of the run"),
        ("training.epochs=2", "training.epochs=2: has no effect; it needs a transformer"),
    ):
        assert run_audit(monkeypatch, audited, setting)[0] == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_folds_of_an_earlier_version_are_gone_on_with_and_a_damaged_manifest_is_one_line(small_data, tmp_path):
    config = load_config(None, [f"data.source={small_data}", *SETTINGS])
    rows = read_dataset(config.data)["train"]
    check_same_folds(tmp_path, rows, config, 2)
    manifest = tmp_path / folds.MANIFEST
    written = json.loads(manifest.read_text())
    assert written.pop("model.emoji_tokens") is False
    manifest.write_text(json.dumps(written))  # of a version that did not have the setting: it counts as its default
    check_same_folds(tmp_path, rows, config, 2)
    with pytest.raises(ConfigError, match=r"begun with others: model\.emoji_tokens: False -> True; choose"):
        check_same_folds(tmp_path, rows, replace(config, model=replace(config.model, emoji_tokens=True)), 2)
    for content in ("[]", "{", "null"):
        manifest.write_text(content)
        with pytest.raises(EmotionError, match=r"folds\.json: .*; remove .* to begin again, or choose another --output$"):
            check_same_folds(tmp_path, rows, config, 2)


@pytest.mark.slow
@pytest.mark.parametrize("is_of_rows", [True, False])
def test_the_best_model_of_another_validation_is_not_kept(tiny_bert, small_data, tmp_path, is_of_rows):
    """A run that is resumed by force: with fewer validation rows, or with another decision rule and a rate that learns nothing more."""
    settings = [f"model.backbone={tiny_bert}", f"data.source={small_data}", "training.per_device_batch_size=128"]
    config = load_config(None, [*settings, "training.epochs=1", "training.validations_per_epoch=4"])
    launch, train = start_launch(config), runpy.run_path(str(ROOT / "train.py"))["train"]
    dataset, folder = read_dataset(config.data), RunFolder(tmp_path / "run")
    with FoldRun(Fold(folder, config, dataset), launch, "") as run:
        run._interruption.signal = signal.SIGTERM  # after the first step and validation
        train(run)
    assert run.best is not None and list(folder.states.iterdir())
    if is_of_rows:
        dataset.splits["validation"] = dataset["validation"].take(np.arange(50))
    else:
        decision, training = replace(config.decision, maximize="micro_f1"), replace(config.training, learning_rate=1e-30)
        config = replace(config, decision=decision, training=training)
    with FoldRun(Fold(folder, config, dataset), launch, "") as run:
        run._is_forced = True
        train(run)
    stored = folder.read_predictions("validation")
    assert stored.ids == dataset["validation"].ids
    np.testing.assert_array_equal(stored.probabilities, run.best.probabilities.astype(np.float32))
    assert read_sidecar(str(folder.model))[1] == run.best.rule
    assert folder.read_config().decision == config.decision


@pytest.mark.slow
def test_decisions_are_applied_by_training_and_not_overwritten(audited, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(audited, tmp_path / "copy")
    rows = read_audit(copy)
    rows.loc[0, "decision"], rows.loc[1, "decision"] = "drop", rows.looks_missing[1] or "none"
    rows.to_csv(copy / "audit" / "audit.csv", index=False)
    assert run_audit(monkeypatch, copy)[0] == 2
    assert "audit.csv: has 2 decisions; rename it" in capsys.readouterr().err
    settings = [f"data.source={copy / 'data'}", f"data.corrections={copy / 'audit' / 'audit.csv'}"]
    train = read_dataset(load_config(None, settings).data)["train"]
    assert len(train) == 119 and rows.id[0] not in train.ids
    dataset = read_dataset(load_config(None, settings[:1]).data)
    assert len(dataset["train"]) == 120


def test_teachers_and_trackers_are_off_and_the_rest_is_the_settings_of_the_run(small_data, tmp_path):
    overrides = ["distillation.num_teachers=3", "distillation.weight=1", "tracking.backend=tensorboard", "training.seed=7", "hub.repo=a/b"]
    config = load_config(None, [f"data.source={small_data}", *overrides])
    dataset = read_dataset(config.data)
    (fold, held_out), _ = list_folds(dataset["train"], dataset.label_set, config, 2, tmp_path)
    assert (fold.config.distillation.num_teachers, fold.config.tracking.backend, fold.config.hub.repo) == (0, "none", None)
    assert fold.config.training == config.training and fold.config.data == config.data and fold.config.model == config.model
    assert len(fold.dataset["train"]) + len(fold.dataset["validation"]) + len(held_out) == len(dataset["train"])
    assert fold.dataset["test"].ids == [dataset["train"].ids[row] for row in held_out]


@pytest.mark.slow
def test_an_interrupted_fold_of_a_transformer_ends_with_the_same_bits(tiny_bert, small_data, tmp_path):
    settings = [f"model.backbone={tiny_bert}", f"data.source={small_data}", "training.epochs=1", "training.per_device_batch_size=64"]
    config = load_config(None, settings)
    launch, train = start_launch(config), runpy.run_path(str(ROOT / "train.py"))["train"]
    dataset = read_dataset(config.data)
    one, other = (
        make_fold(dataset["train"], dataset["validation"], dataset.label_set, config, tmp_path / name) for name in ("whole", "interrupted")
    )
    assert train_fold(one, launch, train, "") == 0
    with FoldRun(other, launch, "") as run:
        run._interruption.signal = signal.SIGTERM  # after the first step
        train(run)
    assert run.exit_status == 128 + signal.SIGTERM and not other.folder.is_finished and list(other.folder.states.iterdir())
    assert train_fold(other, launch, train, "") == 0
    assert other.folder.is_finished and not other.folder.states.exists()
    assert_same_run(one.folder.path, other.folder.path)
    assert not (one.folder.path / "report").exists()
    np.testing.assert_array_equal(folds.predict_held_out(one), folds.predict_held_out(other))
