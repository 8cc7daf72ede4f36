"""The command line of every script: a mistake is one line that names the nearest option, answered before any slow package is imported."""

import runpy
import sys

import pytest

from emotion import text
from emotion.arguments import ArgumentParser, BeQuiet
from emotion.config import check_keys, format_keys
from emotion.errors import ConfigError
from tests.conftest import ROOT, run_script

SLOW = ("torch", "transformers", "accelerate", "pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "gradio", "fastapi", "uvicorn")
ANSWERS = {
    "train.py --help": (0, "usage: train.py"),
    "train.py --keys hub": (0, "  Upload the model to the Hub after training; "),
    "train.py --keys treining": (2, "error: --keys treining: unknown section, did you mean training?"),
    "train.py --confg configs/quickstart.yaml": (2, "error: --confg: unknown option, did you mean --config?"),
    "train.py": (2, "error: the following arguments are required: --config (`python train.py --help` lists all options)"),
    "train.py --config configs/quickstrat.yaml": (2, "error: configs/quickstrat.yaml: cannot be read"),
    "train.py --config configs/quickstart.yaml training.epoch=3": (2, "unknown key training.epoch, did you mean training.epochs?"),
    "train.py --config configs/quickstart.yaml --data.source my.csv": (
        2,
        "error: --data.source: unknown option; a setting has no dashes: data.source=VALUE",
    ),
    "infer.py --data.source my.csv": (2, "error: --data.source: unknown option, `python infer.py --help` lists all options"),
    "train.py --config configs/quickstart.yaml hub.repo=mine": (2, "hub.repo='mine': must be USER/NAME"),
    "evaluate.py --help": (0, "usage: evaluate.py"),
    "evaluate.py --modle=runs/x": (2, "error: --modle: unknown option, did you mean --model?"),
    "evaluate.py --input a.csv --output b.csv data.txt_column=x": (2, "error: config: unknown key data.txt_column, did you mean data.text"),
    "evaluate.py --behaviour --split test": (2, "error: --split: has no effect on --behaviour, which reads its suite only; leave it out"),
    "infer.py --help": (0, "usage: infer.py"),
    "infer.py I --modle runs/x": (2, "error: --modle: unknown option, did you mean --model?"),
    "infer.py --backend onxn": (2, "error: argument --backend: invalid choice: 'onxn'"),
    "compare.py --help": (0, "usage: compare.py"),
    "compare.py runs/x --outptu y": (2, "error: --outptu: unknown option, did you mean --output?"),
    "prevalence.py --help": (0, "usage: prevalence.py"),
    "prevalence.py --input a.csv --output b --grup x": (
        2,
        "error: --grup: unknown option, `python prevalence.py --help` lists all options",
    ),
    "prevalence.py --input a.csv --output b": (2, "error: the following arguments are required: --by"),
    "audit.py --help": (0, "usage: audit.py"),
    "audit.py --run runs/x --outptu y": (2, "error: --outptu: unknown option, did you mean --output?"),
    "audit.py --run runs/x --output y --folds 1": (2, "error: --folds 1: must be at least 2"),
    "audit.py --run runs/x --output y training.epoch=1": (2, "error: config: unknown key training.epoch, did you mean training.epochs?"),
    "audit.py --run runs/x --output y hub.push=true": (2, "error: hub.push=true: has no effect here: folds have the rows of the run, no"),
    "export.py --help": (0, "usage: export.py"),
    "export.py --onxn": (2, "error: --onxn: unknown option, did you mean --onnx?"),
    "export.py --refit decision.maximum=f1": (2, "error: config: unknown key decision.maximum, did you mean decision.maximize?"),
    "export.py --push a/b decision.maximize=micro_f1": (2, "error: decision.maximize=micro_f1: has no effect on --push, which takes hub."),
    "export.py --push a/b hub.repo=c/d": (2, "error: hub.repo=c/d: has no effect on --push, which takes hub.dataset, hub.language, hub."),
    "export.py --push-space a/b hub.license=mit": (2, "error: hub.license=mit: has no effect on --push-space, which takes hub.private"),
    "export.py --serving-check data.source=a": (2, "error: data.source=a: has no effect on --serving-check, which takes no settings; l"),
    "export.py --verify hub.license=mit": (2, "error: hub.license=mit: has no effect on --verify, which takes data.corrected_splits, "),
    "export.py --onnx data.max_length=8": (2, "error: data.max_length=8: has no effect on --onnx, which takes data.corrected_splits, "),
    "export.py --merge new hub.private=false": (2, "error: hub.private=false: has no effect on --merge, which takes data.corrected_spl"),
    "export.py --verify --input a.csv data.source=b": (2, "error: data.source=b: has no effect on --verify, which takes data.encoding"),
    "export.py --model runs/none --push mine": (2, "error: --push mine: must be USER/NAME, with the user or organization that owns the"),
    "export.py --model runs/none --push-space /mine": (2, "error: --push-space /mine: must be USER/NAME"),
    "app.py --help": (0, "usage: app.py"),
    "app.py --prot 7860": (2, "error: --prot: unknown option, did you mean --port?"),
    "serve.py --help": (0, "usage: serve.py"),
    "serve.py --max-bach 8": (2, "error: --max-bach: unknown option, did you mean --max-batch?"),
    "serve.py --timeout 0": (2, "error: --timeout 0.0: must be from 1 to 1,000,000"),
}


def test_help_and_mistakes_are_answered_before_any_slow_package_is_imported():
    """All of them in one process, which then has none of the packages."""
    code = (
        "import os, runpy, shlex, sys\nsys.path[0] = os.getcwd()\nfor command in sys.argv[1:]:\n"
        "    sys.argv = shlex.split(command)\n    sys.stderr = sys.stdout\n    print('>', command)\n"
        "    try: runpy.run_path(sys.argv[0], run_name='__main__')\n    except SystemExit as end: print('=', end.code or 0)\n"
        f"print({set(SLOW)!r} & set(sys.modules))"
    )
    result = run_script("-c", code, *ANSWERS, COLUMNS="200")
    *answers, last = result.stdout.split("\n= ")
    assert len(answers) == len(ANSWERS) and last.endswith("\nset()\n"), result.stdout + result.stderr
    statuses = [part.split("\n")[0] for part in [*answers[1:], last]]
    for (command, (status, message)), answer, found in zip(ANSWERS.items(), answers, statuses, strict=True):
        shown = answer.partition(f"> {command}\n")[2]
        assert found == str(status) and message in shown, answer
        assert status == 0 or shown.count("\n") == 0, answer


def parse(monkeypatch, *words):
    parser = ArgumentParser("Do it.\n\nMore.")
    parser.add_argument("--input", required=True)
    parser.add_argument("--quiet", action=BeQuiet)
    parser.add_argument("rest", nargs="*")
    monkeypatch.setattr(sys, "argv", ["it.py", *words])
    return parser.parse_intermixed_args()


def test_an_option_may_be_cut_short_and_a_word_that_looks_like_none_is_none(monkeypatch):
    assert parse(monkeypatch, "--inp", "x", "-1").rest == ["-1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--inptu", "x"], "--inptu: unknown option, did you mean --input?"),
        (["--input", "x", "--zzz=1"], "--zzz: unknown option, `python "),
        (["--input"], "argument --input: expected one argument (`python "),
    ],
)
def test_a_mistake_in_options_is_a_config_error(words, message, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        parse(monkeypatch, *words)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_keys_are_aligned_and_wrapped():
    lines = format_keys("tracking", 80).splitlines()
    assert all(len(line) <= 80 for line in lines) and lines[0].startswith("tracking.backend    auto   Experiment tracker; ")
    starts = {len(line) - len(line.lstrip()) for line in lines if line.startswith(" ")}
    assert starts == {lines[0].index("Experiment")}
    narrow = format_keys("training", 80).splitlines()
    assert narrow[0] == "training.epochs                       4" and narrow[1].startswith("    Number of passes")
    assert all(len(line) <= 80 for line in narrow)


def test_keys_have_one_line_each_where_the_output_is_no_terminal():
    lines = format_keys().splitlines()
    assert len([line for line in lines if line]) == len(format_keys_of_sections()) > 60
    with pytest.raises(ConfigError, match="--keys x: unknown section"):
        format_keys("x")


def format_keys_of_sections():
    names = ("data", "model", "lora", "training", "distillation", "decision", "tracking", "hub", "run")
    return [line for name in names for line in format_keys(name).splitlines()]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.txt_column=x", "config: unknown key data.txt_column, did you mean data.text_column?"),
        ("data.max_line_length=x", "config: data.max_line_length='x': must be an integer"),
        ("data.max_line_length=0", "config: data.max_line_length=0: must be in [1, 2**31)"),
        ("lora.r=4", "lora.r=4: has no effect here; allowed are data.text_column: why"),
    ],
)
def test_an_override_that_cannot_be_read_or_has_no_effect_is_refused(override, message):
    with pytest.raises(ConfigError, match=r"^config: unknown key data\.text, did you mean .*; lora\.r=-1: must be "):
        check_keys(["data.text=x", "lora.r=-1"], {"data.text_column"}, "why")  # faults of both sorts together
    check_keys(["data.text_column=x"], {"data.text_column"}, "why")
    with pytest.raises(ConfigError) as caught:
        check_keys([override], {"data.text_column"}, "why")
    assert str(caught.value) == message


