import errno
import json

import pytest
from safetensors import SafetensorError

from emotion.errors import StorageError
from emotion.files import atomic_write, write_json


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_text("incomplete")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folder_is_replaced_completely(tmp_path):
    path = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_write(path) as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [child.name for child in path.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [path]


def test_nan_and_infinity_become_null_in_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "é": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "é": None}


DISK_FULL_ERRORS = {
    "python": OSError(errno.ENOSPC, "No space left on device"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "size limit": OSError(errno.EFBIG, "File too large"),
    "safetensors at the size limit": SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
}


@pytest.mark.parametrize("error", DISK_FULL_ERRORS)
def test_full_disk_raises_one_line_and_keeps_the_old_file(error, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    message = r"scores\.json: .*(space|size limit|quota).* \(2\.00 MiB needed, .* MiB free\); free some space"
    with pytest.raises(StorageError, match=message), atomic_write(path, 2 << 20) as partial:
        partial.write_text("new")
        raise DISK_FULL_ERRORS[error]
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["scores.json"]
