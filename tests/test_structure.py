"""The house rules: who imports whom, nothing heavy at import, the README true to the tree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emotion.config import describe_keys, format_keys

ROOT = Path(__file__).parents[1]
LAYERS = {
    "errors": 6,
    "labels": 5,
    "config": 5,
    "files": 5,
    "data": 4,
    "modeling": 4,
    "evaluation": 4,
    "training": 3,
    "inference": 2,
    "tracking": 2,
}
MODULES = sorted((ROOT / "emotion").rglob("*.py"))
LAZY = {"bitsandbytes", "peft", "wandb", "onnxruntime", "matplotlib", "datasets"}


def imports(path: Path, only_top_level: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if only_top_level else list(ast.walk(tree))
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "emotion" else [str(node.module)]
    return names


def part_of(module: str) -> str:
    return module.split(".")[1]


def test_every_module_is_walked():
    assert len(MODULES) > 25
    parts = {path.relative_to(ROOT / "emotion").parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert parts == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    part = path.relative_to(ROOT / "emotion").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    for module in imports(path):
        if module.startswith("emotion."):
            other = part_of(module)
            is_same = other == part
            assert is_same or LAYERS[other] > LAYERS[part], f"{path} imports {module}"


def test_scripts_do_not_import_one_another():
    scripts = sorted(ROOT.glob("*.py"))
    assert {script.stem for script in scripts} >= {"train", "evaluate", "infer"}
    for script in scripts:
        assert not set(imports(script)) & {other.stem for other in scripts}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_and_slow_packages_are_imported_where_they_are_used(path):
    roots = {name.split(".")[0] for name in imports(path, only_top_level=True)}
    assert not roots & LAZY


def test_reading_and_evaluation_work_without_torch():
    code = "import sys; import emotion.data.reading, emotion.evaluation.reporting, emotion.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_readme_lists_every_key_with_its_default():
    readme = (ROOT / "README.md").read_text()
    assert len(describe_keys()) > 30
    assert format_keys() in readme  # printed by `python train.py --keys`


def test_readme_commands_name_files_and_options_that_exist():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    commands = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    assert len(commands) > 8
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in commands:
        words = command.split("#")[0].split()
        if words[0] == "make":
            assert words[1] in targets
        for script in (word for word in words if re.fullmatch(r"\w+\.py", word)):
            source = (ROOT / script).read_text()
            for option in (word for word in words[words.index(script) :] if word.startswith("--")):
                assert f'"{option}"' in source, command
        for config in (word for word in words if word.startswith("configs/")):
            assert (ROOT / config).is_file(), command


def test_file_map_names_what_is_there():
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("## File map") :]
    for path in [*ROOT.glob("*.py"), *(p for p in MODULES if p.name != "__init__.py" and p.parent.name != "reading")]:
        assert path.name in section, path
