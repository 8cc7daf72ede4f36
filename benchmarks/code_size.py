"""How large and how private the code is: the figures of docs/log/structure.md, for this tree or another.

    python -m benchmarks.code_size [FOLDER]

Lines, the names that `train.py` imports from this project before `main`, the longest function and the most parameters of one, and how often
names of the project's earlier private language are defined.
"""

import ast
import re
import sys
from collections import Counter
from pathlib import Path

PRIVATE_NAMES = (
    *("lesson", "lessons", "list_lessons", "window", "windows", "train_window", "WindowSampler", "share_window", "settle", "NOTHING"),
    *("DeferringAdamW", "take_shortcuts", "explain_parting", "explain_loading", "share", "shares", "add_shares", "consider", "judge"),
    *("fit_without_steps", "take_sharding", "check_meeting", "free_threads", "keep_freed_memory", "written_beside", "ledger", "Standing"),
    *("ladders", "front_asking", "make_hollow", "keep_packing", "Halving", "Shortage", "Training", "LightPredictor", "publishing", "place"),
    *("way", "kind", "form", "asking", "raised", "bent", "inward"),
)
"""Names that were replaced by the field's own."""
PRIVATE_PREFIXES = ("_judge_",)


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    package = sorted((root / "emotion").rglob("*.py"))
    scripts = sorted(root.glob("*.py"))
    train = ast.parse((root / "train.py").read_text())
    own = [node for node in train.body if isinstance(node, ast.ImportFrom) and str(node.module).startswith("emotion")]
    functions = [(path, node) for path in [*package, *scripts] for node in ast.walk(ast.parse(path.read_text())) if is_function(node)]
    longest = max(functions, key=lambda found: count_lines(found[1]))
    widest = max(functions, key=lambda found: count_parameters(found[1]))
    names = Counter(name for path in [*package, *scripts] for name in list_defined(ast.parse(path.read_text())))
    private = {name: count for name, count in names.items() if name in PRIVATE_NAMES or name.startswith(PRIVATE_PREFIXES)}
    rows = {
        "lines of train.py": len((root / "train.py").read_text().splitlines()),
        "names that train.py imports from the project": sum(len(node.names) for node in own),
        "modules that train.py imports from": len(own),
        "lines of emotion/": sum(len(path.read_text().splitlines()) for path in package),
        "lines of the scripts": sum(len(path.read_text().splitlines()) for path in scripts),
        "longest function": f"{count_lines(longest[1])} ({longest[0].name}: {longest[1].name})",  # type: ignore[attr-defined]
        "functions of more than 60 lines": sum(count_lines(node) > 60 for _, node in functions),
        "most parameters": f"{count_parameters(widest[1])} ({widest[0].name}: {widest[1].name})",  # type: ignore[attr-defined]
        "lines of README.md": len((root / "README.md").read_text().splitlines()),
        "private names defined": f"{sum(private.values())} ({', '.join(sorted(private)) or 'none'})",
    }
    for name, value in rows.items():
        print(f"{name:<46} {value}")
    return 0


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def count_lines(node: ast.AST) -> int:
    return (node.end_lineno or 0) - node.lineno + 1  # type: ignore[attr-defined]


def count_parameters(node: ast.AST) -> int:
    arguments = node.args  # type: ignore[attr-defined]
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in given)


def list_defined(tree: ast.Module) -> list[str]:
    """Return every name that a module defines: functions, classes, parameters, variables, attributes."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.arg):
            names.append(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(node.id if isinstance(node, ast.Name) else node.attr)
    return [re.sub(r"^_+(?!judge_)", "", name) for name in names]


if __name__ == "__main__":
    sys.exit(main())
