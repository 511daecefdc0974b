"""The notebook in `examples/` runs from the first cell to the last."""

from pathlib import Path
from typing import Any

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[2] / "examples" / "encoder_layer.ipynb"


def outputs(notebook: Any, mime: str) -> list[str]:
    """Returns what all cells have shown in a format."""
    return [
        output["data"][mime]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if mime in output.get("data", {})
    ]


def test_it_runs() -> None:
    reader: Any = nbformat
    notebook = reader.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client: Any = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=str(NOTEBOOK.parent))
    shown = outputs(notebook, "text/html")
    # A program, two modules of IR, a result.
    assert "Program for sta-base" in shown[0]
    assert "nm.attention" in shown[1]
    assert "sta.mm" in shown[2]
    assert "MAC efficiency" in shown[3]
    assert len(shown) == 4
