"""Files on local disks and in the cloud, by the filesystems of pyarrow: `/data/a.parquet`, `s3://bucket/a.parquet`, `gs://`, `abfs://`.

A name is an absolute local path or a URI, which means the same on every machine of a cluster with shared storage.
"""

import json
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emotion.data.reading.streams import expand_patterns
from emotion.errors import DataError, StorageError
from emotion.files import replace_nan
from emotion.paths import expand_path
from emotion.text import describe_error

HIDDEN = ("_", ".")
"""Readers of folders of parquet files skip names that begin with one of these."""


@dataclass(frozen=True)
class InputFile:
    """A file to score, and what tells whether it has changed."""

    name: str
    num_bytes: int
    mtime_ns: int


def open_filesystem(name: str) -> tuple[Any, str]:
    """Return the filesystem of pyarrow for a local path or a URI, and the path in it.

    Raises: DataError for a URI that pyarrow does not know.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem

    if "://" not in name:
        return LocalFileSystem(), str(expand_path(name).absolute())
    try:
        filesystem, path = FileSystem.from_uri(name)
    except Exception as error:  # the library raises many types
        raise DataError(f"{name}: cannot be opened ({describe_error(error)}); give a path, or a URI such as s3://BUCKET/NAME") from None
    return filesystem, path


def find_inputs(names: list[str]) -> list[InputFile]:
    """Return the files that names, folders and patterns match, in the given order; those of one folder or pattern are sorted.

    In a URI, `*` stands for any characters but a slash. Hidden files of a folder are left out.

    Raises: DataError if a name matches no file, or the files cannot be listed.
    """
    files: list[InputFile] = []
    for name in names:
        is_local = "://" not in name
        if is_local and not expand_path(name).is_dir():
            found = [file for path in expand_patterns([name]) for file in _list_files(str(path.absolute()), "")]
        else:
            is_pattern = "*" in name and not is_local
            base = name.partition("*")[0].rpartition("/")[0] if is_pattern else name
            found = _list_files(str(expand_path(base).absolute()) if is_local else base, name if is_pattern else "")
        if not found:
            raise DataError(f"--input {name}: no such file")
        files += found
    return files


def _list_files(base: str, pattern: str) -> list[InputFile]:
    """Return the file `base`, or the files of a folder: those that `pattern` matches, or all that are not hidden."""
    from pyarrow.fs import FileSelector, FileType

    filesystem, path = open_filesystem(base)
    try:
        found = filesystem.get_file_info([path])
        if is_folder := found[0].type == FileType.Directory:
            found = filesystem.get_file_info(FileSelector(path, recursive=bool(pattern)))
    except OSError as error:
        raise DataError(f"--input {base}: cannot be listed ({describe_error(error)})") from None
    files = [
        InputFile(base.rstrip("/") + file.path[len(path.rstrip("/")) :], file.size, file.mtime_ns or 0)
        for file in sorted(found, key=lambda file: file.path)
        if file.type == FileType.File and not (is_folder and file.base_name.startswith(HIDDEN))
    ]
    return [file for file in files if not pattern or PurePosixPath(file.name).match(pattern)]


class Folder:
    """A folder on any filesystem, whose files are complete or absent."""

    def __init__(self, name: str) -> None:
        self.name = name if "://" in name else str(expand_path(name).absolute())
        self.filesystem, self.path = open_filesystem(self.name)

    @property
    def local_path(self) -> Path | None:
        """The folder as a path of this machine; None in the cloud."""
        return Path(self.path) if "://" not in self.name else None

    def list_sizes(self, below: str = "") -> dict[str, int]:
        """Return names and sizes in bytes of the files in this folder, or in a folder below it; folders in it have size 0."""
        from pyarrow.fs import FileSelector

        infos = self.filesystem.get_file_info(FileSelector(f"{self.path}/{below}".rstrip("/"), allow_not_found=True))
        return {info.base_name: info.size or 0 for info in infos}

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; None if it does not exist or is damaged."""
        with suppress(OSError, ValueError, RecursionError), self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
            return json.loads(stream.read())
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file under another name and rename it: what has the name is complete.

        Raises: StorageError if it cannot be written.
        """
        target, partial = f"{self.path}/{name}", f"{self.path}/_partial/{uuid.uuid4().hex}"
        try:
            for folder in (target, partial):
                self.filesystem.create_dir(folder.rpartition("/")[0], recursive=True)
            with self.filesystem.open_output_stream(partial) as stream:
                stream.write(content)
            self.filesystem.move(partial, target)
        except OSError as error:
            raise StorageError(f"{self.name}/{name}: cannot be written ({describe_error(error)})") from None

    def write_json(self, name: str, values: Any) -> None:
        """Write values as JSON; nan and infinity become null."""
        self.write(name, json.dumps(replace_nan(values), indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))

    def move(self, name: str, target: "Folder") -> None:
        """Move a file to another folder of this filesystem, under the same name.

        Raises: StorageError if it cannot be moved.
        """
        try:
            self.filesystem.create_dir(f"{target.path}/{name}".rpartition("/")[0], recursive=True)
            self.filesystem.move(f"{self.path}/{name}", f"{target.path}/{name}")
        except OSError as error:
            raise StorageError(f"{target.name}/{name}: cannot be written ({describe_error(error)})") from None

    def delete(self, name: str) -> None:
        """Delete a file or folder, if it exists."""
        from pyarrow.fs import FileType

        (info,) = self.filesystem.get_file_info([f"{self.path}/{name}"])
        if info.type == FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == FileType.File:
            self.filesystem.delete_file(info.path)
