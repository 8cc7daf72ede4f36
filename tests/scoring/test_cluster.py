"""Scoring on a cluster: every row once and in order, what is written stays, mistakes are one line.

In most tests, workers in this process stand for Ray.
"""

import importlib.util
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emotion.config import DataConfig
from emotion.errors import ConfigError, DataError, ModelError, StorageError
from emotion.inference.loading import load_predictor
from emotion.locks import hold_lock
from emotion.scoring import cluster
from emotion.scoring.batch import BatchOptions
from emotion.scoring.cluster_worker import PartWorker, raise_error
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.remote_files import Folder, find_inputs
from emotion.scoring.scoring import score_files
from tests.conftest import ROOT, SAMPLE, find_free_port
from tests.test_docs import list_blocks

TEXTS = [*pd.read_csv(SAMPLE / "test.csv").text[:90], None, " ", "ok"]


class Workers:
    """Stands for Ray: one worker after another gets the parts; the numbers of the parts are recorded."""

    def __init__(self):
        self.numbers, self.max_parts = [], None

    def run(self, scorer, output, parts, worker_cores):
        for part in parts:
            if self.max_parts is not None and len(self.numbers) >= self.max_parts:
                raise KeyboardInterrupt
            self.numbers.append(part.number)
            for row in PartWorker(scorer, output)(pa.Table.from_pylist([asdict(part)])).to_pylist():
                raise_error(row)


@pytest.fixture
def workers(monkeypatch):
    workers = Workers()
    monkeypatch.setattr(cluster, "run_parts", workers.run)
    return workers


@pytest.fixture
def inputs(tmp_path):
    """A folder with two parquet files, one of several row groups, and a hidden file."""
    folder = tmp_path / "in"
    folder.mkdir()
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS, "notes": [[str(row)] for row in range(len(TEXTS))]})
    pq.write_table(table.slice(0, 40), folder / "a.parquet", row_group_size=7)
    pq.write_table(table.slice(40), folder / "b.parquet")
    (folder / "_SUCCESS").write_text("")
    return folder


def score(run, *names, output, log=lambda message: None, columns=None, options=None, **settings):
    job = cluster.ClusterJob([str(name) for name in names], str(output), columns or DataConfig(), **settings)
    return cluster.score_on_cluster(str(run), None, options or BatchOptions(probabilities="all", backend="numpy"), job, log)


def score_alone(run, paths, output):
    """Score files by one process, and return the table and the counts."""
    predictor = load_predictor(str(run), "numpy")
    tally = score_files(predictor, predictor.rule, ScoringJob(tuple(paths), output, DataConfig(), "all"), lambda message: None)
    return pq.read_table(output), tally


def assert_same(output, expected, is_sorted=True):
    """Check that a folder has the rows of a table, in order or in any, the probabilities to the last decimal."""
    found = pq.read_table(output)
    assert found.schema.equals(expected.schema)
    found = found if is_sorted else found.sort_by("id")
    for name in found.column_names:
        if name.startswith("probability_"):
            np.testing.assert_allclose(found.column(name).to_numpy(), expected.column(name).to_numpy(), rtol=0, atol=1.01e-4)
        else:
            assert found.column(name).equals(expected.column(name)), name


def read_quarantine(path):
    return pd.read_csv(path, sep="\t", keep_default_na=False).to_dict("records")


