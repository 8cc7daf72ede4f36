"""The documentation is true to the tree: commands, settings, paths, links, tables, and the words that it uses."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

import emotion
from benchmarks.code_size import PRIVATE_NAMES, PRIVATE_PREFIXES, list_defined
from emotion.config import describe_keys, format_keys_table, load_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *(ROOT / "docs").rglob("*.md")])
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages about the present version: the history may name what is gone."""
REPORT = ROOT / "docs" / "study" / "report.md"
"""Written by compare.py: its tables may be wide."""
SOURCES = sorted([*ROOT.glob("*.py"), *(path for name in ("emotion", "benchmarks", "tests") for path in (ROOT / name).rglob("*.py"))])
MAX_README_LINES, MAX_COLUMNS = 170, 7
TOPICS = ("index", "data", "settings", "models", "decision_rule", "scoring", "export", "distributed", "reliability", "results", "recipes")
KEYS = {name for name, _, _ in describe_keys()}
SECTIONS = {key.split(".")[0] for key in KEYS}
LAUNCHERS = ("accelerate", "torchrun")
FILE_ENDINGS = ("py", "json", "jsonl", "yaml", "csv")
FOREIGN_COMMANDS = {"pip", "source", "git", "cat", "head", "hf", "pre-commit", "for", "do", "done"}
"""First words of command lines that are not checked."""
PHRASES = (
    *("not to be had", "have a say", "has a say", "in a word", "without a word", "with a word", "so it was", "as it was,"),
    *("that there is not here", "takes all threads but one", "holds the training rows to", "lesson", "window", "settle", "ledger"),
    *("train_window", "windowsampler", "take_shortcuts", "written_beside", "front_asking", "front_training", "make_hollow", "keep_packing"),
    *("lightpredictor", "explain_parting", "explain_loading", "deferral", "keep_freed_memory", "free_threads", "check_meeting"),
    *("take_sharding", "fit_without_steps"),
)
"""Words and names of the earlier private language, lower-case."""


def name_page(page):
    return str(page.relative_to(ROOT))


def drop_blocks(text):
    """Return a page's text without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def list_blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def list_commands(page):
    """Return the words of each command in the bash blocks of a page: one list per command of a pipe or sequence."""
    commands = []
    for line in "".join(list_blocks(page, "bash")).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in lexer:
            if set(word) <= set(";|&"):
                commands.append(command)
                command = []
            else:
                command.append(word)
        commands.append(command)
    return [command for command in commands if command]


def list_spans(page):
    """Return the inline code of a page."""
    return re.findall(r"`([^`\n]+)`", drop_blocks(page.read_text()))


def drop_assignments(command):
    """Return a command without the `do` of a loop and the environment variables before it."""
    words = list(command)
    while words and (words[0] == "do" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words.pop(0)
    return words


def check_command(command):
    """Check that the scripts, modules, options, settings and files of a command exist."""
    words = drop_assignments(command)
    if not words:
        return
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words
        assert all(word.partition("=")[0] in ("DATA", "STUDY", "PYTHON") for word in words[2:]), words
        return
    if "-r" in words:
        assert (ROOT / words[words.index("-r") + 1]).is_file(), words
    program = words[0].removeprefix(".venv/bin/")
    if program not in ("python", *LAUNCHERS):
        assert program in FOREIGN_COMMANDS, words
        return
    if "-c" in words:
        return
    if "-m" in words and words[words.index("-m") + 1].startswith("benchmarks."):
        script = ROOT / (words[words.index("-m") + 1].replace(".", "/") + ".py")
        rest = words[words.index("-m") + 2 :]
    else:
        start = next(number for number, word in enumerate(words) if word.endswith(".py"))
        script, rest = ROOT / words[start], words[start + 1 :]
    assert script.is_file(), words
    check_arguments(script, rest)
    for number, word in enumerate(words):
        if word == "--config_file":
            assert (ROOT / words[number + 1]).is_file(), words


def check_arguments(script, words):
    """Check the options, settings and configs after a script's name."""
    source = script.read_text()
    for word in words:
        if word.startswith("--") and word != "--help":  # argparse adds it
            assert f'"{word.split("=")[0]}"' in source, f"{script.name} has no {word}"
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), word
        if match := re.match(r"(\w+\.\w+)=", word):
            assert match[1] in KEYS, word


def make_anchor(heading):
    """Return the anchor of a heading, as the site and GitHub make it."""
    words = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading).lower())
    return re.sub(r"\s", "-", words.strip())


def list_anchors(page):
    return {make_anchor(heading) for heading in re.findall(r"^#+ (.*)", drop_blocks(page.read_text()), re.M)}


def test_every_page_is_found():
    names = {name_page(page) for page in PAGES}
    assert names >= {"README.md", *(f"docs/{topic}.md" for topic in TOPICS), "docs/log/quality.md", "docs/study/README.md"}
    assert not list((ROOT / "benchmarks").glob("*.md"))


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name_page)
def test_commands_exist(page):
    for command in list_commands(page):
        check_command(command)


def test_commands_are_found():
    """Otherwise the test above would pass on no command."""
    commands = [command for page in CURRENT_PAGES for command in list_commands(page)]
    assert len(commands) > 80
    used = {word for command in commands for word in command if (ROOT / word).suffix == ".py"}
    assert used >= {"train.py", "evaluate.py", "infer.py", "compare.py", "prevalence.py", "export.py", "audit.py"}


