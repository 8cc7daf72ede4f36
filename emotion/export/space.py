"""Publish the page with a run's model as a Gradio Space on the Hub, which needs nothing but its own files and packages."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import emotion
from emotion.errors import ConfigError, ModelError
from emotion.export.hub import describe_visibility, list_files, open_hub, read_public, translate_hub_errors, warn_of_visibility
from emotion.files import copy_folder
from emotion.inference.numpy_predictor import is_numpy_supported
from emotion.inference.onnx_predictor import has_onnx
from emotion.tracking.run_folder import RunFolder

PACKAGE = Path(emotion.__file__).parent
ROOT = PACKAGE.parent
"""Folder of the scripts and the lists of requirements."""
OWN_FILES = ["runs/*", "emotion/*"]
"""What a push replaces as a whole, with the folders inside: otherwise the page could answer with a run that was pushed before."""
TORCH_FREE_PACKAGES = ("safetensors", "numpy", "pandas", "pyarrow", "filelock", "tqdm", "pyyaml", "psutil")
"""Requirements of a page whose model runs in numpy or on ONNX Runtime; Gradio brings more."""
TOKENIZERS = "tokenizers>=0.22,<1"
"""transformers brings it otherwise."""
PYTHON_VERSION = "3.11"
GRADIO_VERSION = "6.31.0"
"""If Gradio is not installed where the Space is made."""
README = """---
{front_matter}---

# {title}

A page that tells the emotions in texts: try a text, score a file, read how good the model is.{model}
Texts that you type are sent to this Space.
"""


def push_space(run: RunFolder, name: str, is_private: bool) -> str:
    """Create the Space if needed, upload the page and the run's model in one commit, and return the address.

    Raises: ModelError without a token, without write access to the name, or if the Hub cannot be reached.
    """
    option = f"--push-space {name}"
    api = open_hub(option)
    with build_space(run, name) as folder, translate_hub_errors(option):
        space: Any = api.create_repo(name, repo_type="space", space_sdk="gradio", private=is_private, exist_ok=True)
        warn_of_visibility(name, api.space_info(space.repo_id).private, is_private)
        upload: dict[str, Any] = {"folder_path": folder, "delete_patterns": OWN_FILES, "commit_message": f"Upload {run.path.name}"}
        api.upload_folder(repo_id=space.repo_id, repo_type="space", **upload)
    return f"{api.endpoint}/spaces/{space.repo_id}"


def format_space_files(run: RunFolder, name: str, is_private: bool) -> str:
    """Return the list of the files that a push would upload; the package is one line."""
    with build_space(run, name) as folder:
        sizes = {path.relative_to(folder): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    package = {path: size for path, size in sizes.items() if path.parts[0] == "emotion"}
    lines = [f"would upload to the Space {name} ({describe_visibility(is_private)}), {sum(sizes.values()):,} bytes:"]
    lines += [f"  {size:>13,}  {path}" for path, size in sizes.items() if path not in package]
    return "\n".join([*lines, f"  {sum(package.values()):>13,}  emotion/ ({len(package)} files)"])


@contextmanager
def build_space(run: RunFolder, name: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of the Space.

    Raises: ModelError if the run has no model; ConfigError if the scripts are not beside the package.
    """
    list_files(run)  # raises without a model
    if not run.efficiency.is_file():
        raise ModelError(f"--push-space {name}: {run.path} is not finished; go on with train.py --resume, and push it then")
    if not (ROOT / "app.py").is_file() or not (ROOT / "requirements-app.txt").is_file():
        raise ConfigError(f"--push-space {name}: app.py is not beside the package {PACKAGE}; run export.py in a checkout of the project")
    with tempfile.TemporaryDirectory() as tmp_dir:
        folder = Path(tmp_dir)
        shutil.copyfile(ROOT / "app.py", folder / "app.py")
        ignored = shutil.ignore_patterns("__pycache__", "sample")
        shutil.copytree(PACKAGE, folder / "emotion", ignore=ignored)
        (folder / "requirements.txt").write_text("\n".join(list_requirements(run)) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(write_readme(run, name), encoding="utf-8")
        copy_run(run, RunFolder(folder / "runs" / run.path.name))
        yield folder


def copy_run(run: RunFolder, target: RunFolder) -> None:
    """Copy what the page reads of a run: the model, the report, and the validation predictions without the ids of their rows.

    The config stays: it names paths of the machine that trained the model.
    """
    copy_folder(run.model, target.model)
    for file, content in read_public(run.model).items():
        (target.model / file).write_bytes(content)
    shutil.copyfile(run.efficiency, target.efficiency)
    for split in ("test", "validation"):
        if (run.report(split) / "metrics.json").is_file():
            copy_folder(run.report(split), target.report(split))
            break
    if run.predictions("validation").is_file():
        rows = run.read_predictions("validation")
        ids = [str(number) for number in range(len(rows.ids))]
        target.write_predictions("validation", ids, rows.labels, rows.probabilities, rows.label_set, rows.is_judged)


def list_requirements(run: RunFolder) -> list[str]:
    """Return the packages of the Space: without torch if the model runs in numpy or has an ONNX graph."""
    names = ("requirements-app.txt", "requirements-excel.txt", "requirements.txt", "requirements-onnx.txt")
    app, excel, full, onnx = (_read_lines(ROOT / name) for name in names)
    is_onnx = has_onnx(run.model, "fp32")
    runtime = [line for line in onnx if _name_package(line) == "onnxruntime"] if is_onnx else []
    if not is_onnx and not is_numpy_supported(run.model):
        return [*app, *excel, *full]
    return [*app, *excel, TOKENIZERS, *(line for line in full if _name_package(line) in TORCH_FREE_PACKAGES), *runtime]


def write_readme(run: RunFolder, name: str) -> str:
    """Return the README of the Space, with the front matter that the Hub reads."""
    title = name.rpartition("/")[2]
    model = run.read_config().hub.repo
    front_matter: dict[str, Any] = {
        "title": title,
        "emoji": "💬",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": _find_gradio_version(),
        "python_version": PYTHON_VERSION,
        "app_file": "app.py",
        "pinned": False,
        "license": "apache-2.0",
        "short_description": "Multi-label emotion detection",
    }
    if model is not None:
        front_matter["models"] = [model]
    link = f" The model is [{model}](https://huggingface.co/{model})." if model is not None else ""
    return README.format(front_matter=yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True), title=title, model=link)


def _read_lines(path: Path) -> list[str]:
    """Return the requirements in a file, without comments; a file of an optional part may be missing."""
    if not path.is_file():
        return []
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _name_package(line: str) -> str:
    return re.split(r"[<>=~!\[ ;]", line, maxsplit=1)[0].lower()


def _find_gradio_version() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return GRADIO_VERSION
