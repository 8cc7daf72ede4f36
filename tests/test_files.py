import errno
import json
import os
import threading
from pathlib import Path

import pytest
from safetensors import SafetensorError

from emotion.errors import StorageError
from emotion.files import append_line, atomic_write, restore_name, write_json


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as partial:
        partial.write_text("incomplete")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_rename_that_windows_refuses_is_tried_again(tmp_path, monkeypatch):
    """A virus scanner has the file open for a moment."""
    refusals, replace = [PermissionError(errno.EACCES, "Permission denied")] * 2, Path.replace

    def replace_later(path, target):
        if refusals:
            raise refusals.pop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_later)
    with pytest.raises(StorageError, match="cannot be written"), atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert len(refusals) == 1
    monkeypatch.setattr("emotion.files.SECONDS_TO_RENAME", 60.0)
    with atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new" and not refusals and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


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
    message = r"scores\.json: .*(space|quota).* \(2\.00 MiB needed, .* MiB free\); free some space"
    if "size limit" in error:
        message = r"scores\.json: the file exceeds the size limit \(ulimit -f\) \(2\.00 MiB needed\); raise the limit and start again$"
    with pytest.raises(StorageError, match=message), atomic_write(path, 2 << 20) as partial:
        partial.write_text("new")
        raise DISK_FULL_ERRORS[error]
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n" * 247, "n" * 240])
def test_a_name_as_long_as_the_system_allows_is_written_and_replaced(name, tmp_path):
    for content in ("one", "two"):
        with atomic_write(tmp_path / name) as partial:
            partial.write_text(content)
    assert (tmp_path / name).read_text() == "two" and [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
    for content in ("one", "two"):
        with atomic_write(tmp_path / name) as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [path.name for path in (tmp_path / name).iterdir()] == ["two"] and len(list(tmp_path.iterdir())) == 1


def test_two_long_names_do_not_share_a_temporary_file(tmp_path):
    with atomic_write(tmp_path / ("n" * 250 + "a")) as one, atomic_write(tmp_path / ("n" * 250 + "b")) as other:
        assert one != other
        one.write_text("a")
        other.write_text("b")
    assert (tmp_path / ("n" * 250 + "a")).read_text() == "a"


def refuse(path):
    """Write to a path and return the message; nothing is written before."""
    is_reached = False
    with pytest.raises(StorageError) as caught, atomic_write(path) as partial:
        is_reached = True
        partial.write_text("new")
    assert not is_reached
    return str(caught.value)


def test_a_path_that_cannot_be_written_is_one_line_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    too_long = tmp_path / ("n" * 256)
    assert refuse(too_long) == f"{too_long}: cannot be written (File name too long); choose another path"
    inside = tmp_path / "file" / "inside"
    assert refuse(inside) == f"{inside}: cannot be written (File exists); choose another path"
    below = tmp_path / "file" / "below" / "it"
    assert refuse(below) == f"{below}: cannot be written (Not a directory); choose another path"

    def refuse_unlink(self, missing_ok=False):  # Linux says so before it looks whether the file exists
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "unlink", refuse_unlink)
    assert refuse(tmp_path / "new") == f"{tmp_path / 'new'}: cannot be written (Read-only file system); choose another path"


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path):
    """A rename would: as root, a report into /dev/null would remove it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refuse(pipe) == f"{pipe}: is neither a file nor a folder; choose another path"
    assert pipe.is_fifo()


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").touch()
    (tmp_path / "link").symlink_to("folder")
    with atomic_write(tmp_path / "link") as partial:
        partial.mkdir()
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "a.txt").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "link"}


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "a.txt").touch()
    with pytest.raises(StorageError) as caught:
        write_json(folder, {})
    assert str(caught.value) == f"{folder}: is a folder; give the name of a file"
    assert {path.name for path in tmp_path.rglob("*")} == {"results", "a.txt"}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_refusal_inside_the_block_is_about_its_own_file_only(number, tmp_path):
    path, reason = tmp_path / "a.txt", os.strerror(number)
    with pytest.raises(StorageError) as caught, atomic_write(path) as partial:
        raise OSError(number, reason, str(partial))
    assert str(caught.value) == f"{path}: cannot be written ({reason}); choose another path"
    with pytest.raises(OSError, match=r"other\.csv") as other, atomic_write(path):
        raise OSError(number, reason, str(tmp_path / "other.csv"))
    assert other.value.errno == number


def test_a_line_that_cannot_be_appended_is_one_line(tmp_path):
    with pytest.raises(StorageError) as caught:
        append_line(tmp_path, "row")
    assert str(caught.value) == f"{tmp_path}: cannot be written (Is a directory)"


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_files_of_a_folder_have_the_permissions_of_the_umask(mask, tmp_path):
    """safetensors writes files that only their owner can read."""
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "model") as partial:
            (partial / "onnx").mkdir(parents=True)
            for name in ("model.safetensors", "onnx/model.onnx", "config.json"):
                (partial / name).touch()
            (partial / "model.safetensors").chmod(0o600)
            (partial / "onnx" / "model.onnx").chmod(0o644)
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    paths = list(tmp_path.rglob("*"))
    assert len(paths) == 6
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_a_folder_that_lost_its_name_gets_it_back(tmp_path):
    """A kill between the two renames leaves only the old folder, under its temporary name."""
    path = tmp_path / "model"
    (tmp_path / ".model.old").mkdir()
    restore_name(path)
    assert [child.name for child in tmp_path.iterdir()] == ["model"]
    (tmp_path / ".model.old").mkdir()
    (path / "new").touch()
    restore_name(path)
    assert (path / "new").is_file()


def test_text_that_is_not_utf8_is_read_back_from_json(tmp_path):
    write_json(tmp_path / "a.json", {"caf\udce9": ["é"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"caf\udce9": ["é"]}


def test_two_that_write_the_same_at_the_same_time_both_end(tmp_path):
    """Each has a temporary file of its own; with one for both, the first rename would take it away from the second."""
    path, (first, second) = tmp_path / "part", (threading.Barrier(2), threading.Barrier(2))
    errors = []

    def write():
        try:
            with atomic_write(path, is_shared=True) as partial:
                partial.write_text("the same")
                first.wait(10)  # both have written
            second.wait(10)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and path.read_text() == "the same" and [file.name for file in tmp_path.iterdir()] == ["part"]
