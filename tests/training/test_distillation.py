import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from emotion.config import DistillationConfig, load_config
from emotion.data.reading import read_dataset
from emotion.data.reading.plain_texts import add_texts
from emotion.data.remembered import RememberedRows
from emotion.distributed.launch import start_launch
from emotion.errors import ConfigError
from emotion.inference.predictor import Predictor
from emotion.labels import LabelSet
from emotion.tracking.run_folder import RunFolder
from emotion.training.distillation import (
    build_targets,
    check_own_teachers,
    check_teachers,
    list_stages,
    mix_targets,
    predict_soft_labels,
)
from emotion.training.fingerprint import fingerprint_run, fingerprint_settings
from emotion.training.stages import count_teachers
from tests.conftest import ROOT, run_script

CONFIG = ROOT / "configs" / "quickstart.yaml"


@pytest.fixture(scope="module")
def dataset():
    return read_dataset(load_config(CONFIG).data)


def test_soft_labels_are_the_mean_of_the_teachers_in_the_columns_of_the_student(tiny_run, tmp_path, dataset):
    texts = dataset["train"].texts[:20]
    other = shutil.copytree(tiny_run / "model", tmp_path / "model")
    reversed_labels = LabelSet(dataset.label_set.names[::-1])
    soft_labels = predict_soft_labels((str(tiny_run), str(other)), texts, reversed_labels)
    expected = Predictor.load(str(tiny_run)).predict(texts)[:, ::-1]
    assert soft_labels.dtype == np.float32 and expected.std() > 0.01
    np.testing.assert_allclose(soft_labels, expected, atol=1e-6)
    parts = [predict_soft_labels((str(tiny_run),), texts, reversed_labels, process, 2) for process in range(2)]
    assert not parts[0][1::2].any() and not parts[1][::2].any()
    np.testing.assert_allclose(sum(parts), expected, atol=1e-6)


def test_targets_mix_gold_and_teachers():
    labels = np.array([[True, False], [False, False]])
    soft_labels = np.array([[0.5, 0.25], [1.0, 0.0]])
    np.testing.assert_allclose(mix_targets(labels, soft_labels, 0.4), [[0.8, 0.1], [0.4, 0.0]], rtol=1e-6)
    is_judged = np.array([[True, False], [False, True]])  # where nobody annotated, the teachers alone decide
    np.testing.assert_allclose(mix_targets(labels, soft_labels, 0.4, is_judged), [[0.8, 0.25], [1.0, 0.0]], rtol=1e-6)


def test_a_teacher_that_cannot_be_trusted_is_refused(tiny_run, tmp_path, dataset):
    rows, label_set = dataset["validation"], dataset.label_set
    with pytest.raises(ConfigError, match=r"tiny does not know hunger; take models with the labels of this data"):
        check_teachers((str(tiny_run),), rows, LabelSet((*label_set.names, "hunger")))
    with pytest.raises(ConfigError, match=r"^distillation.teachers: runs/nowhere: no such folder"):
        check_teachers(("runs/nowhere",), rows, label_set)
    assert check_teachers((str(tiny_run), str(tiny_run / "model")), rows, label_set) == []
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    (message,) = check_teachers((str(tmp_path / "model"),), rows, label_set)
    assert "not in a run folder" in message
    others = replace(rows, texts=[rows.texts[-1], *rows.texts[:-1]])  # ids can be line numbers: those of another file are the same
    for other in (rows.take(np.arange(1, len(rows))), others):
        with pytest.raises(ConfigError, match=r"distillation.teachers: .*tiny was validated on other rows, so it may have been trained on"):
            check_teachers((str(tiny_run),), other, label_set)
    copy = shutil.copytree(tiny_run, tmp_path / "tiny")
    (copy / "rows.parquet").unlink()  # a run of an earlier version is known by its ids
    assert check_teachers((str(copy),), others, label_set) == []


