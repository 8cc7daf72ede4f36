"""Shared by all tests: tiny backbones made on the spot, one trained run, and a way to call the scripts as a user does."""

import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tqdm  # noqa: F401  (reads TQDM_DISABLE when it is imported: not in a test of `--quiet`)
from filelock import FileLock

from emotion.text import ASCII_FORMS, QUIET
from tests.warm import SERVER, connect, request_script

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")  # importing wandb takes seconds; the tests of tracking turn it on
os.environ["CUDA_VISIBLE_DEVICES"] = ""
"""The tests are of the CPU, wherever they run."""
os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Tiny models gain nothing from more threads, and lose much where something else runs beside them."""

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "emotion" / "data" / "sample"
CAN_FORK = sys.platform.startswith("linux")
"""Elsewhere scripts are started, not forked: Windows cannot, and macOS not safely once torch is imported."""
ENCODING = os.environ.get("PYTHONIOENCODING", "").partition(":")[0] or "utf-8"
"""Of the scripts' stdout and stderr; stdin is UTF-8."""
READ_AT_IMPORT = ("HF_", "OMP_", "PYTHON")
"""Prefixes of the names of variables that packages read once, when they are imported."""
READ_AT_CALL = ("HF_TOKEN",)
"""Names with such a prefix that are read where they are used."""
SMALL_LABELS = {"anger", "fear", "joy", "love", "sadness", "surprise"}
GOEMOTIONS_ROWS = ["I love this!\t18\ta1", 'He said "no"\t2,3\ta2', "NA\t27\ta3", "so\x85so 🙃\t27,0\ta4"]
SESSION_FOLDER = "EMOTION_TESTS_FOLDER"
"""Variable with the folder that all processes of a test session share: xdist's workers inherit it."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    os.environ[SESSION_FOLDER] = tempfile.mkdtemp(prefix="emotion-tests-")
    config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(SESSION_FOLDER), ignore_errors=True))
    if config.getoption("numprocesses", None) and CAN_FORK:
        find_server(make_variables())  # imports while xdist's workers start


def session_folder() -> Path:
    """Return the folder that all processes of this test session share."""
    return Path(os.environ[SESSION_FOLDER])


def make_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` of this session, filled by `make`: the first process that asks calls it, the others wait for it."""
    folder = session_folder() / name
    done = session_folder() / f"{name}.done"
    with FileLock(session_folder() / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def run_script(
    *arguments: str, folder: Path = ROOT, stdin: str | bytes | None = None, warm: object = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` and return its exit status and what it printed, as bytes if `stdin` is bytes."""
    encoded = stdin.encode() if isinstance(stdin, str) else stdin or b""
    script = start_script(*arguments, folder=folder, stdin=encoded, warm=warm, **environment)
    status = script.wait(300)
    out, err = (path.read_bytes() for path in script.outputs)
    if isinstance(stdin, bytes):
        return subprocess.CompletedProcess(arguments, status, out, err)
    encoding = environment.get("PYTHONIOENCODING", ENCODING)
    return subprocess.CompletedProcess(arguments, status, out.decode(encoding), err.decode(encoding))


def start_script(*arguments: str, folder: Path = ROOT, stdin: bytes = b"", warm: object = None, **environment: str) -> "Script":
    """Start `python ARGUMENTS` and return it, running: forked by a server that has the slow packages imported (`tests/warm.py`).

    With `-m` and `-c` it gets an interpreter of its own. So it does where the environment has variables that packages read when they are
    imported, unless a server with the same ones is there already. With `warm` (not None) it is always forked: from the second script with
    the same variables on, that takes less time.
    """
    variables = make_variables(**environment)
    is_usual = not any(map(is_read_at_import, environment)) or name_socket(variables).exists()
    is_warm = warm is not None or (is_usual and arguments[0] not in ("-m", "-c"))
    return Script(list(arguments), folder, stdin, variables, is_warm)


def show(text: str) -> str:
    """Return what the streams of the scripts show of a text: as it is, unless their encoding lacks some of it."""
    for sign, replacement in ASCII_FORMS.items():
        if sign.encode(ENCODING, "ignore") == b"":
            text = text.replace(sign, replacement)
    return text.encode(ENCODING, "backslashreplace").decode(ENCODING)


def make_variables(**environment: str) -> dict[str, str]:
    """Return the environment of a script."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1", **environment}


def is_read_at_import(variable: str) -> bool:
    return variable.startswith(READ_AT_IMPORT) and variable not in READ_AT_CALL


def find_free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_processes(*arguments: str, folders: tuple[Path, Path] = (ROOT, ROOT), **environment: str) -> list["Script"]:
    """Start `python ARGUMENTS` in two processes that find each other, as torchrun would, and return them."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **environment}
    return [
        start_script(*arguments, folder=folder, warm=True, RANK=str(rank), LOCAL_RANK=str(rank), **common)
        for rank, folder in enumerate(folders)
    ]


def run_processes(*arguments: str, **environment: str) -> list[subprocess.CompletedProcess]:
    """Run `python ARGUMENTS` in two processes that find each other, and return exit status and output of each."""
    scripts = start_processes(*arguments, **environment)
    statuses = [script.wait(300) for script in scripts]
    texts = [[path.read_text(encoding=ENCODING) for path in script.outputs] for script in scripts]
    return [subprocess.CompletedProcess(arguments, status, *text) for status, text in zip(statuses, texts, strict=True)]


class Script:
    """A running script; its streams are files."""

    def __init__(self, arguments: list[str], folder: Path, stdin: bytes, variables: dict[str, str], is_warm: bool):
        self._tmp_dir = tempfile.TemporaryDirectory(prefix="script-")
        files = [Path(self._tmp_dir.name) / name for name in ("stdin", "stdout", "stderr")]
        for path in files:
            path.write_bytes(stdin if path.name == "stdin" else b"")
        self.outputs, self._status, self._process = files[1:], None, None
        with ExitStack() as stack:
            streams = [stack.enter_context(path.open(mode)) for path, mode in zip(files, ("rb", "wb", "wb"), strict=True)]
            if not is_warm or not CAN_FORK:
                command = [sys.executable, *arguments]
                self._process = subprocess.Popen(command, cwd=folder, env=variables, stdin=streams[0], stdout=streams[1], stderr=streams[2])
                self.pid = self._process.pid
                return
            server = find_server(variables)
            variables = {"PYTHON_EXEC": str(write_launched_python()), SERVER: str(server)} | variables
            descriptors = [stream.fileno() for stream in streams]
            self.pid, self._answers = request_script(connect(server), arguments, str(folder), variables, descriptors)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self._process is not None:
            return self._process.poll()
        if self._status is None and select.select([self._answers], [], [], 0)[0]:
            self._status = int(self._answers.readline())
            self._answers.close()
        return self._status

    def wait(self, timeout: float) -> int:
        """Return the exit status; after `timeout` seconds, kill the script and fail."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                pytest.fail(f"still running after {timeout} s")
            time.sleep(0.01)
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


SERVERS: dict[Path, tuple[socket.socket, subprocess.Popen | None]] = {}
"""By socket, the servers that this process has used: a connection that is kept open, and the server if this process started it."""


def name_socket(variables: dict[str, str]) -> Path:
    """Return the socket of this session's server for scripts with these variables, as far as they are read at import."""
    read_at_import = sorted((name, value) for name, value in variables.items() if is_read_at_import(name))
    return session_folder() / f"{hashlib.sha256(json.dumps(read_at_import).encode()).hexdigest()[:16]}.socket"


def find_server(variables: dict[str, str]) -> Path:
    """Return the socket of this session's server for scripts with these variables; start the server if there is none."""
    path = name_socket(variables)
    if path in SERVERS:
        return path
    with FileLock(f"{path}.lock"):
        try:
            SERVERS[path] = connect(path), None
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)  # of a server that has ended
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen(64)
                descriptor = listener.fileno()
                command = [sys.executable, "-m", "tests.warm", str(descriptor)]
                server = subprocess.Popen(command, cwd=ROOT, env=variables, pass_fds=[descriptor], start_new_session=True)
            SERVERS[path] = connect(path), server
    return path


def write_launched_python() -> Path:
    """Return an executable that torchrun and `accelerate launch` start in place of Python, so that their processes start warm too."""
    path = session_folder() / "python"
    if not path.exists():
        partial = path.with_name(f"python.{os.getpid()}")
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.warm import forward_to_server; forward_to_server()"
        partial.write_text(f"#!{sys.executable} -S\n{code}\n")
        partial.chmod(0o700)
        partial.rename(path)
    return path


FAMILIES = ("bert", "distilbert", "gemma", "mistral")


def make_backbone(family: str, folder: Path, seed: int = 100) -> Path:
    """Write a backbone of one of `FAMILIES` with random weights, two layers of width 32, its tokenizer trained on the bundled corpus."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(seed)
    sizes: dict[str, Any]
    if family in ("bert", "distilbert"):
        tokenizer = make_word_pieces(folder)
        if family == "bert":
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        else:
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        sizes["max_position_embeddings"] = 128
    else:
        tokenizer = make_byte_pairs("<pad>" if family == "gemma" else None)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 64}
        sizes |= {"head_dim": 8, "pad_token_id": tokenizer.pad_token_id, "dtype": "bfloat16"}
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **sizes)
    AutoModel.from_config(config, dtype=torch.bfloat16 if family in ("gemma", "mistral") else torch.float32).save_pretrained(folder)
    return folder


def make_word_pieces(folder: Path) -> Any:
    """Return the tokenizer that BERT and DistilBERT share: the commonest words, and single letters for all others.

    A trained tokenizer would number its pieces differently each time, and the models would differ with it.
    """
    from transformers import BertTokenizerFast

    words = Counter(re.findall(r"\w+|[^\w\s]", (SAMPLE / "train.csv").read_text(encoding="utf-8").lower()))
    letters = sorted({letter for word in words for letter in word})
    common = [word for word in sorted(words, key=lambda word: (-words[word], word)) if len(word) > 1]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *common]
    (folder / "vocab.txt").write_text("\n".join(vocabulary[:1_500]), encoding="utf-8")
    return BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=128)


def make_byte_pairs(pad_token: str | None) -> Any:
    """Return a tokenizer like Gemma's (with `<pad>`) or Mistral's (without): byte pairs after a `<s>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", *([pad_token] if pad_token else [])]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train(
        [str(SAMPLE / "train.csv")],
        trainers.BpeTrainer(vocab_size=1_500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=pad_token, padding_side="left"
    )


@pytest.fixture(autouse=True)
def is_loud(monkeypatch):
    """A test that reads `--quiet` in this process does not silence the ones after it."""
    for name in (QUIET, "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")  # so that what the test sets is forgotten
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny_backbones() -> dict[str, Path]:
    """One backbone of each of `FAMILIES`; tests do not change them."""
    return {family: make_once(family, lambda folder, family=family: make_backbone(family, folder)) for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny_bert(tiny_backbones: dict[str, Path]) -> Path:
    return tiny_backbones["bert"]


@pytest.fixture(scope="session")
def small_data() -> Path:
    """A folder with the rows of the bundled corpus that have one of six labels: 396 to train on, 86 for validation, 104 for testing.

    A run on it takes two thirds of the time: scores and plots of six labels take less than those of 28.
    """
    import pandas as pd

    def make(folder: Path) -> None:
        for split in ("train", "validation", "test"):
            frame = pd.read_csv(SAMPLE / f"{split}.csv", keep_default_na=False)
            frame["labels"] = ["|".join(name for name in labels.split("|") if name in SMALL_LABELS) for labels in frame.labels]
            frame[frame.labels != ""].to_csv(folder / f"{split}.csv", index=False)

    return make_once("small-data", make)


@pytest.fixture(scope="session")
def small_texts() -> list[str]:
    """The first 60 texts of the bundled test split."""
    import pandas as pd

    return pd.read_csv(SAMPLE / "test.csv", keep_default_na=False).text.tolist()[:60]


@pytest.fixture(scope="session")
def tiny_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny BERT, trained for two epochs by the command that a user types; each test process has its own copy."""
    settings = [f"model.backbone={tiny_bert}", "run.name=tiny", "training.epochs=2", "training.per_device_batch_size=64"]
    settings += ["training.learning_rate=3e-3"]

    def train(folder: Path) -> None:
        result = run_script("train.py", "--config", "configs/quickstart.yaml", *settings, f"run.folder={folder}", RENDER="1")
        assert result.returncode == 0, result.stderr

    return shutil.copytree(make_once("runs", train) / "tiny", tmp_path_factory.mktemp("runs") / "tiny")


def copy_run(run: Path, folder: Path, *arguments: str, script: str = "evaluate.py") -> tuple[Path, str]:
    """Copy a run into a folder, call a script with some arguments for the copy, and return it and what was printed."""
    copy = folder / run.name
    shutil.copytree(run, copy)
    result = run_script(script, "--model", str(copy), *arguments)
    assert result.returncode == 0, result.stderr
    return copy, result.stdout


def infer_cold(run: Path, *arguments: str, stdin: str = "") -> tuple[dict[str, Any], str]:
    """Return the record and the stderr of `infer.py --json` in an interpreter of its own, which must import no slow package."""
    code = (
        "import sys, runpy; sys.argv = ['infer.py', '--json', '--model', *sys.argv[1:]]\n"
        "try: runpy.run_path('infer.py', run_name='__main__')\n"
        "finally: print({'torch', 'transformers', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    result = run_script("-c", code, str(run), *arguments, stdin=stdin, PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 0 and result.stderr.endswith("set()\n"), result.stderr
    return json.loads(result.stdout), result.stderr
