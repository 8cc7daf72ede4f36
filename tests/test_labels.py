import numpy as np
import pytest

from emotion.errors import DataError
from emotion.labels import LabelSet

LABELS = LabelSet(("anger", "joy", "fear"))


def test_encode_takes_names_and_ids():
    encoded = LABELS.encode([["joy"], [0, "2"], [], ["fear", "fear"]])
    np.testing.assert_array_equal(encoded, [[0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert encoded.dtype == bool


def test_decode_inverts_encode():
    assert LABELS.decode(LABELS.encode([["anger", "fear"]])[0]) == ["anger", "fear"]


def test_name_of_digits_comes_before_an_id():
    assert LabelSet(("1", "0")).column("1") == 0


@pytest.mark.parametrize("label", ["joi", "3", -1, 3])
def test_unknown_label_is_refused(label):
    with pytest.raises(DataError, match="unknown label"):
        LABELS.column(label)


def test_nearest_label_is_named():
    with pytest.raises(DataError, match="did you mean 'joy'"):
        LABELS.column("joyy")


@pytest.mark.parametrize("names", [("a",), ("a", "a"), ("a", "")])
def test_impossible_sets_are_refused(names):
    with pytest.raises(DataError):
        LabelSet(names)
