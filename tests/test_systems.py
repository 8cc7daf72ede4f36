"""The scripts work without what only Linux has, on a terminal of another encoding, in folders of any name, from anywhere."""

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, SAMPLE

SOURCES = sorted([*ROOT.glob("*.py"), *(ROOT / "emotion").rglob("*.py")])
UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
PORTABLE_SIGNALS = {"SIGINT", "SIGTERM", "SIG_DFL", "SIG_IGN", "default_int_handler", "getsignal", "signal"}
OPENING = ("open", "fdopen", "read_text", "write_text")
UNIX_CALLS = {"fork", "getuid", "kill", "killpg", "mkfifo", "setsid", "sysconf", "uname"}


def walk(node_type):
    """Yield (file and line, node) of each node of a type in the scripts and the package."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, node_type):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_nothing_that_only_unix_has_is_used_without_asking():
    """At the top of a module it would end every script on Windows; `getattr` and `try` ask."""
    imports = {
        alias.name for path in SOURCES for node in ast.parse(path.read_text(encoding="utf-8")).body for alias in getattr(node, "names", ())
    }
    assert len(SOURCES) > 100 and {"os", "signal"} <= imports and not imports & UNIX_MODULES
    used = [(line, ast.unparse(node.value), node.attr) for line, node in walk(ast.Attribute)]
    assert [name for line, module, name in used if module == "signal"].count("SIGTERM") >= 2
    assert [line for line, module, name in used if module == "signal" and name not in PORTABLE_SIGNALS] == []
    assert [line for line, module, name in used if module == "os" and name in UNIX_CALLS] == []


def test_text_files_have_an_encoding():
    """Otherwise it is that of the machine: cp1252 on Windows."""
    calls = [(line, node) for line, node in walk(ast.Call) if getattr(node.func, "attr", getattr(node.func, "id", "")) in OPENING]
    texts = [(line, node) for line, node in calls if is_text(node)]
    assert len(calls) > len(texts) > 30
    assert [line for line, node in texts if "encoding" not in {keyword.arg for keyword in node.keywords}] == []


def is_text(call):
    """Return whether a call opens, reads or writes text; the `open` of other classes has no mode."""
    if "text" in getattr(call.func, "attr", ""):
        return True
    modes = [node.value for node in call.args if isinstance(node, ast.Constant)]
    return isinstance(call.func, ast.Attribute) and (not call.args or any("b" not in str(mode) for mode in modes))


WITHOUT = f"""
import json, os, runpy, signal, sys
import psutil  # its form for Linux needs one of them
for name in ("resource", "fcntl"):
    sys.modules[name] = None
for module, names in (signal, "SIGHUP pthread_kill"), (os, "fork sched_getaffinity killpg setsid mkfifo"):
    for name in filter(lambda name: hasattr(module, name), names.split()):
        delattr(module, name)
sys.path.insert(0, {str(ROOT)!r})
for words in json.loads(sys.argv[1]):
    sys.argv = [os.path.join({str(ROOT)!r}, words[0]), *words[1:]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("ended", words[0], end.code, flush=True)
"""
"""Runs scripts one after another in an interpreter without the modules, functions and signals that Windows or macOS lack."""


def run_without(commands, folder, **environment):
    """Run scripts in `WITHOUT`, in a folder, and return the result with its streams as bytes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    command = [sys.executable, "-c", WITHOUT, json.dumps(commands)]
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, check=False)


@pytest.mark.slow
def test_every_script_works_without_what_linux_has_in_any_folder_and_encoding(tiny_bert, tmp_path):
    """Trained, evaluated and asked from two folders, with a terminal of cp1252 and files whose names have blanks and umlauts."""
    home, here = tmp_path / "große Häuser", tmp_path / "an other"
    for folder in (home, here):
        folder.mkdir()
    for split in ("train", "validation", "test"):
        lines = (SAMPLE / f"{split}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        (home / f"{split}.csv").write_text("".join(lines[:150]), encoding="utf-8")
    (home / "Läufe").mkdir()
    settings = [f"model.backbone={tiny_bert}", "data.source=.", "training.epochs=1", "training.per_device_batch_size=128"]
    variables = {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "PYTHONIOENCODING": "cp1252",
        "LC_ALL": "C",
    }
    train = ["train.py", "--config", "configs/quickstart.yaml", *settings, "run.folder=~/Läufe", "run.name=a b"]
    trained = run_without([train], home, **variables)
    assert trained.stdout.decode("cp1252").endswith("ended train.py 0\n"), trained.stderr.decode()
    model, text = ["--model", "~/Läufe/a b"], "Grüße 你好 👩"
    commands = [
        ["evaluate.py", *model, "--split", "test"],
        ["evaluate.py", *model, "--input", "~/test.cs*", "--output", "~/scored ü.csv"],
        ["infer.py", *model, "--threshold", "0.01", "--text", text],
        ["infer.py", *model, "--json", "--backend", "torch", "--text", text],
        ["compare.py", "~/Läufe/a b", "--output", "~/comparison"],
        ["prevalence.py", *model, "--input", "~/test.csv", "--by", "labels", "--taxonomy", "ekman", "--output", "~/prevalence"],
        ["export.py", *model, "--verify"],
    ]
    result = run_without(commands, here, **variables)
    out, err = result.stdout.decode("cp1252"), result.stderr.decode("cp1252")
    assert [line for line in out.splitlines() if line.startswith("ended")] == [f"ended {words[0]} 0" for words in commands], err
    assert "Traceback" not in err and list(here.iterdir()) == []
    assert (
        (home / "scored ü.csv").is_file()
        and (home / "comparison" / "report.html").is_file()
        and (home / "prevalence" / "report.html").is_file()
    )
    assert "Grüße \\u4f60\\u597d \\U0001f469\n  * " in out
    answer = next(json.loads(line) for line in out.splitlines() if line.startswith("{"))
    assert answer["text"] == text