def test_parquet_is_scored_as_by_one_process(tiny_run, inputs, workers, tmp_path):
    expected, tally = score_alone(tiny_run, sorted(inputs.glob("*.parquet")), tmp_path / "one.parquet")
    messages = []
    counts = score(tiny_run, inputs / "*.parquet", output=tmp_path / "out", part_rows=16, log=messages.append)
    assert_same(tmp_path / "out", expected)
    assert (counts.num_rows, counts.num_bad, counts.num_cut) == (tally.num_rows, tally.num_bad, tally.num_cut) == (93, 2, tally.num_cut)
    assert [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "out").glob("*.parquet"))] == [16, 16, 8, 16, 16, 16, 5]
    bad_rows = read_quarantine(tmp_path / "out" / "_quarantine.tsv")
    assert bad_rows == read_quarantine(tmp_path / "one.parquet.quarantine.tsv")
    assert [row["line"] for row in bad_rows] == [51, 52] and messages == ["data: text from column 'text'"]
    assert {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("part-")} == {
        *("_manifest.json", "_parts", "_quarantine.tsv", "_job.lock")
    }


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_formats_lose_no_row(ending, tiny_run, workers, tmp_path):
    lines = {
        "csv": ["id,text", "0,NA", '1,a "quote', "2,ok,more", "3,", '4,"two\nlines"', "5,ok"],
        "jsonl": ['{"id": 0, "text": "NA"}', '{"id": 1', '{"id": 2, "text": 7}', '{"id": 3}', '{"id": 4, "text": "\\ud800"}', ""],
    }[ending]
    path = tmp_path / f"a.{ending}"
    path.write_text("\n".join(lines) + "\n")
    expected, tally = score_alone(tiny_run, [path], tmp_path / "one.parquet")
    counts = score(tiny_run, path, output=tmp_path / "out", part_rows=2)
    assert tally.num_bad >= 2 and counts.num_bad == tally.num_bad and counts.num_rows == tally.num_rows == 6
    assert_same(tmp_path / "out", expected)
    assert read_quarantine(tmp_path / "out" / "_quarantine.tsv") == read_quarantine(tmp_path / "one.parquet.quarantine.tsv")
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3 and not (tmp_path / "out" / "_converted").exists()


def test_a_text_within_an_object(tiny_run, workers, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"post": {"text": "ok", "n": 1}}\n{"post": {"n": 2}}\n')
    columns = DataConfig(text_column="post.text")
    assert score(tiny_run, path, output=tmp_path / "out", columns=columns).num_bad == 1
    assert pq.read_table(tmp_path / "out").column_names[:2] == ["post", "predicted_labels"]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_job_that_is_started_again_scores_what_is_missing(ending, tiny_run, inputs, workers, tmp_path):
    if ending == "csv":
        pd.read_parquet(inputs / "b.parquet", columns=["id", "text"]).to_csv(inputs / "b.csv", index=False)
    source, messages = inputs / f"b.{ending}", []
    expected, _ = score_alone(tiny_run, [source], tmp_path / "one.parquet")
    workers.max_parts = 2
    with pytest.raises(KeyboardInterrupt):
        score(tiny_run, source, output=tmp_path / "out", part_rows=10)
    workers.max_parts = None
    score(tiny_run, source, output=tmp_path / "out", part_rows=10, log=messages.append)
    assert workers.numbers == [0, 1, 2, 3, 4, 5]
    assert messages[-1] == f"{tmp_path / 'out'}: 2 of 6 parts are done and not scored again"
    assert score(tiny_run, source, output=tmp_path / "out", part_rows=10).num_rows == 53
    assert len(workers.numbers) == 6  # all was there
    damaged, lost = tmp_path / "out" / "part-000001.parquet", tmp_path / "out" / "_parts" / "part-000004.json"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    lost.unlink()
    score(tiny_run, source, output=tmp_path / "out", part_rows=10)
    assert workers.numbers[6:] == [1, 4]
    assert_same(tmp_path / "out", expected)


def test_a_part_that_is_given_to_two_workers_is_there_once(tiny_run, inputs, monkeypatch, tmp_path):
    """As when a machine is taken for dead: one may write after the other."""
    given = []

    def take(scorer, output, parts, worker_cores):
        given.extend((PartWorker(scorer, output), part) for part in parts)

    monkeypatch.setattr(cluster, "run_parts", take)
    with pytest.raises(StorageError, match=r"part-000000.parquet: is not complete; start the command again"):
        score(tiny_run, inputs / "a.parquet", output=tmp_path / "out", part_rows=20)
    for worker, part in [*given, *given]:
        worker.write(part)
    (tmp_path / "out" / "_parts" / "part-000000.json").unlink()  # killed between the rows and the marker
    given[0][0].write(given[0][1])
    score(tiny_run, inputs / "a.parquet", output=tmp_path / "out", part_rows=20)
    assert len(given) == 2 and pq.read_table(tmp_path / "out").column("id").to_pylist() == list(range(40))