def test_kept_probabilities_of_teachers_are_those_of_the_same_rows_and_teachers(tmp_path, dataset, monkeypatch):
    """A run that is resumed although its texts have changed asks its teachers again: ids can be line numbers."""
    rows, label_set, folder = dataset["train"].take(np.arange(9)), dataset.label_set, RunFolder(tmp_path / "own")
    accelerator = start_launch(load_config(CONFIG)).accelerator
    before = load_config(CONFIG, ["distillation.teachers=a,b", "distillation.weight=1"])
    state = SimpleNamespace(progress=SimpleNamespace(fingerprint=fingerprint_run(before, {"train": rows})))
    folder.write_predictions("teachers", rows.ids, rows.labels, np.full(rows.labels.shape, 0.25), label_set)
    asked = np.full(rows.labels.shape, 0.75, dtype=np.float32)
    monkeypatch.setattr("emotion.training.distillation.predict_soft_labels", lambda *_: asked)
    changed = replace(rows, texts=["another", *rows.texts[1:]])
    for teachers, now, expected in ((("a", "b"), rows, 0.25), (("a", "b"), changed, 0.75), (("a", "c"), rows, 0.75)):
        copy = RunFolder(shutil.copytree(folder.path, tmp_path / f"{teachers[1]}-{expected}"))
        targets = build_targets(replace(before.distillation, teachers=teachers), now, label_set, copy, state, accelerator)
        np.testing.assert_array_equal(targets, np.full(rows.labels.shape, expected, dtype=np.float32))
        np.testing.assert_array_equal(copy.read_probabilities("teachers", rows.ids, label_set), targets)


def test_a_teacher_of_the_run_that_was_trained_on_other_rows_is_refused(tmp_path, dataset):
    """A run that is resumed after labels were corrected has finished teachers of the labels before."""
    folder = RunFolder(tmp_path / "own")
    check_own_teachers(folder, dataset)  # without teachers
    teacher = RunFolder(folder.teachers / "own-teacher-1")
    teacher.path.mkdir(parents=True)
    check_own_teachers(folder, dataset)  # of an earlier version, which did not remember its rows
    RememberedRows.compute(dataset).write(teacher.rows)
    check_own_teachers(folder, dataset)
    labels = dataset["train"].labels.copy()
    labels[3, 0] ^= True
    changed = replace(dataset, splits=dataset.splits | {"train": replace(dataset["train"], labels=labels)})
    with pytest.raises(ConfigError, match=r"own-teacher-1: was trained on other rows than the data has now; restore the data, or remove"):
        check_own_teachers(folder, changed)


def test_teachers_have_the_settings_of_their_configs_and_the_data_of_the_run(tmp_path):
    files = [str(ROOT / "configs" / name) for name in ("mpnet.yaml", "gemma3_270m_qlora.yaml")]
    words = ["distillation.num_teachers=2", f"distillation.teacher_configs={','.join(files)}", "distillation.weight=1"]
    config = load_config(CONFIG, [*words, "training.seed=7", "hub.repo=a/b"])
    *teachers, (folder, student) = list_stages(RunFolder(tmp_path / "own"), config)
    assert [(run.path.name, teacher.training.seed) for run, teacher in teachers] == [
        (f"own-teacher-{number}", 7 + 1000 * number) for number in (1, 2, 3, 4)
    ]
    for (run, teacher), file in zip(teachers, (files[0], files[0], files[1], files[1]), strict=True):
        expected = load_config(file)
        assert (teacher.model, teacher.lora) == (expected.model, expected.lora)
        assert replace(teacher.training, seed=0) == expected.training
        assert (teacher.data, teacher.decision, teacher.tracking) == (config.data, config.decision, config.tracking)
        assert teacher.distillation == DistillationConfig() and teacher.hub.repo is None
        assert run.path.parent == tmp_path / "own" / "teachers"
    assert folder.path == tmp_path / "own" and student.distillation.teachers == tuple(str(run.path) for run, _ in teachers)
    assert replace(student, distillation=config.distillation, training=config.training) == config


