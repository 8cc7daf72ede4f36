import errno
import json

import pytest
from safetensors import SafetensorError

from emotion.errors import StorageError
from emotion.files import atomic_write, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_write(path) as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [child.name for child in path.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [path]


def test_json_has_null_for_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "é": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "é": None}


FULL = {
    "python": OSError(errno.ENOSPC, "No space left on device"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "limit": OSError(errno.EFBIG, "File too large"),
    "safetensors at a limit": SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
}


@pytest.mark.parametrize("writer", FULL)
def test_full_device_is_one_line_and_what_was_there_stays(writer, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    said = r"scores\.json: .*(space|larger|quota).* \(needed are 2\.00 MiB, .* MiB free without it\): make room"
    with pytest.raises(StorageError, match=said), atomic_write(path, 2 << 20) as partial:
        partial.write_text("new")
        raise FULL[writer]
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["scores.json"]
