"""Intervals and tests: what they hold, what they find, and what they do with small, clustered and rare groups."""

import numpy as np
import pytest

from emotion.analysis.prevalence import changes
from emotion.analysis.prevalence.cells import MIN_BATCHES, MIN_ROWS, NUM_EXAMPLES, NUM_TEXTS, CellCounter, CellKey, find_batch
from emotion.analysis.prevalence.changes import list_comparisons, measure, sum_cells
from emotion.analysis.prevalence.correction import fit_correction
from emotion.analysis.prevalence.fit import measure_fit
from emotion.analysis.prevalence.histograms import list_atoms
from emotion.analysis.prevalence.validation import count_validation
from emotion.analysis.prevalence.words import conclude
from emotion.labels import LabelSet
from tests.analysis.simulated import FREQUENCIES, RULE, draw

MONTHS = [f"2024-{month:02d}" for month in range(1, 7)]
VALIDATION_GOLD, VALIDATION = draw(4_000, np.random.default_rng(1))
ROWS = count_validation([], VALIDATION_GOLD, VALIDATION, None, RULE)


@pytest.fixture
def few_resamples(monkeypatch):
    """A percentile of 200 resamples is less exact than one of 500: the bounds of these tests are wide."""
    monkeypatch.setattr(changes, "NUM_RESAMPLES", 200)


def count(parts, clusters=None):
    """Return the cells of rows, given by key as probabilities, float (n, 4)."""
    counter = CellCounter(4, has_clusters=clusters is not None)
    for key, probabilities in parts.items():
        own = None if clusters is None else clusters[key]
        counter.add([key] * len(probabilities), probabilities, RULE.decide(probabilities), None, own)
    return counter.cells


def measure_all(cells):
    sums = sum_cells(cells)
    pairs = list_comparisons(sums)
    return measure(sums, ROWS, pairs), sums


def test_a_label_that_doubles_in_one_month_is_found_and_nothing_else():
    generator = np.random.default_rng(2)
    parts = {CellKey(month): draw(2_000, generator, (1, 2 if month == MONTHS[3] else 1, 1, 1))[1] for month in MONTHS}
    found, _ = measure_all(count(parts))
    shown = [change for change in found.changes if change.is_shown]
    assert [(change.label, change.first, change.second) for change in shown] == [
        (1, CellKey(MONTHS[3], is_rest=True), CellKey(MONTHS[3])),
    ]
    assert shown[0].difference > 0 and shown[0].interval[0] < 0.1 < shown[0].interval[1]
    assert len(found.changes) == 4 * len(MONTHS)
    assert [change.p_value for change in found.changes] == sorted(change.p_value for change in found.changes)


def test_the_summary_reads_alone_on_a_terminal(few_resamples):
    """The report's tables do not follow it there."""
    cells = count({CellKey("", group): draw(500, np.random.default_rng(number))[1] for number, group in enumerate("ab")})
    found, _ = measure_all(cells)
    text = " ".join(conclude(found, cells, LabelSet(tuple("wxyz")), num_signs=2))
    assert "2 signs that texts differ from the validation rows, on which the correction rests; the report lists them." in text


def test_probabilities_that_are_no_mixture_have_a_poor_fit_and_others_have_not(few_resamples):
    """Where texts are of another sort, probabilities are not those of texts with the label or without it."""
    generator = np.random.default_rng(4)
    same = [draw(1_000, generator, (factor, factor, factor, factor))[1] for factor in (0, 0.5, 1, 2)]
    parts = {CellKey("", f"same {number}"): probabilities for number, probabilities in enumerate(same)}
    logits = np.log(same[2] / (1 - same[2]))
    logits[:, 1] = 0.5 * logits[:, 1] - 1  # the model is less sure of the second label
    found, _ = measure_all(count(parts | {CellKey("", "other"): 1 / (1 + np.exp(-logits))}))
    misfits = dict(zip(found.keys, found.is_misfit.tolist(), strict=True))
    assert misfits[CellKey("", "other")] == [False, True, False, False]
    assert not any(any(misfits[key]) for key in parts)
    assert not any(misfits[CellKey("", "other", is_rest=True)])
    assert not any(row[0] or row[2] or row[3] for key, row in misfits.items() if key.is_rest)
    assert all(found.has_poor_fit(change) for change in found.changes if change.second.group == "other" and change.label == 1)
    assert not any(found.has_poor_fit(change) for change in found.changes if change.label != 1)