def test_another_loss_is_that_of_the_teachers(tmp_path):
    config = load_config(CONFIG, ["distillation.num_teachers=2", "training.loss=focal"])
    *teachers, (_, student) = list_stages(RunFolder(tmp_path / "own"), config)
    assert [teacher.training.loss for _, teacher in teachers] == ["focal", "focal"] and student.training.loss == "bce"
    ((_, single),) = list_stages(RunFolder(tmp_path / "own"), load_config(CONFIG, ["training.loss=focal"]))
    assert single.training.loss == "focal"
    ((_, taught),) = list_stages(
        RunFolder(tmp_path / "taught"),
        load_config(ROOT / "configs" / "recipe.yaml", ["distillation.num_teachers=0", "distillation.teachers=runs/a"]),
    )
    assert taught.training.loss == "bce"
    with pytest.raises(ConfigError, match=r"training\.loss=focal: has no effect; it needs a transformer without distillation\.teachers"):
        load_config(CONFIG, ["distillation.teachers=runs/a", "training.loss=focal"])


def test_a_student_has_epochs_of_its_own(tmp_path):
    words = ["training.epochs=3", "distillation.epochs=9"]
    *teachers, (_, student) = list_stages(RunFolder(tmp_path / "own"), load_config(CONFIG, ["distillation.num_teachers=2", *words]))
    assert [teacher.training.epochs for _, teacher in teachers] == [3, 3] and student.training.epochs == 9
    ((_, taught),) = list_stages(RunFolder(tmp_path / "own"), load_config(CONFIG, ["distillation.teachers=runs/a", *words]))
    assert taught.training.epochs == 9
    same = load_config(CONFIG, ["distillation.teachers=runs/a", "training.epochs=9"])
    ((_, other),) = list_stages(RunFolder(tmp_path / "own"), same)
    assert fingerprint_settings(other) == fingerprint_settings(taught)
    (tmp_path / "own.yaml").write_text("distillation: {epochs: 9}\n")  # without teachers there is no student
    ((_, single),) = list_stages(RunFolder(tmp_path / "own"), load_config(tmp_path / "own.yaml"))
    assert single.training.epochs == 4


def test_texts_without_labels_go_to_the_student_and_bring_teachers(tmp_path):
    config = load_config(ROOT / "configs" / "recipe.yaml", ["distillation.texts=more.txt"])
    assert config.distillation.resolve_num_teachers(100).num_teachers == 3
    config = load_config(CONFIG, ["distillation.num_teachers=2", "distillation.texts=more.txt"])
    *teachers, (_, student) = list_stages(RunFolder(tmp_path / "own"), config)
    assert [teacher.distillation.texts for _, teacher in teachers] == [None, None] and student.distillation.texts == "more.txt"
    with pytest.raises(ConfigError, match=r"distillation\.texts=more\.txt: has no effect; it needs distillation\.teachers or"):
        load_config(CONFIG, ["distillation.texts=more.txt"])


def test_files_of_texts_that_are_missing_are_found_before_the_teachers_are_trained(tmp_path):
    words = ["train.py", "--config", "configs/quickstart.yaml", f"run.folder={tmp_path}", "distillation.num_teachers=1"]
    result = run_script(*words, f"distillation.texts={tmp_path / 'nowhere.csv'}")
    assert result.returncode == 2 and "nowhere.csv: cannot be read (No such file" in result.stderr and not list(tmp_path.iterdir())


