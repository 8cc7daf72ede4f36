"""Groups of `benchmarks.hostile` on the surroundings of a script: streams, file names, secrets, signals."""

import os
import random
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.attacks.runs import STOPPED_SETTINGS, read_run
from benchmarks.attacks.scripts import Target, Trials, expect, stop_when, write_texts

STREAMS = {
    "infer.py to a full device": "infer.py --model {run} --text a > /dev/full",
    "infer.py --json to a full device": "infer.py --model {run} --json < {texts} > /dev/full",
    "evaluate.py to a full device": "evaluate.py --model {run} --input {csv} --output - > /dev/full",
    "train.py --keys to a full device": "train.py --keys > /dev/full",
    "infer.py without stdin": "infer.py --model {run} <&-",
    "infer.py without stdout": "infer.py --model {run} --text a >&-",
    "evaluate.py without stdin": "evaluate.py --model {run} --input - --output {folder}/out.csv <&-",
    "evaluate.py without stdout": "evaluate.py --model {run} --input {csv} --output - >&-",
    "infer.py without stdin and stdout": "infer.py --model {run} <&- >&-",
}
PIPES = {
    "infer.py into a broken pipe": "python infer.py --model {run} --json < {texts} | head -n 1",
    "evaluate.py into a broken pipe": "python evaluate.py --model {run} --input {csv} --output - | true",
    "train.py --keys into a broken pipe": "python train.py --keys | true",
}
PLACES = {
    "stdin twice": ["evaluate.py", "--model", "{run}", "--input", "-", "-", "--output", "{folder}/out.csv"],
    "an output below a file": ["evaluate.py", "--model", "{run}", "--input", "{csv}", "--output", "{csv}/out.csv"],
    "an output in /proc": ["evaluate.py", "--model", "{run}", "--input", "{csv}", "--output", "/proc/out.csv"],
    "an output on a read-only file system": ["evaluate.py", "--model", "{run}", "--input", "{csv}", "--output", "/sys/out.csv"],
    "a report below a file": ["evaluate.py", "--model", "{run}", "--split", "test", "--output", "{csv}/report"],
    "a report in /proc": ["evaluate.py", "--model", "{run}", "--split", "test", "--output", "/proc/report"],
    "a merged model below a file": ["export.py", "--model", "{run}", "--merge", "{csv}/merged"],
    "a comparison below a file": ["compare.py", "{tested}", "--output", "{csv}/compared"],
    "an input that is a folder": ["evaluate.py", "--model", "{run}", "--input", "{folder}", "--output", "{folder}/out.csv"],
}


def attack_edges(target: Target, folder: Path) -> Trials:
    """Streams that are full, closed or broken, and odd names and places: it works, or there is one line."""
    write_texts(folder / "in.csv", 2_000, random.Random(0))
    (folder / "texts").write_text("a happy friend\n" * 20_000)
    tested = Path(shutil.copytree(target.trained, folder / "tested"))
    target.run("evaluate.py", "--model", str(tested)).check_done()
    places = {"run": target.trained, "csv": folder / "in.csv", "texts": folder / "texts", "tested": tested}
    for name, command in STREAMS.items():
        yield name, partial(check_stream, target, command, places)
    for name, command in PIPES.items():
        yield name, partial(check_pipe, target, command, places)
    for name, words in PLACES.items():
        yield name, partial(check_place, target, words, places)
    for length in (240, 244, 250, 255, 300):
        yield f"an output of {length} characters", partial(check_name, target, "x" * (length - 4) + ".csv")
        yield f"a run of {length} characters", partial(check_run_name, target, "x" * length)
    for what, name in {"not UTF-8": os.fsdecode(b"out\xff.csv"), "with a newline": "a\nb.csv", "beginning with a dash": "-.csv"}.items():
        yield f"an output whose name is {what}", partial(check_name, target, name)
    yield "a run whose name is not UTF-8", partial(check_run_name, target, os.fsdecode(b"run\xff"))


def check_stream(target: Target, command: str, places: dict[str, Path], folder: Path, generator: random.Random) -> None:
    result = target.shell("exec python " + command.format(folder=folder, **places))
    result.check_refused()
    expect("Exception ignored" not in result.err, f"an exception at the exit: {result.tail}")


