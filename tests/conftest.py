"""Shared: a tiny BERT made on the spot, a run of it trained by train.py, and a way to call the scripts as a user does."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")  # importing wandb takes seconds; the tests of tracking turn it on
os.environ["CUDA_VISIBLE_DEVICES"] = ""
"""The tests are of the CPU, wherever they run."""
os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Tiny models gain nothing from more threads, and lose much where something else runs beside them."""

ROOT = Path(__file__).parents[1]
READ_AT_IMPORT = ("HF_", "OMP_", "PYTHON")
"""Beginnings of the names of variables that packages read once."""
SAMPLE = ROOT / "emotion" / "data" / "sample"
GOEMOTIONS_ROWS = ["I love this!\t18\ta1", 'He said "no"\t2,3\ta2', "NA\t27\ta3", "so\x85so 🙃\t27,0\ta4"]


def run_script(
    *words: str, folder: Path = ROOT, stdin: str | bytes | None = None, warm: int | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run `python WORDS` and return what it printed: in an interpreter of its own where that matters, otherwise in a warm one."""
    given = stdin.encode() if isinstance(stdin, str) else stdin or b""
    process = start_script(*words, folder=folder, stdin=given, warm=warm, **environment)
    status = process.wait(300)
    out, err = (path.read_bytes() for path in process.outputs)
    if isinstance(stdin, bytes):
        return subprocess.CompletedProcess(words, status, out, err)
    return subprocess.CompletedProcess(words, status, out.decode(), err.decode())


def start_script(*words: str, folder: Path = ROOT, stdin: bytes = b"", warm: int | None = None, **environment: str) -> "Script":
    """Start `python WORDS` and return it, running; scripts that run at the same time need different numbers `warm` to start warm.

    Where the environment has variables that are read at import, a warm start pays from the second script with the same ones.
    """
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1", **environment}
    if warm is None and not (words[0] in ("-m", "-c") or any(name.startswith(READ_AT_IMPORT) for name in environment)):
        warm = 0
    return Script(list(words), folder, stdin, variables, warm)


def as_process(rank: int, port: int) -> dict[str, str]:
    """Return what torchrun would tell one of two processes."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return place | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def run_processes(*words: str, port: int, **environment: str) -> list[subprocess.CompletedProcess]:
    """Run `python WORDS` in two processes that know of each other, and return what each printed."""
    scripts = [start_script(*words, warm=rank, **as_process(rank, port), **environment) for rank in range(2)]
    statuses = [script.wait(300) for script in scripts]
    texts = [[path.read_text() for path in script.outputs] for script in scripts]
    return [subprocess.CompletedProcess(words, status, *text) for status, text in zip(statuses, texts, strict=True)]


class Script:
    """A running script; its streams are files."""

    starters: ClassVar[dict[int, tuple[dict[str, str], "subprocess.Popen[bytes]"]]] = {}
    """The processes that start scripts warm, one script at a time, for all tests of this process, and what they read at import."""

    def __init__(self, words: list[str], folder: Path, stdin: bytes, variables: dict[str, str], warm: int | None):
        self._place = tempfile.TemporaryDirectory(prefix="script-")
        files = [Path(self._place.name) / name for name in ("stdin", "stdout", "stderr")]
        for path in files:
            path.write_bytes(stdin if path.name == "stdin" else b"")
        self.outputs, self._status, self._cold = files[1:], None, None
        if warm is None:
            streams = [path.open(mode) for path, mode in zip(files, ("rb", "wb", "wb"), strict=True)]
            command = [sys.executable, *words]
            self._cold = subprocess.Popen(command, cwd=folder, env=variables, stdin=streams[0], stdout=streams[1], stderr=streams[2])
            self.number = self._cold.pid
            return
        self._starter = Script.start_warm(warm, {name: value for name, value in variables.items() if name.startswith(READ_AT_IMPORT)})
        request = {"words": words, "folder": str(folder), "environment": variables, "files": [str(path) for path in files]}
        self._starter.stdin.write(json.dumps(request).encode() + b"\n")
        self.number = int(self._starter.stdout.readline())

    @staticmethod
    def start_warm(warm: int, read_at_import: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Return the process of that number with those variables; one with others makes room for it."""
        known, starter = Script.starters.get(warm, ({}, None))
        if starter is None or known != read_at_import:
            if starter is not None:
                starter.stdin.close()
                starter.wait()
            command, variables = [sys.executable, "-m", "tests.warm"], {**os.environ, **read_at_import}
            starter = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            Script.starters[warm] = read_at_import, starter
        return starter

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self._cold is not None:
            return self._cold.poll()
        if self._status is None and select.select([self._starter.stdout], [], [], 0)[0]:
            self._status = int(self._starter.stdout.readline())
        return self._status

    def wait(self, timeout: float) -> int:
        """Return the exit status; after `timeout` seconds, kill it and fail."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                pytest.fail(f"still running after {timeout} s")
            time.sleep(0.01)
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.number, number)


KINDS = ("bert", "distilbert", "gemma", "mistral")


def make_backbone(kind: str, folder: Path, seed: int = 100) -> Path:
    """Write a backbone of one of `KINDS` with random weights, two layers of width 32, its tokenizer trained on the bundled corpus."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(seed)
    if kind in ("bert", "distilbert"):
        tokenizer = make_word_pieces(folder)
        if kind == "bert":
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        else:
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        sizes["max_position_embeddings"] = 128
    else:
        tokenizer = make_byte_pairs("<pad>" if kind == "gemma" else None)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 64}
        sizes |= {"head_dim": 8, "pad_token_id": tokenizer.pad_token_id, "dtype": "bfloat16"}
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes)
    AutoModel.from_config(config, dtype=torch.bfloat16 if kind in ("gemma", "mistral") else torch.float32).save_pretrained(folder)
    return folder


def make_word_pieces(folder: Path) -> Any:
    """Return the tokenizer that BERT and DistilBERT share: the commonest words, and letters for the others.

    A trained one would have its pieces numbered otherwise every time, and with them the models.
    """
    from transformers import BertTokenizerFast

    words = Counter(re.findall(r"\w+|[^\w\s]", (SAMPLE / "train.csv").read_text(encoding="utf-8").lower()))
    letters = sorted({letter for word in words for letter in word})
    common = [word for word in sorted(words, key=lambda word: (-words[word], word)) if len(word) > 1]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *common]
    (folder / "vocab.txt").write_text("\n".join(vocabulary[:1_500]), encoding="utf-8")
    return BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=128)


def make_byte_pairs(pad_token: str | None) -> Any:
    """Return a tokenizer as Gemma's (with `<pad>`) or Mistral's (without): byte pairs behind a `<s>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel()
    inner.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", *([pad_token] if pad_token else [])]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train(
        [str(SAMPLE / "train.csv")],
        trainers.BpeTrainer(vocab_size=1_500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=pad_token, padding_side="left"
    )


@pytest.fixture(scope="session")
def tiny_backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One backbone of each of `KINDS`."""
    return {kind: make_backbone(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="session")
def tiny_bert(tiny_backbones: dict[str, Path]) -> Path:
    return tiny_backbones["bert"]


@pytest.fixture(scope="session")
def tiny_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny BERT, trained for two epochs by the command that a user types."""
    folder = tmp_path_factory.mktemp("runs")
    result = run_script(
        "train.py",
        "--config",
        "configs/quickstart.yaml",
        f"model.backbone={tiny_bert}",
        f"run.folder={folder}",
        "run.name=tiny",
        "training.epochs=2",
        "training.per_device_batch_size=64",
        "training.learning_rate=3e-3",
        RENDER="1",
    )
    assert result.returncode == 0, result.stderr
    return folder / "tiny"


def copy_run(run: Path, folder: Path, *words: str) -> tuple[Path, str]:
    """Copy a run into a folder, call `evaluate.py` with some words for the copy, and return it and what was printed."""
    copy = folder / run.name
    shutil.copytree(run, copy)
    result = run_script("evaluate.py", "--model", str(copy), *words)
    assert result.returncode == 0, result.stderr
    return copy, result.stdout


def infer_cold(run: Path, *words: str, stdin: str = "") -> tuple[dict[str, Any], str]:
    """Return the record of `infer.py --json` in a cold process of its own, and what it said; it must not import what takes long."""
    code = (
        "import sys, runpy; sys.argv = ['infer.py', '--json', '--model', *sys.argv[1:]]\n"
        "try: runpy.run_path('infer.py', run_name='__main__')\n"
        "finally: print({'torch', 'transformers', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    result = run_script("-c", code, str(run), *words, stdin=stdin, PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 0 and result.stderr.endswith("set()\n"), result.stderr
    return json.loads(result.stdout), result.stderr
