# SPDX-License-Identifier: Apache-2.0
"""The notebook runs from its first cell to its last, and its output is not kept in the repository."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).parents[2] / "examples" / "first-look.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(PATH, as_version=4)


def test_it_is_kept_without_output(notebook: Any) -> None:
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.e2e
@pytest.mark.soak
def test_it_runs(notebook: Any, tmp_path: Path) -> None:
    for cell in notebook.cells:
        cell.source = cell.source.replace("EPISODES = 24", "EPISODES = 4")
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    tables = [output["data"]["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert all(name in tables[0] for name in ("mine", "learned", "least-delay", "capacity-weighted"))
    assert (tmp_path / "comparison.tex").read_text().startswith("\\begin{table}")
