"""The tutorial's notebook runs from its first cell to its last, in a kernel of its own, on smaller volumes."""

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
for package in ("ipykernel", "nibabel", "scipy", "onnx", "onnxscript", "onnxruntime", "matplotlib"):
    pytest.importorskip(package)

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALLER = "SIZE, CASES, PATCH, WIDTH, DEPTH = 24, 4, 16, 8, 2\nSPARSITY, STEPS, FOLDS = 0.3, 120, 4"
IN_PLACE_OF = "parameters"
"""The tag of the cell whose numbers are made smaller."""


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(EXAMPLES / "tutorial.ipynb", as_version=4)


def test_it_holds_no_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 10
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_every_cell_runs(notebook: Any, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "volumes.py", tmp_path)
    (place,) = [k for k, cell in enumerate(notebook.cells) if IN_PLACE_OF in cell.metadata.get("tags", [])]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALLER))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=600, resources=where).execute()
    said = [
        output.data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    best, scores, (path, differences), shares = (ast.literal_eval(text) for text in said if text.startswith(("{", "(")))
    assert best["score"] > 0.3
    assert scores["score"] > 0.3
    assert (tmp_path / path).is_file()
    assert max(differences) < 1e-3
    assert min(shares.values()) > 0.8