def test_another_job_is_refused_and_an_output_is_replaced_if_asked_for(tiny_run, inputs, workers, tmp_path):
    output = tmp_path / "out"
    score(tiny_run, inputs, output=output, part_rows=10)
    with pytest.raises(ConfigError, match=r"out: contains parts of another job \(rows of a part: 10 -> 20\)"):
        score(tiny_run, inputs, output=output, part_rows=20)
    with pytest.raises(ConfigError, match=r"\(model and rule"):
        score(tiny_run, inputs, output=output, part_rows=10, options=BatchOptions(probabilities="all", threshold=0.3, backend="numpy"))
    os.utime(inputs / "a.parquet", ns=(0, 0))
    with pytest.raises(ConfigError, match=r"\(versions of the inputs"):
        score(tiny_run, inputs, output=output, part_rows=10)
    with pytest.raises(ConfigError, match=r"part-000000\.parquet is one of the inputs; choose another name"):
        score(tiny_run, output, output=output, is_overwriting=True)
    score(tiny_run, inputs, output=output, part_rows=20, is_overwriting=True)
    assert len(list(output.glob("*.parquet"))) == 5 and pq.read_table(output).num_rows == 93
    with hold_lock(output / "_job.lock", "x", "y"), pytest.raises(StorageError, match="is being scored by process"):
        score(tiny_run, inputs, output=output, part_rows=20)


def test_an_output_stays_until_the_new_one_is_complete(tiny_run, inputs, workers, tmp_path, monkeypatch):
    """Whatever the mistake or the interruption; the same command goes on, and another one replaces its parts."""
    output, options = tmp_path / "out", {"output": tmp_path / "out", "is_overwriting": True}
    score(tiny_run, inputs / "a.parquet", output=output, part_rows=3)
    earlier = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.name != "_job.lock"}
    expected, _ = score_alone(tiny_run, [inputs / "b.parquet"], tmp_path / "one.parquet")
    pd.read_parquet(inputs / "b.parquet", columns=["id", "text"]).to_csv(inputs / "b.csv", index=False)
    write_other_columns(inputs)
    with pytest.raises(DataError, match="all files must have the same"):
        score(tiny_run, inputs / "*.parquet", **options)
    workers.numbers, workers.max_parts = [], 2
    for name, part_rows in (("b.csv", 10), ("b.parquet", 11), ("b.parquet", 10)):
        workers.numbers = []
        with pytest.raises(KeyboardInterrupt):
            score(tiny_run, inputs / name, part_rows=part_rows, **options)
        assert workers.numbers == [0, 1]
    assert {path: path.read_bytes() for path in earlier} == earlier
    workers.max_parts, moved = None, []
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "move", lambda folder, name, target: moved.append(name) or (MOVE(folder, name, target), stop(moved)))
        with pytest.raises(KeyboardInterrupt):
            score(tiny_run, inputs / "b.parquet", part_rows=10, **options)
    with pytest.raises(ConfigError, match="out: exists already and is not of such a job"):
        score(tiny_run, inputs / "b.parquet", output=output, part_rows=10)
    score(tiny_run, inputs / "b.parquet", part_rows=10, **options)
    assert workers.numbers[:6] == list(range(6)) and len(workers.numbers) == 6 + 3  # three parts had been moved
    assert_same(output, expected)
    assert {path.name for path in output.iterdir() if not path.name.startswith("part-")} == {
        *("_manifest.json", "_parts", "_quarantine.tsv", "_job.lock")
    }
    assert score(tiny_run, inputs / "b.parquet", output=output, part_rows=10).num_rows == 53 and len(workers.numbers) == 9


MOVE = Folder.move


def stop(moved):
    if len(moved) == 3:
        raise KeyboardInterrupt


def test_a_new_output_that_was_interrupted_is_resumed_with_overwrite_too(tiny_run, inputs, workers, tmp_path):
    options = {"output": tmp_path / "out", "part_rows": 10, "is_overwriting": True}
    workers.max_parts = 2
    with pytest.raises(KeyboardInterrupt):
        score(tiny_run, inputs / "a.parquet", **options)
    workers.max_parts = None
    score(tiny_run, inputs / "a.parquet", **options)
    assert workers.numbers == [0, 1, 2, 3] and not (tmp_path / "out" / "_new").exists()
    score(tiny_run, inputs / "a.parquet", **options)
    assert workers.numbers[4:] == [0, 1, 2, 3]  # a complete one is replaced
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("")
    with pytest.raises(ConfigError, match="mine: exists already and is not of such a job; choose another name"):
        score(tiny_run, inputs / "a.parquet", **options | {"output": tmp_path / "mine"})