def check_pipe(target: Target, command: str, places: dict[str, Path], folder: Path, generator: random.Random) -> None:
    result = target.shell(command.format(**places)).check_done()
    expect("Exception" not in result.err and "Error" not in result.err, f"an exception at the exit: {result.tail}")


def check_place(target: Target, words: list[str], places: dict[str, Path], folder: Path, generator: random.Random) -> None:
    target.run(*(word.format(folder=folder, **places) for word in words), stdin=b"text\na\n").check_refused()


def check_name(target: Target, name: str, folder: Path, generator: random.Random) -> None:
    source = write_texts(folder / "in.csv", 3, generator)
    result = target.score(source, folder / name).check()
    expect(result.is_refused or (folder / name).is_file(), "the output is missing")
    expect(result.is_refused or {path.name for path in folder.iterdir()} == {"in.csv", name}, "other files are left")


def check_run_name(target: Target, name: str, folder: Path, generator: random.Random) -> None:
    result = target.run(*target.train_words(folder, name)).check()
    if not result.is_refused:
        target.infer("--text", "a happy friend", model=folder / name).check_done()


SECRET = "S3cretTok99xyzAbc"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SETTINGS = {
    "user info of a URL, hub.repo": f"hub.repo=https://user:{SECRET}@huggingface.co/x/y",
    "user info of a URL, data.source": f"data.source=https://user:{SECRET}@host/rows.csv",
    "user info of a URL, model.backbone": f"model.backbone=https://user:{SECRET}@host/model",
    "user info of a URL, tracking.project": f"tracking.project=https://{SECRET}@host/project",
    "a query, data.source": f"data.source=https://host/rows.csv?token={SECRET}",
    "an AWS id": "hub.repo=x/AKIAIOSFODNN7EXAMPLE",
    "an AWS secret": f"tracking.project=aws_secret_access_key={AWS_SECRET}",
    "a GitHub token": "hub.repo=x/ghp_" + "a1B2" * 9,
    "a fine-grained GitHub token": "tracking.project=github_pat_" + "a1B2" * 9,
    "a Slack token": "tracking.project=xoxb-1234567890-" + "a1B2" * 6,
    "a key of an API": "tracking.project=sk-" + "a1B2" * 10,
    "a Hub token": "hub.repo=x/hf_" + "a1B2" * 9,
    "a secret of the environment": f"tracking.project={SECRET}",
    "an unknown key": f"hub.tokn=https://user:{SECRET}@host/x",
}
SECRETS = (SECRET, AWS_SECRET, "AKIAIOSFODNN7EXAMPLE", "a1B2a1B2")
OTHER_SECRETS = {
    "infer.py --model": ["infer.py", "--text", "a", "--model", f"https://user:{SECRET}@host/model"],
    "evaluate.py --input": [
        "evaluate.py",
        "--model",
        "{run}",
        "--input",
        f"https://user:{SECRET}@host/a.csv",
        "--output",
        "{folder}/a.csv",
    ],
    "train.py --config": ["train.py", "--config", f"https://user:{SECRET}@host/config.yaml"],
}


def attack_secrets(target: Target, folder: Path) -> Trials:
    """What looks like a secret on the command line is neither printed nor written; what only resembles one passes."""
    for name, setting in SETTINGS.items():
        yield name, partial(check_secret, target, ["{train}", setting])
    for name, words in OTHER_SECRETS.items():
        yield name, partial(check_secret, target, words)
    yield "no secret", partial(check_no_secret, target, "hub.repo=me/task-skeleton-risk-aware-model")


def check_secret(target: Target, words: list[str], folder: Path, generator: random.Random) -> None:
    train = target.train_words(folder / "runs", "run")
    command = [*train, *words[1:]] if words[0] == "{train}" else [word.format(run=target.trained, folder=folder) for word in words]
    result = target.run(*command, SERVICE_TOKEN=SECRET).check()
    for secret in SECRETS:
        expect(secret not in result.out + result.err, f"prints the secret: {result.tail}")
        for path in (path for path in folder.rglob("*") if path.is_file()):
            expect(secret.encode() not in path.read_bytes(), f"writes the secret to {path.name}")


