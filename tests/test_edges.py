"""How a script ends: on a full, closed or broken stream, on a file that cannot be used, on Ctrl-C; and what reaches stderr."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from emotion.errors import DataError, exit_on_error
from emotion.secrets import mask_secrets
from emotion.training.interruption import format_resume_command
from tests.conftest import ROOT, run_script

SECRETS = {
    "https://someone:hunter22@host/data": "https://***@host/data",
    "s3://AKIAIOSFODNN7EXAMPLE/data": "s3://***/data",
    "secret_access_key=wJalrXUtnFEMI/K7MDENG": "secret_access_key=***",
    "https://host/a?key=0123&part=1": "https://host/a?key=***&part=1",
    "hf_" + "plantedTOKEN" * 3: "***",
    "ghp_" + "a1" * 18: "***",
    "sk-proj-" + "a1" * 18: "***",
    "0123456789" * 4: "***",
    "Authorization: Bearer 0123456789": "Authorization: Bearer ***",
    "password=hunter22 for x": "password=*** for x",
}
NO_SECRETS = [
    "/data/hf_datasets/emotions",
    "https://host/someone@x",
    "model.revision=" + "0123456789" * 4,
    "/cache/snapshots/" + "a" * 40 + "/config.json",
    "task-based-multilingual-classification",
    "must be section.key=value",
]


def run_in_block(code, shell="", encoding=None, **environment):
    """Run code inside `exit_on_error` in an interpreter of its own; `shell` redirects its streams."""
    program = "import sys, os, signal\nfrom emotion.errors import *\nfrom emotion.errors import exit_on_error\n"
    program += "with exit_on_error():\n" + "".join(f"    {line}\n" for line in code.splitlines())
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | environment
    command = ["bash", "-c", f'"$0" -c "$1" {shell}', sys.executable, program]
    return run_interruptible(command, variables, encoding)


def run_interruptible(command, environment, encoding=None):
    """Run a command that takes Ctrl-C, even where the tests themselves were started in the background, which ignores it."""
    restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    streams = {"capture_output": True, "text": True, "encoding": encoding, "input": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, preexec_fn=restore, **streams)


ERRORS = {
    "full stdout": ("print('x')", "> /dev/full", "stdin or stdout: cannot be used (No space left on device); redirect it to another file"),
    "full stdout, flushed": (
        "print('x', flush=True)",
        "> /dev/full",
        "stdin or stdout: cannot be used (No space left on device); redirect",
    ),
    "closed stdout": ("print('x')", ">&-", "stdin or stdout: cannot be used (Bad file descriptor); redirect it to another file"),
    "closed stdin": ("sys.stdin.buffer.read()", "<&-", "stdin or stdout: cannot be used (Bad file descriptor); redirect it"),
    "a file": ("open('/')", "", "/: cannot be used (Is a directory); give another path"),
    "a name": ("os.stat('x' * 300)", "", "xxx: cannot be used (File name too long); give another path"),
    "no package": ("import no_such.package", "", f"the package no_such is not installed for {sys.executable}: activate the environment"),
    "not UTF-8": (r"'caf\udce9'.encode()", "", r"'caf\udce9': is not valid UTF-8; rename the file"),
    "controls": (r"raise DataError('a\n\x1b[2J: no')", "", r"a\n\x1b[2J: no"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_and_status_2(case):
    code, shell, message = ERRORS[case]
    result = run_in_block(code, shell)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and message in result.stderr and result.stderr.count("\n") == 1


def test_lines_of_a_message_are_its_arguments(capsys):
    with pytest.raises(SystemExit) as stopped, exit_on_error():
        raise DataError("2 bad rows:", "  a\nb", "correct them")
    assert stopped.value.code == 2 and capsys.readouterr().err == "error: 2 bad rows:\n  a\\nb\ncorrect them\n"
    assert str(DataError("one", "two")) == "one\ntwo"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), exit_on_error():
        raise ZeroDivisionError
    with pytest.raises(OSError, match="a message without a number"), exit_on_error():
        raise OSError("a message without a number")


def test_streams_that_are_closed_but_not_used_are_no_error():
    result = run_in_block("print('x')", "<&-")
    assert (result.returncode, result.stdout) == (0, "x\n"), result.stderr


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path):
    """The system gives a new file the lowest free number, which is that of the closed stream."""
    code = f"with open({str(tmp_path / 'file')!r}, 'w') as stream:\n    os.write(1, b'x')\n    stream.write('whole')"
    assert run_in_block(code, "2>&-").stdout == "x"
    for shell in (">&-", "<&- >&- 2>&-"):
        run_in_block(code, shell)
        assert (tmp_path / "file").read_text() in ("whole", "")
    assert run_in_block("print('message', file=sys.stderr)", "2>&-").stdout == ""


def test_a_reader_that_stops_is_no_error():
    for code in ("print('x')", "for _ in range(100_000): print('x')"):
        result = run_in_block(code, "| true; echo ${PIPESTATUS[0]}")
        assert (result.stdout, result.stderr) == ("0\n", "")


def test_a_name_that_is_not_utf8_is_printed():
    assert run_in_block(r"print('caf\udce9')").stdout == "caf\\udce9\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "● ○ ██… é 你"), ("ascii", r"* o ##... \xe9 \u4f60"), ("cp1252", r"* o ##… é \u4f60"), ("gbk", "● ○ ██… é 你")],
)
def test_what_a_terminal_lacks_is_shown_in_ascii(encoding, shown):
    """On both streams; a sign of ours has a form of its own."""
    code = "text = '● ○ ██… é 你'\nprint(text)\nprint(text, file=sys.stderr)"
    result = run_in_block(code, encoding=encoding, PYTHONIOENCODING=encoding)
    assert (result.stdout, result.stderr) == (f"{shown}\n", f"{shown}\n")


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_masked_by_its_form(text):
    assert mask_secrets(f"x {text} y") == f"x {SECRETS[text]} y"


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_stays(text):
    assert mask_secrets(f"x {text} y") == f"x {text} y"


def test_a_secret_of_the_environment_is_masked(monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "correct horse")
    monkeypatch.setenv("SOME_TOKEN", "correct horse battery")
    monkeypatch.setenv("OTHER_TOKEN", "short")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/someone/token")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel")
    text = "a correct horse, a correct horse battery, short /home/someone/token parallel"
    assert mask_secrets(text) == "a ***, a ***, short /home/someone/token parallel"


def test_no_secret_reaches_stderr():
    code = "import argparse\nargparse.ArgumentParser().parse_args(['--at', 'https://someone:hunter22@host'])"
    argument = run_in_block(code)
    assert argument.returncode == 2 and "https://***@host" in argument.stderr and "hunter22" not in argument.stderr
    message = run_in_block("raise DataError('--model ' + os.environ['MY_SECRET'] + ': no such model')", MY_SECRET="hunter22hunter22")
    assert message.stderr == "error: --model ***: no such model\n"


INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
INTERRUPTED = {
    "raised": INTERRUPT,
    "turned into another exception": f"try:\n    {INTERRUPT}\nexcept KeyboardInterrupt:\n    raise ImportError('failed to import')",
    "turned into a mistake": f"try:\n    {INTERRUPT}\nexcept KeyboardInterrupt:\n    raise ModelError('no onnxruntime')",
    "dropped": f"class Dropped:\n    def __del__(self):\n        {INTERRUPT}\nDropped()\nimport time\ntime.sleep(20)",
}


@pytest.mark.parametrize("case", INTERRUPTED)
def test_ctrl_c_is_one_line_and_status_130(case):
    result = run_in_block(INTERRUPTED[case])
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_a_second_ctrl_c_ends_the_process_at_once():
    code = f"import atexit\natexit.register(lambda: {INTERRUPT})\n{INTERRUPT}"
    result = run_in_block(code, "; echo $?")
    assert (result.stdout, result.stderr) == ("130\n", "interrupted\n")


def test_ctrl_c_while_the_interpreter_shuts_down_is_one_line_and_status_130():
    result = run_in_block(f"import atexit\natexit.register(lambda: {INTERRUPT})\nprint('done')")
    assert (result.returncode, result.stdout, result.stderr) == (130, "done\n", "interrupted\n")


def test_one_of_several_processes_says_that_they_are_interrupted():
    for rank, message in (("0", "interrupted\n"), ("1", "")):
        result = run_in_block(INTERRUPT, RANK=rank)
        assert (result.returncode, result.stderr) == (130, message)


def test_the_line_of_ctrl_c_ends_with_the_notes_of_the_exception():
    code = f"try:\n    {INTERRUPT}\nexcept KeyboardInterrupt as error:\n    error.add_note('go on with: x')\n    raise"
    assert run_in_block(code).stderr == "interrupted; go on with: x\n"


LAUNCHED = {
    "accelerate": (
        ["/v/bin/python", "/v/bin/accelerate", "launch", "--num_processes", "2"],
        {},
        "accelerate launch --num_processes 2 train.py --config 'a b.yaml' run.name=x --resume",
    ),
    "torchrun": (
        ["/v/bin/python3.11", "/v/bin/torchrun", "--nproc_per_node=2"],
        {"ACCELERATE_USE_CPU": "1"},
        "ACCELERATE_USE_CPU=1 torchrun --nproc_per_node=2 train.py --config 'a b.yaml' run.name=x --resume",
    ),
    "module": (
        ["/v/bin/python", "-m", "torch.distributed.run"],
        {},
        "python -m torch.distributed.run train.py --config 'a b.yaml' run.name=x --resume",
    ),
}


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_the_command_that_goes_on_has_the_launcher(launcher, monkeypatch):
    words, (parent, environment, expected) = ["train.py", "--config", "a b.yaml"], LAUNCHED[launcher]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr("emotion.training.interruption.read_launcher", lambda: ([*parent, *words], environment))
    assert format_resume_command(words, "x") == expected
    monkeypatch.setattr("emotion.training.interruption.read_launcher", lambda: (["/bin/bash"], {}))  # that of a daemon, for example
    assert format_resume_command(words, "x") == "python train.py --config 'a b.yaml' run.name=x --resume"


def test_the_command_that_goes_on_names_the_run_once():
    words = ["train.py", "--config", "a.yaml", "run.name=old", "--resume", "training.epochs=2"]
    assert format_resume_command(words, "new") == "python train.py --config a.yaml training.epochs=2 run.name=new --resume"
    assert format_resume_command(["train.py", "--resume-anyway"], "x") == "python train.py --resume-anyway run.name=x"


def test_an_ignored_ctrl_c_stays_ignored():
    result = run_in_block(f"{INTERRUPT}\nprint('goes on')", "& wait $!")  # a shell starts jobs in the background with SIGINT ignored
    assert (result.returncode, result.stdout) == (0, "goes on\n"), result.stderr


COMMANDS = [
    ["train.py", "--config", "configs/quickstart.yaml"],
    ["evaluate.py", "--model", "runs/x", "--input", "x.csv", "--output", "y.csv"],
    ["infer.py", "--model", "runs/x", "--text", "x"],
    ["compare.py", "runs/x", "--output", "y"],
    ["export.py", "--model", "runs/x", "--verify"],
    ["serve.py"],
    ["audit.py", "--run", "runs/x", "--output", "y"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_ctrl_c_while_a_script_imports_is_one_line_and_status_130(command, tmp_path):
    """numpy, here a file, is the first slow package that each of them imports."""
    (tmp_path / "numpy.py").write_text(f"import os, signal\ntry:\n    {INTERRUPT}\nexcept KeyboardInterrupt:\n    raise ImportError")
    result = run_interruptible([sys.executable, *command], os.environ | {"PYTHONPATH": str(tmp_path)})
    lines = [line for line in result.stderr.splitlines() if not line.startswith("model: ")]
    assert (result.returncode, result.stdout, lines) == (130, "", ["interrupted"])


def run_interruption(code):
    """Run code with an `Interruption`, in a process that has torch imported, and return its result."""
    program = "import os, signal, sys\nfrom emotion.training.interruption import Interruption\n"
    if hasattr(signal, "SIGHUP"):
        program += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    program += "send = lambda name: os.kill(os.getpid(), getattr(signal, name))\n"
    program += "interruption = Interruption()\n"
    return run_script("-c", program + code, warm=True)


needs_hang_up = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")


@pytest.mark.parametrize(
    ("signals", "first"), [(("SIGHUP", "SIGHUP"), "SIGHUP"), (("SIGINT", "SIGTERM"), "SIGINT"), (("SIGTERM", "SIGHUP"), "SIGTERM")]
)
def test_a_signal_that_follows_another_does_not_stop_the_step(signals, first):
    """A closed terminal sends SIGHUP twice, by the system and by the shell; a launcher answers Ctrl-C with SIGTERM."""
    if not all(hasattr(signal, name) for name in signals):
        pytest.skip("Windows has no SIGHUP")
    result = run_interruption(f"with interruption:\n    for name in {signals}: send(name)\nprint(interruption.signal)")
    assert result.returncode == 0 and result.stdout == f"{int(getattr(signal, first))}\n", result.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_same_signal_again_stops_at_once(name):
    code = f"with interruption:\n    send({name!r})\n    try: send({name!r})\n    except KeyboardInterrupt: print('stopped')"
    assert run_interruption(code).stdout == "stopped\n"


@needs_hang_up
def test_nohup_stays_in_force():
    code = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nwith interruption: send('SIGHUP')\nprint(interruption.signal)"
    assert run_interruption(code).stdout == "None\n"


@needs_hang_up
def test_a_terminal_that_is_gone_does_not_stop_the_step():
    code = "import pty\nkept = os.dup(1)\nmain, terminal = pty.openpty()\nos.dup2(terminal, 1)\nos.close(terminal)\n"
    code += "with interruption:\n    print('x', flush=True)\n    os.close(main)\n    send('SIGHUP')\n    print('x', flush=True)\n"
    result = run_interruption(code + "os.write(kept, b'%d' % interruption.signal)")
    assert result.stdout == str(int(signal.SIGHUP)), result.stderr


def test_the_streams_of_a_script(tiny_run, tmp_path):
    """Once for all: infer.py with a full stdout, and with stdin closed though it is needed."""
    command = f'"$0" infer.py --model "{tiny_run}" --backend numpy'
    for shell, reason in ((f"{command} --text x > /dev/full", "No space left on device"), (f"{command} <&-", "Bad file descriptor")):
        result = subprocess.run(["bash", "-c", shell, sys.executable], cwd=ROOT, capture_output=True, text=True, check=False)
        errors = [line for line in result.stderr.splitlines() if not line.startswith("model: ")]
        assert result.returncode == 2 and len(errors) == 1 and errors[0].startswith("error: ") and reason in errors[0], result.stderr
