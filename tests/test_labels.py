import numpy as np
import pytest

from emotion.errors import DataError, ModelError
from emotion.labels import LabelSet

LABELS = LabelSet(("anger", "joy", "fear"))


def test_encode_accepts_names_and_ids():
    encoded = LABELS.encode([["joy"], [0, "2"], [], ["fear", "fear"]])
    np.testing.assert_array_equal(encoded, [[0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert encoded.dtype == bool


def test_decode_is_the_inverse_of_encode():
    assert LABELS.decode(LABELS.encode([["anger", "fear"]])[0]) == ["anger", "fear"]


def test_name_takes_precedence_over_an_id():
    assert LabelSet(("1", "0")).column("1") == 0


def test_a_number_is_a_name_where_names_are_numbers():
    numbers = LabelSet(("1", "2", "3"))
    assert [numbers.column(label) for label in (1, "1", "03", 3)] == [0, 0, 2, 2]
    assert numbers.encode_columns([[1]]).tolist() == [[False, True, False]]
    with pytest.raises(DataError, match="unknown label '0'"):
        numbers.column("0")


@pytest.mark.parametrize("name", ["Joy", " JOY ", "jo\u200by", "\ufeffjoy"])
def test_names_that_look_the_same_match(name):
    assert LABELS.column(name) == 1


def test_an_exact_name_wins_and_an_ambiguous_one_is_unknown():
    labels = LabelSet(("Joy", "joy", "no  emotion", "e\u0301"))
    assert [labels.column(name) for name in ("Joy", "joy", "No emotion", "\xe9")] == [0, 1, 2, 3]
    with pytest.raises(DataError, match="unknown label 'JOY'"):
        labels.column("JOY")


@pytest.mark.parametrize("label", ["joi", "3", -1, 3, "9" * 5_000])
def test_unknown_label_raises(label):
    with pytest.raises(DataError, match="unknown label"):
        LABELS.column(label)


def test_error_suggests_the_nearest_label():
    with pytest.raises(DataError, match="did you mean 'joy'"):
        LABELS.column("joyy")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a",), "at least 2"),
        (("a", "a"), "unique"),
        (("a", ""), "not empty"),
        (("a", "caf\udce9"), r"^labels: names must be valid UTF-8, got 'caf\\udce9'; save the data as UTF-8$"),
    ],
)
def test_invalid_label_names_raise(names, message):
    with pytest.raises(DataError, match=message):
        LabelSet(names)


def test_a_model_with_another_number_of_outputs_is_refused():
    LABELS.check_outputs(3, "here")
    for number in (2, 4):
        with pytest.raises(ModelError, match=rf"^here: its head has {number} labels, its emotion\.json 3; restore the files"):
            LABELS.check_outputs(number, "here")


def test_a_cell_of_predicted_labels_is_split_as_it_was_joined():
    plain, odd = LabelSet(("joy", "=fear", "[x]")), LabelSet(("joy", "a|b"))
    assert plain.is_separable and not odd.is_separable
    for cell, names in (("joy|=fear", ["joy", "=fear"]), ("[x]", ["[x]"]), (["joy"], ["joy"]), ("", []), (None, []), ("'=fear", ["=fear"])):
        assert plain.split_cell(cell) == names
    assert odd.split_cell('["a|b", "joy"]') == odd.split_cell(["a|b", "joy"]) == ["a|b", "joy"]
    with pytest.raises(ValueError):
        odd.split_cell("[broken")
