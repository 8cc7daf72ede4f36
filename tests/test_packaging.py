"""What `pip install .` installs, and that the files around the code agree with one another."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser

import pytest
import yaml

import emotion
from tests.conftest import ROOT

REQUIREMENTS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
EXTRAS = {
    "onnx": ("requirements-onnx.txt",),
    "backbones": ("requirements-backbones.txt",),
    "audit": ("requirements-audit.txt",),
    "docs": ("requirements-docs.txt",),
    "excel": ("requirements-excel.txt",),
    "ray": ("requirements-ray.txt",),
    "app": ("requirements-app.txt",),
    "serve": ("requirements-serve.txt",),
    "dev": ("requirements-onnx.txt", "requirements-excel.txt", "requirements-app.txt", "requirements-serve.txt", "requirements-dev.txt"),
}
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read_requirements(*names):
    """Return the requirements of files, each as `name specifiers` without blanks, sorted."""
    lines = [line.split("#")[0].strip() for name in names for line in (ROOT / name).read_text().splitlines()]
    return sorted(normalize(line) for line in lines if line)


def normalize(requirement):
    name, specifiers = re.fullmatch(r"([\w.-]+(?:\[\w+\])?)\s*(.*)", requirement).groups()
    return name.lower().replace("_", "-").replace(".", "-"), sorted(specifiers.replace(" ", "").split(","))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the project."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("LICENSE", "README.md", "pyproject.toml", *REQUIREMENTS):
        shutil.copy(ROOT / name, source)
    for name in ("emotion", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", code, str(target)], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (path,) = target.glob("*.whl")
    assert path.name == f"emotion-{emotion.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "emotion").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files >= {"emotion/__init__.py", "emotion/py.typed", "emotion/data/sample/train.csv", "emotion/data/behaviour/suite.jsonl"}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files


@pytest.mark.slow
def test_the_metadata_name_version_and_requirements(wheel):
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(path).decode())
    assert (metadata["Version"], metadata["License-Expression"]) == (emotion.__version__, "Apache-2.0")
    assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text().strip()
    requirements: dict[str, list] = {}
    for line in metadata.get_all("Requires-Dist"):
        requirement, _, marker = line.partition(";")
        requirements.setdefault(marker.strip(), []).append(normalize(requirement.strip()))
    expected = {"": read_requirements("requirements.txt")}
    expected |= {f'extra == "{extra}"': read_requirements(*names) for extra, names in EXTRAS.items()}
    assert len(expected[""]) > 10
    assert {marker: sorted(found) for marker, found in requirements.items()} == expected
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)


def test_no_file_of_requirements_includes_another():
    """setuptools reads the files that `pyproject.toml` names, and does not follow `-r`."""
    assert {"requirements.txt", *(name for names in EXTRAS.values() for name in names)} == set(REQUIREMENTS)
    for name in REQUIREMENTS:
        assert not re.search(r"^\s*-", (ROOT / name).read_text(), re.M), name


def test_the_workflow_tests_the_versions_that_the_package_promises():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    assert len(promised) > 1
    assert job["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"
    assert job["steps"][-1]["run"] == "make test PYTHON=python${{ matrix.python }}"


def test_hooks_run_the_installed_tools():
    """In their pinned versions, so that a hook and `make lint` cannot disagree."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tools = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert tools == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/codespell"]
    pinned = {name for name, specifiers in read_requirements("requirements-dev.txt") if specifiers[0].startswith("==")}
    assert pinned >= {"ruff", "codespell"}


def test_issue_templates_are_forms():
    assert {path.stem for path in TEMPLATES} == {"bug", "config", "misread_data", "question"}
    for path in TEMPLATES:
        fields = yaml.safe_load(path.read_text())
        if path.stem == "config":
            continue
        assert set(fields) == {"name", "description", "labels", "body"}
        asked = [part for part in fields["body"] if part["type"] != "markdown"]
        assert {part["type"] for part in asked} <= {"input", "textarea"}
        assert len({part["id"] for part in asked}) == len(asked) > 0
        assert all(part["attributes"]["label"] for part in asked)
