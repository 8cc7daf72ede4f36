"""Push to a stand-in for the Hub on the loopback, and back: made, filled, its card read, loaded by name."""

import json

import pytest
import yaml

from tests.conftest import copy_run, run_script
from tests.hub import TOKEN, serve_hub


@pytest.fixture(scope="module")
def tested_run(tiny_run, tmp_path_factory):
    """A copy of the tiny run with its test split opened."""
    run, _ = copy_run(tiny_run, tmp_path_factory.mktemp("pushed"), "--split", "test")
    return run


def push(run, name, hub, tmp_path, *more, warm=None):
    return run_script("evaluate.py", "--model", str(run), "--push", name, *more, warm=warm, **hub, HF_HOME=str(tmp_path / "cache"))


def test_pushed_model_comes_back(tested_run, tmp_path):
    with serve_hub({}, tmp_path / "uploads", num_broken=1) as hub:
        hub["HF_TOKEN"] = TOKEN
        listed = push(tested_run, "someone/tiny", hub, tmp_path, "--dry-run", warm=2)
        assert listed.returncode == 0 and "private" in listed.stdout and "model.safetensors" in listed.stdout
        assert not (tmp_path / "uploads").exists()
        broken = push(tested_run, "someone/tiny", hub, tmp_path, warm=2)
        errors = [line for line in broken.stderr.splitlines() if line.startswith("error: ")]
        assert broken.returncode == 2 and len(errors) == 1 and "repeat the command to complete it" in errors[0]
        pushed = push(tested_run, "someone/tiny", hub, tmp_path, warm=2)
        assert pushed.returncode == 0 and "someone/tiny" in pushed.stdout, pushed.stderr
        wanted = json.loads((tmp_path / "uploads" / "created.json").read_text())
        assert wanted.get("visibility") == "private" or wanted.get("private") is True  # by version of the Hub's client
        inferred = run_script(
            "infer.py", "--model", "someone/tiny", "--text", "I love it", "--json", warm=2, **hub, HF_HOME=str(tmp_path / "cache")
        )
        code = "from transformers import pipeline; import json; "
        code += "print(json.dumps(pipeline('text-classification', model='someone/tiny', top_k=None)(['I love it'])[0]))"
        piped = run_script("-c", code, **hub, HF_HOME=str(tmp_path / "cache"))
    assert inferred.returncode == 0, inferred.stderr
    probabilities = json.loads(inferred.stdout)["probabilities"]
    answers = {row["label"]: row["score"] for row in json.loads(piped.stdout.splitlines()[-1])}
    assert answers == pytest.approx(probabilities, abs=1e-4) and len(answers) == 28
    folder = tmp_path / "uploads" / "someone" / "tiny"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tested_run / "model").iterdir()}
    text = (folder / "README.md").read_text()
    index = yaml.safe_load(text.split("---")[1])["model-index"][0]
    scores = json.loads((tested_run / "report" / "test" / "metrics.json").read_text())["at_decision_rule"]
    found = {metric["type"]: metric["value"] for result in index["results"] for metric in result["metrics"]}
    assert found["macro_f1"] == pytest.approx(scores["macro_f1"]) and index["name"] == "tiny"
    assert "PATH_OR_ID" not in text and text.count("## Test scores") == text.count("## Labels") == 1  # although written twice


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("someone/tiny", {"HF_TOKEN": ""}, "no token: set HF_TOKEN"),
        ("other/tiny", {}, "the name is another's"),
        ("someone/tiny", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the Hub cannot be reached; repeat"),
    ],
)
def test_what_can_go_wrong_is_one_line(name, environment, message, tested_run, tmp_path):
    with serve_hub({}, tmp_path / "uploads") as hub:
        result = push(tested_run, name, {**hub, "HF_TOKEN": TOKEN, **environment}, tmp_path)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr


def test_a_hub_that_is_away_does_not_fail_a_finished_run(tiny_bert, tmp_path):
    settings = [f"model.backbone={tiny_bert}", "data.train_fraction=0.1", "training.epochs=1", f"run.folder={tmp_path}", "run.name=run"]
    words = ["train.py", "--config", "configs/quickstart.yaml", *settings, "hub.push=true", "hub.repo=someone/tiny"]
    result = run_script(*words, HF_TOKEN=TOKEN, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert result.returncode == 0 and "--push someone/tiny" in result.stderr, result.stderr