def test_a_difference_from_periods_with_a_poor_fit_is_marked(few_resamples):
    """Only one of three months is like the validation rows: what it is compared with, the two others, cannot be trusted."""
    generator = np.random.default_rng(7)
    parts = {CellKey(month): draw(1_500, generator)[1] for month in MONTHS[:3]}
    for month in MONTHS[:2]:
        logits = np.log(parts[CellKey(month)] / (1 - parts[CellKey(month)]))
        parts[CellKey(month)] = 1 / (1 + np.exp(0.5 * (2 - logits)))  # of every label, the model is less sure
    found, _ = measure_all(count(parts))
    misfits = dict(zip(found.keys, found.is_misfit.tolist(), strict=True))
    assert not any(misfits[CellKey(MONTHS[2])]) and misfits[CellKey(MONTHS[2], is_rest=True)][:2] == [True, True]
    compared = [change for change in found.changes if change.second == CellKey(MONTHS[2]) and change.label < 2]
    assert len(compared) == 2 and all(found.has_poor_fit(change) for change in compared)
    assert set(found.misfits) == {CellKey(), CellKey(MONTHS[0]), CellKey(MONTHS[1])}


def test_fit_is_worse_than_chance_as_often_as_its_p_value_says():
    """Of 400 p-values about 20 are below 0.05; fewer than 5 or more than 40 have a probability below 0.0001."""
    generator = np.random.default_rng(5)
    p_values = []
    for _ in range(100):
        gold, probabilities = draw(2_000, generator)
        rows = count_validation([], gold, probabilities, None, RULE)
        group = count({CellKey(): draw(1_000, generator, (2, 0.5, 1, 2))[1]})[CellKey()].counts
        for label in range(4):
            positives, negatives = rows.positives[label].astype(float), rows.negatives[label].astype(float)
            correction = fit_correction(*list_atoms(), positives, negatives)
            own = group[label][None].astype(float)
            num_rows = int(positives.sum()), int(negatives.sum())
            p_values += measure_fit(own, np.ones(1), correction.estimate(own), correction, num_rows).tolist()
    assert 5 <= (np.array(p_values) < 0.05).sum() <= 40


def test_years_without_a_change_give_few_false_alarms(few_resamples):
    """At a rate of 5 %, more than two of six years have one with a probability of 0.002."""
    alarms = 0
    for seed in range(6):
        generator = np.random.default_rng([3, seed])
        found, _ = measure_all(count({CellKey(month): draw(300, generator)[1] for month in MONTHS}))
        alarms += any(change.is_shown for change in found.changes)
    assert alarms <= 2