class Terminal:
    """A stream that is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def isatty(self):
        return True


def test_messages_are_wrapped_on_a_terminal_between_words_and_commands_are_not(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    text.print_message("a message of more than twenty columns, /a/path/that-is-longer/than/that", terminal)
    assert terminal.text == "a message of more\n  than twenty\n  columns,\n  /a/path/that-is-longer/than/that\n"
    terminal.text = ""
    text.print_message("  python train.py --config FILE", terminal)
    assert terminal.text == "  python train.py --config FILE\n"
    text.print_message("a message of more than twenty columns", sys.stdout)
    assert capsys.readouterr().out == "a message of more than twenty columns\n"


def test_quiet_leaves_results(monkeypatch, capsys):
    for name in (text.QUIET, "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")
    text.print_message("a message")
    parse(monkeypatch, "--input", "x", "--quiet")
    text.print_message("another message")
    text.print_message("a result", sys.stdout)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a result\n", "a message\n")


@pytest.mark.slow
def test_a_quiet_run_prints_its_results_only(tiny_bert, small_data, tmp_path):
    settings = [f"model.backbone={tiny_bert}", f"data.source={small_data}", f"run.folder={tmp_path}", "run.name=quiet", "training.epochs=1"]
    result = run_script("train.py", "--config", "configs/quickstart.yaml", "--quiet", *settings)
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.startswith("validation, ")
    assert f"{tmp_path / 'quiet'}: " in result.stdout and "epoch 1" not in result.stdout


def run_export(name):
    return runpy.run_path(str(ROOT / "export.py"))[name]


def test_overwrite_replaces_only_a_model_that_is_in_no_run(tmp_path):
    check_target, written = run_export("check_target"), tmp_path / "half"
    check_target("--half", written, False)
    written.mkdir()
    (written / "emotion.json").touch()
    check_target("--half", written, True)
    with pytest.raises(ConfigError, match="half: exists already; choose another folder, or give --overwrite"):
        check_target("--half", written, False)
    (tmp_path / "config.yaml").touch()  # now it is the model of a run
    for folder in (written, ROOT / "configs"):
        with pytest.raises(ConfigError, match="replaces only a model that is not in a run folder"):
            check_target("--half", folder, True)


class TestPrompt:
    """The prompt of infer.py, where stdin is a terminal."""

    @pytest.fixture
    def prompt(self, monkeypatch):
        def run(*lines):
            answers = iter(lines)

            def answer(_=""):
                line = next(answers)
                if isinstance(line, Exception):
                    raise line
                return line

            monkeypatch.setattr("builtins.input", answer)
            return list(runpy.run_path(str(ROOT / "infer.py"))["prompt_texts"]())

        return run

    def test_each_line_is_a_text_until_an_empty_one(self, prompt):
        assert prompt("I am glad", "so am I", "", "never") == [["I am glad"], ["so am I"]]

    def test_ctrl_d_ends_and_bytes_that_are_not_utf8_are_asked_for_again(self, prompt, capsys):
        wrong = UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "unexpected end of data")
        assert prompt(wrong, "I am glad", EOFError()) == [["I am glad"]]
        assert prompt("caf\udce9", "I am glad", EOFError()) == [["I am glad"]]  # what readline makes of them
        assert capsys.readouterr().err.count("not valid UTF-8; type it again") == 2


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["one", "--json", "two"], ["one", "two"]),
        (["--json", "--", "-_-", "--json"], ["-_-", "--json"]),
        (["--text", "one", "two", "--", "-.-"], ["one", "two", "-.-"]),
    ],
)
def test_texts_stand_anywhere_and_after_two_dashes_they_may_begin_with_one(words, texts, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["infer.py", *words])
    assert runpy.run_path(str(ROOT / "infer.py"))["parse_arguments"]().text == texts