def test_names_of_inputs(inputs, tmp_path):
    a, b = str(inputs / "a.parquet"), str(inputs / "b.parquet")
    for name in (inputs, inputs / "*.parquet", f"file://{inputs}", f"file://{inputs}/*.parquet"):
        assert [file.name.removeprefix("file://") for file in find_inputs([str(name)])] == [a, b], name
    assert [file.name for file in find_inputs([b, f"file://{a}"])] == [b, f"file://{a}"]
    below = inputs / "year=2026"
    below.mkdir()
    shutil.copy(a, below)
    assert len(find_inputs([f"file://{inputs}/*.parquet"])) == 2 and len(find_inputs([f"file://{inputs}/*/*.parquet"])) == 1
    assert find_inputs([a])[0].num_bytes == Path(a).stat().st_size


def test_a_uri_is_scored_into_a_uri(tiny_run, inputs, workers, tmp_path):
    score(tiny_run, f"file://{inputs}/*.parquet", output=f"file://{tmp_path}/out", part_rows=50)
    assert pq.read_table(tmp_path / "out").column("id").to_pylist() == list(range(93))
    with pytest.raises(ConfigError, match=r"; probabilities: all -> none\)"):
        score(tiny_run, inputs, output=f"file://{tmp_path}/out", part_rows=50, options=BatchOptions(backend="numpy"))


def write_mixed(folder):
    (folder / "c.csv").write_text("text\nok\n")


def write_other_columns(folder):
    pq.write_table(pa.table({"id": [1], "body": ["ok"]}), folder / "c.parquet")


def write_other_types(folder):
    pq.write_table(pa.table({"id": ["1"], "text": ["ok"], "notes": [["a"]]}), folder / "c.parquet")


def write_damaged(folder):
    (folder / "c.parquet").write_bytes(b"PAR1")


def write_result(folder):
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("")


MISTAKES = {
    "no file": (None, ["gone/*.parquet"], {}, DataError, "--input gone/*.parquet: no such file"),
    "no file in the cloud": (None, ["file://{0}/c*.parquet"], {}, DataError, "--input file://{0}/c*.parquet: no such file"),
    "scheme": (
        None,
        ["nowhere://x/a"],
        {},
        DataError,
        "nowhere://x/a: cannot be opened (Unrecognized filesystem type in URI: nowhere://x/a)",
    ),
    "mixed": (write_mixed, ["{0}"], {}, DataError, "--input: {0}/a.parquet is .parquet, but {0}/c.csv is .csv; give files of one format"),
    "csv in the cloud": (write_mixed, ["file://{0}/c.csv"], {}, DataError, "--input file://{0}/c.csv: only parquet is read from the cloud"),
    "columns": (write_other_columns, ["{0}"], {}, DataError, "{0}/c.parquet: has the columns ['id', 'body'], but {0}/a.parquet has"),
    "types": (write_other_types, ["{0}"], {}, DataError, "{0}/c.parquet: column 'id' has the type string, but int64 in {0}/a.parquet"),
    "text column": (
        None,
        ["{0}"],
        {"columns": DataConfig(text_column="body")},
        DataError,
        "{0}/a.parquet: data.text_column='body' is not among its columns ['id', 'text', 'notes']",
    ),
    "damaged": (
        lambda folder: (folder / "c.parquet").write_bytes(b"PAR1"),
        ["{0}"],
        {},
        DataError,
        "{0}/c.parquet: cannot be read as parquet",
    ),
    "output": (write_result, ["{0}/a.parquet"], {}, ConfigError, "--output {0}/out: exists already and is not of such a job"),
    "labels": (None, ["{0}"], {"options": BatchOptions(probabilities=29)}, ConfigError, "--probabilities 29: the model has 28 labels"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, tiny_run, inputs, workers):
    prepare, names, settings, error, message = MISTAKES[name]
    if prepare is not None:
        prepare(inputs)
    with pytest.raises(error) as caught:
        score(tiny_run, *(each.format(inputs) for each in names), output=inputs / "out", **settings)
    assert str(caught.value).startswith(message.format(inputs)) and "\n" not in str(caught.value)
    assert not workers.numbers


def test_a_mistake_of_a_worker_is_raised_here(tiny_run, inputs, workers, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("emotion.scoring.batch.BatchScorer._load", lambda scorer: (_ for _ in ()).throw(ModelError("no model here")))
        with pytest.raises(ModelError, match="no model here"):
            score(tiny_run, inputs, output=tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("emotion.scoring.cluster_worker.read_part", lambda part: (_ for _ in ()).throw(OSError("disk on fire")))
        with pytest.raises(StorageError, match=r"out: cannot be written \(disk on fire\)$"):
            score(tiny_run, inputs, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "out.parquet"], "--engine ray: writes a folder of parquet files; give --output FOLDER, without the ending of a file"),
        (["--output", "-"], "--engine ray: writes a folder of parquet files; give --output FOLDER, without the ending of a file"),
        (["--output", "out", "--worker-cores", "0"], "--worker-cores 0: must be at least 1"),
        (["--output", "out", "--excel-safe"], "--excel-safe: is for scored csv files; give --output FILE.csv"),
        (["--output", "out", "--part-rows", "0"], "--part-rows 0: must be at least 1"),
        (["--output", "out", "data.id_column=id"], "data.id_column"),
    ],
)
def test_options_that_do_not_fit(options, message, monkeypatch):
    import evaluate

    monkeypatch.setattr("emotion.scoring.ray_engine.check_ray", lambda: None)
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--engine", "ray", "--input", "a.parquet", *options])
    with pytest.raises(ConfigError) as caught:
        evaluate.parse_arguments()
    assert str(caught.value).startswith(message)