@pytest.mark.parametrize("command", ["python train.py --confg x", "python train.py data.origin=x", "make dem", "python gone.py", "rm -r x"])
def test_a_command_that_does_not_exist_is_found(command):
    with pytest.raises(AssertionError):
        check_command(command.split())


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name_page)
def test_inline_code_exists(page):
    """Commands, settings and paths in running text and tables."""
    for span in list_spans(page):
        words = span.split()
        path = words[0].rstrip("/")
        if re.fullmatch(r"(emotion|tests|configs|benchmarks|docs)/[\w/.-]*", path):
            assert (ROOT / path).exists(), span
        if re.fullmatch(r"\w+\.py", words[0]) and len(words) > 1:
            check_command(["python", *words])
        elif len(words) > 1 and (
            words[0] == "make" or (words[0] in ("python", *LAUNCHERS) and any(word.endswith(".py") for word in words))
        ):
            check_command(words)
        for word in words:
            match = re.fullmatch(r"(\w+)\.(\w+)(=.*)?", word)
            if match and match[1] in SECTIONS and match[2] not in FILE_ENDINGS:
                assert f"{match[1]}.{match[2]}" in KEYS, span


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name_page)
def test_settings_reach_the_script_as_they_stand_on_the_page(page):
    """A shell takes a `\\` at the end of a word as the escape of what follows, so such a setting is in quotes."""
    for span in list_spans(page):
        if re.match(r"'?\w+\.\w+=", span) and span.lstrip("'").split(".")[0] in SECTIONS:
            lexer = shlex.shlex(span, posix=True, punctuation_chars=";|&<>()")
            lexer.whitespace_split, lexer.commenters = True, ""
            assert " ".join(lexer) == span.replace("'", ""), span


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), target
        assert ROOT / "docs" not in page.parents or ROOT / "docs" in linked.parents, f"{target} is not a part of the site"
        assert not anchor or anchor in list_anchors(linked), target


def test_the_site_has_every_page():
    def list_files(entry):
        values = entry.values() if isinstance(entry, dict) else entry
        return [entry] if isinstance(entry, str) else [path for value in values for path in list_files(value)]

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert site["strict"] is True and site["theme"]["font"] is False
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if ROOT / "docs" in page.parents]
    assert sorted(list_files(site["nav"])) == sorted(pages)


@pytest.mark.parametrize("page", [page for page in PAGES if page != REPORT], ids=name_page)
def test_tables_are_readable(page):
    for line in page.read_text().splitlines():
        if re.match(r"\|[\s:|-]+\|$", line):
            assert line.count("|") - 1 <= MAX_COLUMNS, line


def test_settings_are_those_of_the_code():
    _, _, table = (ROOT / "docs" / "settings.md").read_text().partition("<!-- below this line: make docs/settings.md -->\n\n")
    assert len(KEYS) > 30
    assert table == format_keys_table() + "\n", "run `make docs/settings.md`"


def test_configs_on_the_pages_can_be_loaded():
    """With the settings that a page gives on the command line."""
    loaded = 0
    for page in CURRENT_PAGES:
        for command in list_commands(page):
            if "train.py" in command and "--config" in command and not any("$" in word for word in command):
                overrides = [word for word in command if re.match(r"\w+\.\w+=(?!path/to/)", word)]
                load_config(ROOT / command[command.index("--config") + 1], overrides)
                loaded += 1
    assert loaded > 20


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_readme_names_eight_files_to_read():
    text = (ROOT / "README.md").read_text()
    files = re.findall(r"^\d\. `([\w/]+\.py)`", text[text.index("## How the code is laid out") :], re.M)
    assert len(files) == 8 and files[0] == "train.py"
    assert all((ROOT / path).is_file() for path in files)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "scoring.md"], ids=name_page)
def test_python_examples_use_the_public_api(page):
    (code,) = list_blocks(page, "python")
    attributes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    used = {(node.value.id, node.attr) for node in attributes if isinstance(node.value, ast.Name)}
    assert len(used) > 3 and {owner for owner, _ in used} == {"emotion", "model"}
    for owner, name in used:
        assert hasattr(emotion if owner == "emotion" else emotion.Model, name), f"{owner}.{name}"


def test_architecture_names_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = [path.name for path in (ROOT / "emotion").iterdir() if (path / "__init__.py").is_file()]
    assert len(packages) > 9
    assert all(f"`emotion/{name}/`" in text for name in packages)


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name_page)
def test_pages_are_in_plain_words(page):
    text = " ".join(page.read_text().replace("Windows", "").lower().split()).replace("windows-1252", "")  # a system and an encoding
    assert not [phrase for phrase in PHRASES if re.search(rf"\b{re.escape(phrase)}", text)]
    prose = re.sub(r"`[^`\n]*`", "", drop_blocks(page.read_text()))
    assert not re.findall(r"(?<![\w.])\.\d", prose), "write 0.5, not .5"


def test_names_of_the_earlier_private_language_are_gone():
    assert len(SOURCES) > 100
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in list_defined(ast.parse(path.read_text()))
        if name in PRIVATE_NAMES or name.startswith(PRIVATE_PREFIXES)
    ]
    assert not found


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed; `make docs` installs it")
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config as load_site

    build(load_site(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len([page for page in PAGES if ROOT / "docs" in page.parents])
    for page in pages:
        for tag in re.findall(r"<(?:link|script|img|iframe)\b[^>]*>", page.read_text()):
            assert not re.search(r"""(?:href|src)=["']?(?:https?:)?//""", tag), f"{page.name}: {tag}"
