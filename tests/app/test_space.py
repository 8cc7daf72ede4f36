"""A Space is pushed to a server on the loopback that acts as the Hub, pulled into an empty folder, and answers there without torch."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from emotion.app.answers import answer_text
from emotion.export.space import copy_run, list_requirements
from emotion.tracking.run_folder import RunFolder
from tests.app.space_hub import SpaceHub
from tests.conftest import find_free_port, run_script
from tests.hub import TOKEN, serve_hub, unreachable_hub

TEXT = "Thank you so much, you saved my day!"
FORBIDDEN = ("torch", "transformers", "scipy", "sklearn", "matplotlib", "accelerate", "peft", "datasets", "wandb", "onnxruntime")
"""Packages that the Space of a small encoder does not install."""
PYTHON = "PYTHON_OF_A_SPACE"
"""Variable with the interpreter of an environment with a Space's requirements only; without it, the others are hidden from this one."""
PULL = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("someone/page", repo_type="space", local_dir=sys.argv[1])
"""
HIDE = f"""
import runpy, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {FORBIDDEN!r} else find(name, package)
sys.path.insert(0, "."); sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def push(run, hub, *more, name="someone/page"):
    return run_script("export.py", "--model", str(run), "--push-space", name, *more, warm=True, **hub)


@pytest.fixture
def with_spaces(monkeypatch):
    monkeypatch.setattr("tests.hub.FakeHub", SpaceHub)


@pytest.mark.slow
def test_pushed_space_answers_in_an_empty_folder(tiny_run, model, tmp_path, with_spaces):
    gradio_client = pytest.importorskip("gradio_client")
    with serve_hub({}, tmp_path / "uploads") as hub:
        hub["HF_TOKEN"] = TOKEN
        pushed = push(tiny_run, hub)
        assert pushed.returncode == 0 and pushed.stdout.endswith("/spaces/someone/page\n"), pushed.stderr
        created = json.loads((tmp_path / "uploads" / "created.json").read_text())
        assert created["type"] == "space" and created["sdk"] == "gradio"
        assert created.get("visibility") == "private" or created.get("private") is True
        pulled = run_script("-c", PULL, str(tmp_path / "pulled"), warm=True, **hub)
        assert pulled.returncode == 0, pulled.stderr
    address = f"http://127.0.0.1:{find_free_port()}/"
    command = [os.environ[PYTHON], "app.py"] if os.environ.get(PYTHON) else [sys.executable, "-c", HIDE, "app.py"]
    environment = {**os.environ, "PYTHONPATH": "", "GRADIO_SERVER_NAME": "127.0.0.1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        arguments = [*command, "--port", address.rstrip("/").rpartition(":")[2]]
        server = subprocess.Popen(arguments, cwd=tmp_path / "pulled", env=environment, stdout=log, stderr=log)
    try:
        while "ready after" not in (tmp_path / "log").read_text() and server.poll() is None:
            time.sleep(0.05)
        assert server.poll() is None, (tmp_path / "log").read_text()
        client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
        answer, expected = client.predict(TEXT, api_name="/predict"), answer_text(model, TEXT).to_record()
        assert answer["labels"] == expected["labels"] and answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-3)
        (tmp_path / "rows.csv").write_text("text\nI love it\n\n")
        files, counts = client.predict(gradio_client.handle_file(tmp_path / "rows.csv"), api_name="/score_file")
        assert counts["num_rows"] == 2 and counts["num_bad"] == 1 and len(files) == 2
    finally:
        server.terminate()
        try:
            assert server.wait(30) == 0
        finally:
            server.kill()


@pytest.mark.slow
def test_dry_run_lists_the_space_without_private_paths(tiny_run, tmp_path):
    with unreachable_hub() as hub:
        listed = push(tiny_run, hub, "--dry-run")
    assert listed.returncode == 0 and "would upload to the Space someone/page (private, if it has to be created)" in listed.stdout, (
        listed.stderr
    )
    names = [line.split()[1] for line in listed.stdout.splitlines()[1:]]
    wanted = {
        "app.py",
        "README.md",
        "requirements.txt",
        "emotion/",
        "runs/tiny/model/emotion.json",
        "runs/tiny/predictions/validation.parquet",
    }
    assert wanted <= set(names) and not any(name.endswith(("config.yaml", "metrics.jsonl", "environment.json")) for name in names)


def test_space_has_front_matter_and_no_row_ids(tiny_run):
    from emotion.export.space import build_space

    with build_space(RunFolder(tiny_run), "someone/page") as folder:
        front_matter = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
        rows = RunFolder(folder / "runs" / "tiny").read_predictions("validation")
        assert (folder / "emotion" / "app" / "style.css").is_file() and not (folder / "emotion" / "data" / "sample").exists()
    assert (front_matter["sdk"], front_matter["app_file"], front_matter["title"]) == ("gradio", "app.py", "page")
    own = RunFolder(tiny_run).read_predictions("validation")
    assert rows.ids == [str(number) for number in range(len(own.ids))] and rows.ids != own.ids and rows.label_set == own.label_set
    assert (rows.labels == own.labels).all() and (rows.probabilities == own.probabilities).all()


def test_the_model_of_a_space_names_no_folder_of_this_machine(tiny_run, tmp_path):
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "private" / "tiny"))
    sidecar = run.model / "emotion.json"
    values = json.loads(sidecar.read_text())
    values["model"]["backbone"] = str(tmp_path / "private" / "bert")  # as earlier versions wrote it
    sidecar.write_text(json.dumps(values))
    copy_run(run, RunFolder(tmp_path / "space"))
    copied = json.loads((tmp_path / "space" / "model" / "emotion.json").read_text())
    assert copied == values | {"model": values["model"] | {"backbone": "./bert"}}


def test_requirements_have_torch_only_where_it_is_needed(tiny_run, tmp_path):
    def name_packages(run):
        return {line.partition(">")[0].partition("=")[0].lower() for line in list_requirements(run)}

    small = name_packages(RunFolder(tiny_run))
    assert {"gradio", "numpy", "safetensors", "tokenizers"} <= small and not small & set(FORBIDDEN)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "emotion.json").touch()
    assert {"gradio", "torch", "transformers"} <= name_packages(RunFolder(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "token", "message"),
    [("someone/page", "", "no token: set HF_TOKEN"), ("other/page", TOKEN, "the token has no write access to this name")],
)
def test_failed_push_is_one_line(name, token, message, tiny_run, tmp_path, with_spaces):
    with serve_hub({}, tmp_path / "uploads") as hub:
        result = push(tiny_run, {**hub, "HF_TOKEN": token}, name=name)
    assert result.returncode == 2 and f"error: --push-space {name}: {message}" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_second_push_replaces_the_run_of_the_first(tiny_run, tmp_path, with_spaces):
    with serve_hub({}, tmp_path / "uploads") as hub:
        hub["HF_TOKEN"] = TOKEN
        for name in ("first", "second"):
            result = push(shutil.copytree(tiny_run, tmp_path / name), hub)
            assert result.returncode == 0, result.stderr
    space = tmp_path / "uploads" / "someone" / "page"
    assert {path.parents[1].name for path in space.rglob("runs/*/model/emotion.json")} == {"second"}
    assert (space / "emotion" / "labels.py").is_file() and (space / "app.py").is_file()


def test_a_run_that_has_not_ended_makes_no_space(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "efficiency.json").unlink()
    result = run_script("export.py", "--model", str(run), "--push-space", "someone/page", "--dry-run")
    assert result.returncode == 2 and "is not finished; go on with train.py --resume" in result.stderr.splitlines()[-1]
