"""Training on fractions of raters has the bits of hard training where all raters agree."""

import csv

import pytest

from emotion.tracking.run_folder import RunFolder
from tests.conftest import SAMPLE, run_script
from tests.runs import assert_same_run, train_arguments

NUM_TEXTS = 96
SETTINGS = ("training.epochs=1", "training.loss=bce", "training.pos_weight=auto", "training.log_every=1", "data.test_fraction=0.2")


def write_rated(path, num_raters):
    """Write texts of the bundled corpus with the labels of raters who agree; the file's name, which a run's model holds, is the same."""
    with (SAMPLE / "train.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[:NUM_TEXTS]
    path.parent.mkdir()
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "labels", *(["rater_id"] if num_raters > 1 else [])])
        for row in rows:
            for rater in range(num_raters):
                writer.writerow([row["id"], row["text"], row["labels"], *([f"rater {rater}"] if num_raters > 1 else [])])
    return path


@pytest.mark.slow
def test_raters_who_agree_train_the_model_of_one(tiny_bert, tmp_path):
    for name, num_raters, settings in (("one", 1, ()), ("three", 3, ("data.soft_labels=true",))):
        path = write_rated(tmp_path / f"data-{name}" / "rated.csv", num_raters)
        result = run_script(*train_arguments(tiny_bert, tmp_path, name, f"data.source={path}", *SETTINGS, *settings))
        assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "one", tmp_path / "three")
    cards = [(RunFolder(tmp_path / name).model / "README.md").read_text() for name in ("one", "three")]
    assert ["the targets are the fractions of raters who gave a label" in card for card in cards] == [False, True]
