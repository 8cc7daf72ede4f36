"""The notebook runs from its first cell to its last, and its stored outputs have no error."""

import pandas as pd
import pytest

from tests.conftest import ROOT

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


def list_outputs(notebook):
    """Return the text of all outputs."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_stored_outputs_are_those_of_a_run_without_errors():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # run in order, all of them
    text = list_outputs(notebook)
    assert "gratitude" in text and "error" not in text and str(ROOT.parent) not in text


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.source.startswith("runs = "))
    assert 'settings = ""' in cell.source and '"runs"' in cell.source
    quick = "training.epochs=1 data.train_fraction=0.2 data.max_length=24"
    cell.source = cell.source.replace('settings = ""', f'settings = "{quick}"').replace('"runs"', f'"{tmp_path}"')
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert "error:" not in list_outputs(notebook)  # what a failing script prints: its cell goes on
    scored = pd.read_csv(tmp_path / "scored.csv")
    assert len(scored) == len(pd.read_csv(ROOT / "emotion" / "data" / "sample" / "train.csv"))
    assert "predicted_labels" in scored