def test_intervals_hold_the_truth(few_resamples):
    """Of 160 intervals with 95 % at least 88 % hold it: 140 or fewer would have a probability below 0.0002; wider ones would hold all."""
    held, widths = 0, []
    for seed in range(40):
        generator = np.random.default_rng([4, seed])
        gold, validation = draw(3_000, generator)
        rows = count_validation([], gold, validation, None, RULE)
        factors = (0, 0.5, 1, 2)[seed % 4]
        cells = sum_cells(count({CellKey(): draw(500, generator, (factors,) * 4)[1]}))
        bounds = measure(cells, rows, []).bounds[0]
        truth = FREQUENCIES * factors
        held += int(((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).sum())
        widths.append(bounds[0, 1] - bounds[0, 0])
    assert held >= 141
    smallest = 2 * 1.96 * np.sqrt(FREQUENCIES[0] * (1 - FREQUENCIES[0]) / 500)  # of a perfect model
    assert 1.0 < np.mean(widths[2::4]) / smallest < 3.0


def test_validation_rows_are_in_the_interval():
    """The same group with a tenth of the validation rows has a wider interval."""
    group = draw(20_000, np.random.default_rng(5))[1]
    cells = sum_cells(count({CellKey(): group}))
    few = count_validation([], VALIDATION_GOLD[:400], VALIDATION[:400], None, RULE)
    wide, narrow = (np.diff(measure(cells, rows, []).bounds[0])[:, 0] for rows in (few, ROWS))
    assert (wide > 1.5 * narrow).all()


def test_repeated_rows_of_one_author_are_not_more_rows(few_resamples):
    """Each row four times under one author: with clusters the interval is that of the single rows, without them half as wide."""
    single = draw(2_000, np.random.default_rng(6))[1]
    key = CellKey()
    repeated = np.repeat(single, 4, axis=0)
    authors = np.repeat(np.arange(len(single)), 4).tolist()
    one = sum_cells(count({key: single}))
    clustered, naive = sum_cells(count({key: repeated}, {key: authors})), sum_cells(count({key: repeated}))
    assert clustered[key].design_effects.mean() == pytest.approx(4, rel=0.25)  # 4 labels, each with a deviation of 14 %
    assert (naive[key].design_effects == 1).all()

    def find_width(cells):  # of the group's part alone, by many validation rows
        gold, probabilities = draw(100_000, np.random.default_rng(7))
        return np.diff(measure(cells, count_validation([], gold, probabilities, None, RULE), []).bounds[0])[:2, 0]

    assert find_width(clustered) == pytest.approx(find_width(one), rel=0.35)
    assert find_width(naive) == pytest.approx(find_width(one) / 2, rel=0.2)


def test_groups_that_are_too_small():
    generator = np.random.default_rng(8)
    parts = {CellKey("", name): draw(size, generator)[1] for name, size in (("a", 500), ("b", MIN_ROWS - 1), ("c", 500), ("d", 500))}
    cells = count(parts)
    assert [key.group for key, cell in cells.items() if cell.is_small] == ["b"]
    found, _ = measure_all(cells)
    assert {change.second.group for change in found.changes} == {"a", "c", "d"}
    authors = [number % (MIN_BATCHES // 2) for number in range(500)]
    few_authors = count({CellKey(): parts[CellKey("", "a")]}, {CellKey(): authors})
    assert few_authors[CellKey()].is_small


def test_what_is_compared():
    generator = np.random.default_rng(9)

    def list_pairs(keys):
        return [tuple(map(str, pair)) for pair in list_comparisons(sum_cells(count({key: draw(150, generator)[1] for key in keys})))]

    assert list_pairs([CellKey("1", "a"), CellKey("2", "a")]) == [("1", "2")]
    assert list_pairs([CellKey("", "a"), CellKey("", "b")]) == [("a", "b")]
    assert list_pairs([CellKey("", name) for name in "abc"]) == [(f"all but {name}", name) for name in "abc"]
    # A group whose name looks like that of the rest is one of the three, and the rest of it is another cell.
    assert list_pairs([CellKey("", name) for name in ("a", "all but a", "c")]) == [
        ("all but a", "a"),
        ("all but all but a", "all but a"),
        ("all but c", "c"),
    ]
    assert list_pairs([CellKey("1", "a")]) == []
    expected = [("1", "2"), ("a, 1", "a, 2"), ("b, 1", "b, 2"), ("a", "b")]
    assert list_pairs([CellKey(period, group) for period in "12" for group in "ab"]) == expected


def test_cells_do_not_depend_on_how_the_rows_are_cut():
    generator = np.random.default_rng(10)
    probabilities = draw(1_000, generator)[1]
    keys = [CellKey(str(number % 3), "ab"[number % 2]) for number in range(1_000)]
    texts, authors = [f"text {number}" for number in range(1_000)], list(range(1_000))
    predictions = RULE.decide(probabilities)
    whole, cut = CellCounter(4, True), CellCounter(4, True)
    whole.add(keys, probabilities, predictions, texts, authors)
    for rows in np.array_split(np.arange(1_000), 7):
        own = [[values[row] for row in rows] for values in (keys, texts, authors)]
        cut.add(own[0], probabilities[rows], predictions[rows], own[1], own[2])
    assert set(whole.cells) == set(cut.cells) and len(whole.cells) == 6
    for key, cell in whole.cells.items():
        other = cut.cells[key]
        assert np.array_equal(cell.counts, other.counts) and cell.num_rows == other.num_rows
        assert other.sums == pytest.approx(cell.sums) and other.batches == pytest.approx(cell.batches)
        assert len(other.texts) == len(cell.texts) == min(cell.num_rows, NUM_TEXTS)
        assert {label: len(found) for label, found in cell.examples.items()} == {
            label: len(found) for label, found in other.examples.items()
        }
        for label, found in other.examples.items():
            allowed = {texts[row] for row in range(1_000) if keys[row] == key and predictions[row, label]}
            assert {text for _, text in found} <= allowed and len(found) == min(len(allowed), NUM_EXAMPLES)
    total = sum_cells(cut.cells)[CellKey()]
    assert total.num_rows == 1_000 and total.counts.sum() == 4_000
    rest = total.without(cut.cells[keys[0]])
    assert rest.num_rows == 1_000 - cut.cells[keys[0]].num_rows and rest.counts.sum() == 4 * rest.num_rows


def test_a_label_without_validation_rows_is_unknown():
    gold = VALIDATION_GOLD.copy()
    gold[:, 3] = False
    rows = count_validation([], gold, VALIDATION, None, RULE)
    cells = sum_cells(count({CellKey(month): draw(200, np.random.default_rng(11))[1] for month in MONTHS}))
    found = measure(cells, rows, list_comparisons(cells))
    assert np.isnan(found.estimates[:, 3]).all() and np.isfinite(found.estimates[:, :3]).all()
    assert {change.label for change in found.changes} == {0, 1, 2}


def test_labels_that_were_not_annotated_do_not_count():
    is_judged = np.random.default_rng(12).random(VALIDATION.shape) < 0.5
    rows = count_validation([], VALIDATION_GOLD & is_judged, VALIDATION, is_judged, RULE)
    assert np.array_equal(rows.supports, (VALIDATION_GOLD & is_judged).sum(axis=0))
    assert np.array_equal(rows.supports + rows.negatives.sum(axis=1), is_judged.sum(axis=0))


def test_a_cluster_has_one_batch_by_its_name_only():
    assert find_batch("anna") == find_batch("anna") and find_batch(3) == find_batch("3")
    assert len({find_batch(number) for number in range(2_000)}) == 100