def test_automatic_teachers_go_by_the_number_of_rows(monkeypatch):
    config = load_config(ROOT / "configs" / "recipe.yaml")
    assert config.distillation.num_teachers == "auto" and config.distillation.weight == 1
    for num_rows, num_teachers in ((1, 0), (299, 0), (300, 3), (43_410, 3)):
        assert config.distillation.resolve_num_teachers(num_rows).num_teachers == num_teachers
    fixed = load_config(None, ["distillation.num_teachers=2"]).distillation
    assert fixed.resolve_num_teachers(43_410) is fixed
    messages = []
    monkeypatch.setattr("emotion.training.stages.print_on_main", lambda _, message: messages.append(message))
    assert count_teachers(config, None).distillation.num_teachers == 3  # the bundled corpus
    monkeypatch.setattr("emotion.config.settings.AUTO_TEACHER_ROWS", 1_301)
    assert count_teachers(config, None).distillation.num_teachers == 0
    expected = "{} teachers for 1,300 rows (distillation.num_teachers=auto)"
    assert messages == [f"train: {expected.format(number)}" for number in (3, 0)]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("configs/mpnt.yaml", "distillation.teacher_configs: configs/mpnt.yaml: cannot be read"),
        (
            "bf16.yaml",
            "bf16.yaml has training.precision=bf16, the run auto: a run has one precision for all its models; set training.precision=bf16",
        ),
        ("configs/tfidf.yaml", "distillation.teacher_configs: configs/tfidf.yaml is of the baseline (tfidf), which does not teach; name"),
    ],
)
def test_a_teacher_config_that_cannot_be_used_is_named(file, message, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if file == "bf16.yaml":
        file = tmp_path / file
        file.write_text("training:\n  precision: bf16\n")
        same = ["distillation.num_teachers=1", f"distillation.teacher_configs={file}", "training.precision=bf16"]
        assert len(list_stages(RunFolder(tmp_path / "own"), load_config(CONFIG, same))) == 2
    config = load_config(CONFIG, ["distillation.num_teachers=1", f"distillation.teacher_configs={file}"])
    with pytest.raises(ConfigError, match=re.escape(message)):
        list_stages(RunFolder(tmp_path / "own"), config)


@pytest.mark.slow
def test_a_student_learns_from_its_teachers_and_keeps_their_probabilities(tiny_bert, tiny_run, tmp_path, dataset):
    words = ["train.py", "--config", "configs/quickstart.yaml", f"model.backbone={tiny_bert}", f"run.folder={tmp_path}", "run.name=student"]
    words += [f"distillation.teachers={tiny_run}", "distillation.weight=1", "training.epochs=1", "training.learning_rate=3e-3"]
    words += ["training.save_every_steps=5", "--resume", f"distillation.texts={tmp_path / 'more.txt'}"]
    (tmp_path / "more.txt").write_text("What a lovely morning it was\nI will never forgive them\n" + dataset["test"].texts[0])
    plan = run_script(*words, "--dry-run")
    assert f"teachers    {tiny_run}" in plan.stdout, plan.stderr
    result = run_script(*words)
    assert result.returncode == 0, result.stderr
    run, rows = RunFolder(tmp_path / "student"), dataset["train"]
    assert "data: " in plan.stdout and "2 texts without labels, from column" in " ".join(plan.stdout.split())
    assert f"{len(rows) + 2:,} training rows (counted, with the texts without labels)" in plan.stdout
    dataset = replace(dataset, splits=dict(dataset.splits))
    add_texts(dataset, str(tmp_path / "more.txt"), load_config(CONFIG).data)
    rows = dataset["train"]
    assert len(rows) == 1_302
    kept = run.read_probabilities("teachers", rows.ids, dataset.label_set)
    assert kept is not None
    np.testing.assert_allclose(kept, predict_soft_labels((str(tiny_run),), rows.texts, dataset.label_set), atol=1e-6)
    card = (run.model / "README.md").read_text()
    assert "; the targets are the mean probabilities of 1 trained model, also on texts without labels." in card
    # The loss is the cross-entropy against the teacher's probabilities; with gold labels it would be another.
    losses = [row["loss"] for row in run.read_metrics() if row["kind"] == "train"]
    entropy = -np.mean(kept * np.log(kept) + (1 - kept) * np.log(1 - kept))
    gold = pd.read_parquet(run.predictions("teachers"))[[f"gold:{name}" for name in dataset.label_set.names]].to_numpy()
    np.testing.assert_array_equal(gold, rows.labels)
    assert entropy < losses[-1] < entropy + 0.05
