"""The notebook runs from its first cell to its last, and its stored outputs are those of a run without errors and without paths."""

import importlib.util
import re

import nbclient
import nbformat
import pandas as pd
import pytest

from tests.conftest import CAN_FORK, ROOT, SAMPLE, find_server, make_variables, write_launched_python
from tests.warm import SERVER

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
RUN = 'python, run, settings = sys.executable, Path("runs/notebook"), "training.epochs=3"'
"""The marked line of the notebook, up to its comment."""
QUICK = "training.epochs=1 data.train_fraction=0.1 data.max_length=16 training.validations_per_epoch=1"


def list_outputs(notebook):
    """Return the outputs of all cells as text, tables and streams alike."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    return [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]


def test_stored_outputs_are_those_of_a_run_without_errors():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 8 and [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # all of them, in order
    assert {output.name for cell in code for output in cell.outputs if output.output_type == "stream"} == {"stdout"}
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    text = "\n".join(list_outputs(notebook))
    assert "gratitude                    Thank you so much" in text and "test, " in text and "predicted_labels" in text
    assert not re.search(r"error:|Warning|(^|[\s'\"(])(/|~|[A-Z]:\\)\w", text)  # neither faults nor paths of a machine


def test_links_of_the_notebook_resolve():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    links = [link for cell in notebook.cells if cell.cell_type == "markdown" for link in re.findall(r"\]\(([^)]+)\)", cell.source)]
    assert len(links) >= 3 and all((NOTEBOOK.parent / link).is_file() for link in links)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("fcntl") is None, reason="its kernel starts commands in a terminal, which takes fcntl")
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = (cell for cell in notebook.cells if RUN in cell.source)
    run = tmp_path / "runs" / "quick"
    python = "sys.executable"
    if CAN_FORK:
        python = repr(str(write_launched_python()))
        monkeypatch.setenv(SERVER, str(find_server(make_variables())))
    cell.source = cell.source.replace(RUN, f"python, run, settings = {python}, Path({str(run)!r}), {QUICK!r}")
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    text = "\n".join(list_outputs(notebook))
    assert "error:" not in text  # what a script that fails prints: the notebook goes on
    assert "test, " in text and (run / "report" / "test" / "index.html").is_file()
    scored = pd.read_csv(run.with_suffix(".csv"))
    assert scored.id.tolist() == pd.read_csv(SAMPLE / "test.csv").id.tolist() and "predicted_labels" in scored
