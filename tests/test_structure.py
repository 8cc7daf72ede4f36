"""The house rules: imports point down, optional packages are imported where they are used, the method is in train.py."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"api"},
    {"app", "serving", "training"},
    {"analysis", "export", "scoring"},
    {"tracking"},
    {"inference", "planning"},
    {"modeling"},
    {"evaluation", "data"},
    {"distributed"},
    {"cpu", "arguments"},
    {"config", "labels", "ratings", "files", "locks", "checks", "hub"},
    {"errors"},
    {"secrets", "text", "words", "paths"},
]
"""Rooms of the package, top floor first; a room imports from floors below its own only."""
LEVEL = {room: -number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in (ROOT / "emotion").rglob("*.py") if path != ROOT / "emotion" / "__init__.py")
SCRIPTS = sorted(ROOT.glob("*.py"))
LAZY = {"bitsandbytes", "peft", "wandb", "onnxruntime", "onnx", "matplotlib", "datasets", "ray"}
LAZY |= {"gradio", "fastapi", "starlette", "uvicorn", "prometheus_client"}
SERVERS = {
    "app": ({"page.py", "theme.py"}, {"gradio"}),
    "serving": ({"application.py", "metrics.py", "server.py"}, {"fastapi", "starlette", "uvicorn", "prometheus_client"}),
}
"""By room, the modules that are imported only to serve, and the packages that they may therefore import."""


def list_imports(path: Path, is_top_level_only: bool = False) -> list[str]:
    """Return the dotted names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    names = []
    for node in tree.body if is_top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "emotion" else [str(node.module)]
    return names


def find_room(path: Path) -> str:
    return path.relative_to(ROOT / "emotion").parts[0].removesuffix(".py")


def test_every_module_is_walked():
    assert len(MODULES) > 60
    assert {find_room(path) for path in MODULES} <= set(LEVEL) and set(LEVEL) - {find_room(path) for path in MODULES} <= {"api"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = find_room(path)
    for module in list_imports(path):
        if module.startswith("emotion."):
            other = module.split(".")[1]
            assert other == room or LEVEL[other] < LEVEL[room], f"{path} imports {module}"


def test_scripts_do_not_import_one_another():
    assert {script.stem for script in SCRIPTS} >= {"train", "evaluate", "infer", "compare", "export", "app", "serve", "audit"}
    for script in SCRIPTS:
        assert not set(list_imports(script)) & {other.stem for other in SCRIPTS}


def test_the_method_is_in_train():
    """In this order: forward, loss, backward, clipping, optimizer, scheduler, validation, decision rule, keep the best."""
    source = (ROOT / "train.py").read_text()
    loop = source[source.index("def train(") : source.index("def parse_arguments")]
    for steps in (
        ["run.backward(compute_loss(", "clip_gradients(", "optimizer.step()", "scheduler.step()", "optimizer.zero_grad()", "validate_and"],
        ["model(**micro_batch.inputs).logits", "loss_function(logits, micro_batch.labels)"],
        ["run.predict(", "score_checkpoint(", "is_better_than(", "save_best("],
    ):
        places = [loop.index(step) for step in steps]
        assert places == sorted(places), steps
    assert len(source.splitlines()) <= 160


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_and_slow_packages_are_imported_where_they_are_used(path):
    roots = {name.split(".")[0] for name in list_imports(path, is_top_level_only=True)}
    names, allowed = SERVERS.get(find_room(path), (set(), set()))
    assert not roots & (LAZY - allowed if path.name in names else LAZY)


@pytest.mark.parametrize(
    "modules",
    [
        "emotion.data.reading, emotion.evaluation.reporting, emotion.config",
        "emotion.inference.onnx_predictor, emotion.cpu.machine, emotion.export.served_fields, emotion.scoring.joining",
        "emotion.app.handlers",
        "emotion.serving.application, emotion.serving.server",
    ],
)
def test_rooms_that_work_without_torch(modules):
    code = f"import sys; import {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_auto_class_may_run_code_of_a_model_folder():
    """Every call of transformers' loaders passes `NO_REMOTE_CODE`; peft's loader, which gets the model, runs none."""
    calls = [
        (path, node)
        for path in [*MODULES, *SCRIPTS]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("from_pretrained", "from_config")
    ]
    assert len(calls) >= 8
    for path, call in calls:
        unpacked = {keyword.value.id for keyword in call.keywords if keyword.arg is None and isinstance(keyword.value, ast.Name)}
        assert "NO_REMOTE_CODE" in unpacked or ast.unparse(call.func) == "peft.PeftModel.from_pretrained", f"{path}:{call.lineno}"
