import numpy as np
import pytest

from emotion.config import load_config
from emotion.data.reading import read_dataset
from emotion.data.splitting import normalize_text, split_folds, split_rows
from emotion.errors import DataError


def make_rows(num_rows=400, num_labels=6, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.random((num_rows, num_labels)) < np.linspace(0.03, 0.5, num_labels)
    return [f"text {i}" for i in range(num_rows)], labels


def test_every_row_is_on_one_side():
    texts, labels = make_rows()
    kept, taken = split_rows(texts, labels, 0.2, seed=1)
    assert sorted([*kept, *taken]) == list(range(len(texts)))
    assert abs(len(taken) - 80) <= 2


def test_split_keeps_the_fraction_of_each_label():
    texts, labels = make_rows(2_000)
    _, taken = split_rows(texts, labels, 0.25, seed=0)
    np.testing.assert_allclose(labels[taken].sum(axis=0), labels.sum(axis=0) * 0.25, atol=3)


def test_split_depends_on_the_seed_only():
    texts, labels = make_rows()
    first, again, other = (split_rows(texts, labels, 0.2, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_with_the_same_text_stay_on_one_side():
    texts, labels = make_rows(200)
    doubled = texts + [f"  {text.upper()} " for text in texts]
    kept, taken = split_rows(doubled, np.vstack([labels, labels[::-1]]), 0.3, seed=0)
    assert not {normalize_text(doubled[i]) for i in kept} & {normalize_text(doubled[i]) for i in taken}
    assert len(taken) > 0


def test_too_few_distinct_texts_raise():
    with pytest.raises(DataError, match="1 distinct text is too few to split off"):
        split_rows(["a", "A"], np.ones((2, 2), dtype=bool), 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_side_that_would_have_no_text_raises_with_what_to_do(fraction):
    texts, labels = make_rows(160)
    message = f"160 distinct texts are too few to split off a fraction of {fraction}; give more rows"
    with pytest.raises(DataError, match=f"^{message}$"):
        split_rows(texts, labels, fraction, seed=0, remedy="give more rows")


@pytest.mark.parametrize("labels", [np.zeros((50, 3), bool), np.ones((50, 1), bool), np.ones((50, 3), bool)])
def test_rows_that_all_have_the_same_labels_are_split(labels):
    kept, taken = split_rows([f"text {i}" for i in range(50)], labels, 0.1, seed=0)
    assert len(taken) == 5 and sorted([*kept, *taken]) == list(range(50))


@pytest.mark.parametrize("num_labels, median", [(120, 2), (200, 1)])
def test_too_few_texts_of_each_label_raise_with_the_numbers(num_labels, median):
    labels = np.zeros((200, num_labels), bool)
    labels[np.arange(200), np.arange(200) % num_labels] = True
    with pytest.raises(DataError) as caught:
        split_rows([f"text {i}" for i in range(200)], labels, 0.1, seed=0)
    assert str(caught.value) == (
        f"200 distinct texts with {num_labels} different labels (the median label is in {median}) are too few to split off "
        "a fraction of 0.1, which needs 10 texts of a label; give the split as a file"
    )


def test_train_fraction_keeps_every_label():
    full = read_dataset(load_config(None).data)
    part = read_dataset(load_config(None, ["data.train_fraction=0.25"]).data)
    assert abs(len(part["train"]) - 325) <= 4
    assert part["train"].labels.sum(axis=0).min() >= 10
    assert set(part["train"].ids) < set(full["train"].ids)
    assert part["test"].ids == full["test"].ids


def test_folds_hold_each_row_once_keep_copies_together_and_are_stratified():
    generator = np.random.default_rng(0)
    texts = [f"Text {number}" for number in range(90)] + [f"text  {number}" for number in range(30)]
    labels = np.zeros((120, 3), dtype=bool)
    labels[:, 0] = generator.random(120) < 0.5
    labels[::12, 1] = True  # ten rows, which are ten texts; no row has the last label
    folds = split_folds(texts, labels, 5, seed=0)
    assert sorted(set(folds)) == [0, 1, 2, 3, 4] and len(folds) == 120
    assert folds[:30].tolist() == folds[90:].tolist()
    assert np.bincount(folds[:90]).max() - np.bincount(folds[:90]).min() <= 4
    assert set(np.bincount(folds[labels[:, 1]], minlength=5)) <= {1, 2, 3}
    assert folds.tolist() == split_folds(texts, labels, 5, seed=0).tolist() != split_folds(texts, labels, 5, seed=1).tolist()


def test_folds_of_rows_with_the_same_label_and_of_too_few_texts():
    folds = split_folds(["a", "b", "c", "d"], np.ones((4, 1), dtype=bool), 2, seed=0)
    assert sorted(folds) == [0, 0, 1, 1]
    with pytest.raises(DataError, match="2 distinct texts are too few for 3 folds"):
        split_folds(["a", "b", "A "], np.ones((3, 2), dtype=bool), 3, seed=0)
