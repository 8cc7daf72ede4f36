"""Scored files with the parents of a taxonomy in place of the labels of the model."""

from dataclasses import replace

import numpy as np
import pytest

from emotion.config import DataConfig, DecisionConfig
from emotion.errors import ConfigError
from emotion.evaluation.parents import fit_parents
from emotion.evaluation.taxonomy import Taxonomy
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.scoring import score_files
from tests.scoring.oracle import NAMES, Oracle, hash_text, make_texts, read_output, start_and_fail

TEXTS = [f"text {number}" for number in range(40)]
PROBABILITIES = np.array([hash_text(text) for text in TEXTS])
GOLD = np.array([[number % 3 == 0, number % 2 == 0, number % 5 == 0] for number in range(40)])
FITTED = fit_parents(
    Taxonomy("mood", {"bad": ("anger", "fear"), "good": ("joy",)}).apply(Oracle.label_set), GOLD, PROBABILITIES, DecisionConfig()
)
PARENTS = replace(FITTED, rule=replace(FITTED.rule, thresholds=tuple(np.median(FITTED.convert(PROBABILITIES), axis=0).tolist())))
"""Each parent is given to half of the texts."""


def score(path, output, parents=PARENTS, **options):
    job = ScoringJob((path,), output, DataConfig(), parents=parents, **options)
    return score_files(Oracle(), Oracle.rule if parents is None else parents.rule, job, lambda message: None)


def write_rows(path, names):
    path.write_text("text,labels\n" + "".join(f"{text},{labels}\n" for text, labels in zip(TEXTS, names, strict=True)))
    return path


def test_a_scored_file_has_the_parents_with_their_probabilities(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "\n".join(TEXTS) + "\n\n")
    score(tmp_path / "a.csv", tmp_path / "out.csv", probabilities="all")
    rows = read_output(tmp_path / "out.csv")
    assert len(rows) == 41 and list(rows[0]) == ["text", "predicted_labels", "probability_bad", "probability_good"]
    expected = PARENTS.convert(PROBABILITIES)
    scored = [[float(row["probability_bad"]), float(row["probability_good"])] for row in rows[:40]]
    np.testing.assert_allclose(scored, expected, rtol=0, atol=0.5001e-4)  # four decimals
    decided = ["|".join(PARENTS.label_set.decode(row)) for row in PARENTS.rule.decide(expected)]
    assert [row["predicted_labels"] for row in rows] == [*decided, ""] and len(set(decided)) > 1


@pytest.mark.parametrize("level", ["labels of the model", "parents"])
def test_gold_labels_are_scored_as_parents_whichever_names_they_have(level, tmp_path):
    gold = np.stack([GOLD[:, 0] | GOLD[:, 2], GOLD[:, 1]], axis=1)
    names = [Oracle.label_set.decode(row) for row in GOLD]
    if level == "parents":
        names = [PARENTS.label_set.decode(row) for row in gold]
    tally = score(write_rows(tmp_path / "a.csv", map("|".join, names)), tmp_path / "out.csv")
    predicted = PARENTS.rule.decide(PARENTS.convert(PROBABILITIES))
    assert tally.num_judged == 40 and tally.num_exact == (gold == predicted).all(axis=1).sum()
    np.testing.assert_array_equal(tally.counts, [(gold & predicted).sum(0), (~gold & predicted).sum(0), (gold & ~predicted).sum(0)])


def test_a_parent_without_judged_children_is_not_scored(tmp_path):
    lines = [f"{text},{int(row[0])},{int(row[1])}" for text, row in zip(TEXTS, GOLD, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([f"text,{NAMES[0]},{NAMES[1]}", *lines]) + "\n")  # fear is missing
    tally = score(tmp_path / "a.csv", tmp_path / "out.csv")
    predicted = PARENTS.rule.decide(PARENTS.convert(PROBABILITIES))
    hits, false_alarms, missed = np.array(tally.counts)
    assert (hits[0], false_alarms[0], missed[0]) == (0, 0, 0)  # of the other children it is not known whether they are there
    assert (hits[1], false_alarms[1]) == ((GOLD[:, 1] & predicted[:, 1]).sum(), (~GOLD[:, 1] & predicted[:, 1]).sum()) and hits[1] > 0


def test_parts_of_another_taxonomy_are_not_reused(tmp_path):
    make_texts(tmp_path / "a.csv")
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv", num_parts=2)
    with pytest.raises(ConfigError, match=r"contains parts of another job \(model and rule"):
        score(tmp_path / "a.csv", tmp_path / "out.csv", part_rows=10)