def test_the_command(tiny_run, inputs, workers, tmp_path, monkeypatch, capsys):
    import evaluate

    monkeypatch.setattr("emotion.scoring.ray_engine.check_ray", lambda: None)
    options = ["--model", str(tiny_run), "--input", f"{inputs}/*.parquet", "--output", str(tmp_path / "out"), "--engine", "ray"]
    options += ["--probabilities", "all", "--taxonomy", "sentiment", "--threshold", "0.2", "--part-rows", "30"]
    monkeypatch.setattr("sys.argv", ["evaluate.py", *options])
    assert evaluate.main() == 0
    rows = pd.read_parquet(tmp_path / "out")
    parents = [name for name in map(str, rows) if name.startswith("probability_")]
    assert parents == [f"probability_{name}" for name in ("positive", "negative", "ambiguous", "neutral")] and len(rows) == 93
    scored = rows[rows.predicted_labels.notna()]
    is_predicted = np.array([[name.removeprefix("probability_") in labels for name in parents] for labels in scored.predicted_labels])
    assert len(scored) == 91 and is_predicted.any() and not is_predicted.all()
    is_near = np.isclose(scored[parents], 0.2, rtol=0, atol=1e-4)  # rounding may cross the threshold
    assert ((is_predicted == (scored[parents] >= 0.2)) | is_near).all(axis=None)
    assert re.fullmatch(
        rf"{tmp_path}/out: 93 rows in .* s \(.* rows/s\); 2 rows could not be scored, listed in {tmp_path}/out/_quarantine.tsv",
        capsys.readouterr().err.splitlines()[-1],
    )


def test_ray_that_is_not_installed_is_one_line(monkeypatch):
    import evaluate

    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest))
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--engine", "ray", "--input", "a.parquet", "--output", "out"])
    with pytest.raises(ConfigError) as caught:
        evaluate.parse_arguments()
    assert str(caught.value) == "--engine ray: ray is not installed: pip install -r requirements-ray.txt"


@pytest.mark.slow
def test_a_local_ray(tiny_run, inputs, tmp_path, monkeypatch):
    """The engine of a user's command, and the code of the page, on one cluster."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install -r requirements-ray.txt")
    expected, _ = score_alone(tiny_run, sorted(inputs.glob("*.parquet")), tmp_path / "one.parquet")
    (code,) = [block for block in list_blocks(ROOT / "docs" / "cluster.md", "python") if "import ray" in block]
    monkeypatch.chdir(tmp_path)
    inputs.rename("comments")
    found = {"env_vars": {"PYTHONPATH": str(ROOT)}}  # this process was not started in ROOT, as the scripts are
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27, runtime_env=found)
    try:
        score(tiny_run, "comments", output=tmp_path / "out", part_rows=16)
        exec(code.replace("runs/NAME", str(tiny_run)).replace("probabilities=3", 'probabilities="all", backend="numpy"'), {})
    finally:
        ray.shutdown()
    assert_same(tmp_path / "out", expected)
    assert_same(tmp_path / "scored", expected, is_sorted=False)


def test_a_cluster_that_does_not_answer_is_one_line(tiny_run, inputs, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="needs ray: pip install -r requirements-ray.txt")
    address = f"127.0.0.1:{find_free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError) as caught:
        score(tiny_run, inputs, output=tmp_path / "out")
    assert str(caught.value) == f"RAY_ADDRESS={address}: no Ray cluster can be used there ([Errno 111] Connection refused)"
