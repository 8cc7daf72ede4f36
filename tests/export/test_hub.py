"""Push a run to a server on the loopback that acts as the Hub, and load the model from there by its name."""

import json
from shutil import copytree as copy_tree

import pytest
import yaml

from emotion.errors import ModelError
from emotion.export.hub import list_files
from emotion.tracking.run_folder import RunFolder
from tests.conftest import copy_run, run_script
from tests.hub import TOKEN, serve_hub, unreachable_hub


@pytest.fixture(scope="module")
def tested_run(tiny_run, tmp_path_factory):
    """A copy of the tiny run with a report of its test split."""
    run, _ = copy_run(tiny_run, tmp_path_factory.mktemp("pushed"), "--split", "test")
    return run


def push(run, name, hub, *more, warm=None):
    return run_script("export.py", "--model", str(run), "--push", name, *more, warm=warm, **hub)


def test_what_a_killed_process_has_left_is_not_published(tmp_path):
    run = RunFolder(tmp_path)
    for name in ("emotion.json", "onnx/model.onnx", ".onnx.partial/model.onnx", ".onnx.old/about.json", ".README.md.partial"):
        (run.model / name).parent.mkdir(parents=True, exist_ok=True)
        (run.model / name).write_text("{}")
    expected = [("emotion.json", 2), ("onnx/model.onnx", 2)]
    assert list_files(run) == expected
    (run.model / "emotion.json").rename(run.model / ".onnx.partial" / "emotion.json")
    with pytest.raises(ModelError, match="has no finished model"):
        list_files(run)


@pytest.mark.slow
def test_pushed_model_predicts_the_same_by_its_name(tested_run, tmp_path):
    with serve_hub({}, tmp_path / "uploads", num_broken=1) as hub:
        hub["HF_TOKEN"] = TOKEN
        listed = push(tested_run, "someone/tiny", hub, "--dry-run", warm=True)
        assert listed.returncode == 0 and "private" in listed.stdout and "model.safetensors" in listed.stdout
        assert not (tmp_path / "uploads").exists()
        broken = push(tested_run, "someone/tiny", hub, warm=True)
        errors = [line for line in broken.stderr.splitlines() if line.startswith("error: ")]
        assert broken.returncode == 2 and len(errors) == 1 and "repeat the command to complete it" in errors[0]
        pushed = push(tested_run, "someone/tiny", hub, warm=True)
        assert pushed.returncode == 0 and "someone/tiny" in pushed.stdout, pushed.stderr
        request = json.loads((tmp_path / "uploads" / "created.json").read_text())
        assert request.get("visibility") == "private" or request.get("private") is True  # depends on the version of the Hub's client
        inferred = run_script("infer.py", "--model", "someone/tiny", "--text", "I love it", "--json", warm=True, **hub)
        code = "from transformers import pipeline; import json; "
        code += "print(json.dumps(pipeline('text-classification', model='someone/tiny', top_k=None)(['I love it'])[0]))"
        piped = run_script("-c", code, warm=True, **hub)
    assert inferred.returncode == 0, inferred.stderr
    probabilities = json.loads(inferred.stdout)["probabilities"]
    scores = {row["label"]: row["score"] for row in json.loads(piped.stdout.splitlines()[-1])}
    assert scores == pytest.approx(probabilities, abs=1e-4) and len(scores) == 28
    folder = tmp_path / "uploads" / "someone" / "tiny"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tested_run / "model").iterdir()}
    text = (folder / "README.md").read_text()
    index = yaml.safe_load(text.split("---")[1])["model-index"][0]
    report = json.loads((tested_run / "report" / "test" / "metrics.json").read_text())["at_decision_rule"]
    metrics = {metric["type"]: metric["value"] for result in index["results"] for metric in result["metrics"]}
    assert metrics["macro_f1"] == pytest.approx(report["macro_f1"]) and index["name"] == "tiny"
    assert "PATH_OR_ID" not in text and text.count("## Scores") == text.count("## Labels") == 1  # although it was written twice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("someone/tiny", {"HF_TOKEN": ""}, "no token: set HF_TOKEN"),
        ("other/tiny", {}, "no write access to this name"),
        ("someone/tiny", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the Hub cannot be reached; repeat"),
    ],
)
def test_failed_push_is_one_line(name, environment, message, tested_run, tmp_path):
    with serve_hub({}, tmp_path / "uploads") as hub:
        result = push(tested_run, name, {**hub, "HF_TOKEN": TOKEN, **environment})
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr


def test_push_of_a_model_outside_a_run_is_one_line(tiny_run, tmp_path):
    (tmp_path / "model").symlink_to(tiny_run / "model")
    result = run_script("export.py", "--model", str(tmp_path / "model"), "--push", "someone/tiny")
    assert result.returncode == 2 and "--push: the model is not in a run folder" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_unreachable_hub_does_not_fail_a_finished_run(tiny_bert, tmp_path):
    settings = [f"model.backbone={tiny_bert}", "data.train_fraction=0.1", "training.epochs=1", f"run.folder={tmp_path}", "run.name=run"]
    arguments = ["train.py", "--config", "configs/quickstart.yaml", *settings, "hub.push=true", "hub.repo=someone/tiny"]
    with unreachable_hub() as hub:
        result = run_script(*arguments, warm=True, **hub | {"HF_TOKEN": TOKEN})
    assert result.returncode == 0, result.stderr
    assert f"python export.py --model {tmp_path / 'run'} --push someone/tiny" in result.stderr


@pytest.mark.slow
def test_files_of_the_model_that_was_there_before_are_removed_and_others_stay(tested_run, tmp_path):
    """transformers would load the adapter that is left in place of the full model."""
    repository = tmp_path / "uploads" / "someone" / "tiny"
    (repository / "onnx").mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "onnx/about.json", "LICENSE", "picture.png"):
        (repository / name).write_text("{}")
    with serve_hub({"someone/tiny": repository}, tmp_path / "uploads") as hub:
        pushed = push(tested_run, "someone/tiny", hub | {"HF_TOKEN": TOKEN}, warm=True)
    assert pushed.returncode == 0, pushed.stderr
    found = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert found == {path.name for path in (tested_run / "model").iterdir()} | {"LICENSE", "picture.png"}
    assert "hub: someone/tiny exists and is public; hub.private=true is for new ones" in pushed.stderr


def test_a_model_that_another_process_writes_is_not_pushed(tiny_run, tmp_path):
    run = RunFolder(copy_tree(tiny_run, tmp_path / "run"))
    with run.hold():
        result = run_script("export.py", "--model", str(run.path), "--push", "someone/tiny", HF_TOKEN=TOKEN)
    assert result.returncode == 2 and "is being written by process" in result.stderr and "Traceback" not in result.stderr
