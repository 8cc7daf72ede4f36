import json

import pytest

from emotion.files import write_json, written_beside


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_beside(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "model"
    for content in ("one", "two"):
        with written_beside(path) as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [child.name for child in path.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [path]


def test_json_has_null_for_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "é": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "é": None}