def check_no_secret(target: Target, setting: str, folder: Path, generator: random.Random) -> None:
    target.run(*target.train_words(folder, "run", setting)).check_done()
    expect(setting.partition("=")[2] in (folder / "run" / "config.yaml").read_text(), "config.yaml lacks the setting")


SECONDS_OF_IMPORTS = {"infer.py": 0.6, "evaluate.py": 3, "train.py": 4, "export.py": 3, "compare.py": 3}
FIRST_SECONDS = 0.1, 0.3
"""Between these, a script has just begun."""
IGNORING = "import os, runpy, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); sys.argv = sys.argv[1:]; "
IGNORING += "sys.path[0] = os.getcwd(); runpy.run_path(sys.argv[0], run_name='__main__')"


def attack_signals(target: Target, folder: Path) -> Trials:
    """A signal lets training save a state to resume from; Ctrl-C at any moment prints one word."""
    target.run(*target.train_words(folder, "whole", *STOPPED_SETTINGS)).check_done()
    whole = read_run(folder / "whole")
    target.run("evaluate.py", "--model", str(folder / "whole")).check_done()
    for name in ("SIGHUP", "SIGTERM", "SIGINT"):
        for number in range(2):
            yield f"{name} to train.py {number}", partial(check_signal, target, getattr(signal, name), whole)
    yield "SIGHUP to train.py under nohup", partial(check_ignored, target, whole)
    commands: dict[str, list[object]] = {
        "infer.py": ["--model", target.trained],
        "evaluate.py": ["--model", target.trained, "--input", target.data / "test.jsonl", "--output", folder / "judged"],
        "train.py": [*target.train_words(folder, "interrupted")[1:]],
        "export.py": ["--model", target.trained, "--verify"],
        "compare.py": [folder / "whole", "--output", folder / "compared"],
    }
    for script, words in commands.items():
        for number, moments in enumerate([FIRST_SECONDS, FIRST_SECONDS, (FIRST_SECONDS[1], SECONDS_OF_IMPORTS[script])]):
            yield f"Ctrl-C to {script} {number}", partial(check_interrupt, target, [script, *words], moments)


def check_signal(target: Target, number: int, whole: object, folder: Path, generator: random.Random) -> None:
    words, states = target.train_words(folder, "run", *STOPPED_SETTINGS, "--resume"), folder / "run" / "state"
    for _ in range(10):
        state = states / f"step-{generator.randrange(3, 12, 3):09d}"
        result = stop_when(target.start(*words), state.exists, number)
        if result.status != 0:
            break
        shutil.rmtree(folder / "run")  # it ended before the signal
    expect(result.status == 128 + number, f"status {result.status}")
    expect("Traceback" not in result.err, f"traceback: {result.tail}")
    expect("interrupted after step" in result.out + result.err, "saves no state")
    target.run(*words).check_done()
    expect(read_run(folder / "run") == whole, "resumed, it ends with another log or weights")


def check_ignored(target: Target, whole: object, folder: Path, generator: random.Random) -> None:
    script = target.start("-c", IGNORING, *target.train_words(folder, "run", *STOPPED_SETTINGS))
    result = stop_when(script, lambda: list(folder.glob("run/state/step-*")), signal.SIGHUP)
    expect(result.status == 0, "the ignored signal ends it")
    expect(read_run(folder / "run") == whole, "another log or weights")


def check_interrupt(target: Target, words: list[object], moments: tuple[float, float], folder: Path, generator: random.Random) -> None:
    delay = generator.uniform(*moments)

    def interrupt(process: subprocess.Popen) -> None:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)

    for _ in range(6):
        result = target.shell(target.quote(*words), subprocess.PIPE, interrupt)
        if result.status == -signal.SIGINT and not result.err:
            delay *= 2  # before Python handled signals
        elif result.status in (0, 2):
            delay /= 2  # it ended before
        else:
            break
    expect(result.status == 130, f"status {result.status} after {delay:.2f} s: {result.tail}")
    expect("Traceback" not in result.err and result.err.splitlines()[-1] == "interrupted", result.tail)
