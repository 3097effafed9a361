"""docs/walkthrough.ipynb runs from its first cell to its last, and shows what it says it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"
RUN = """
import sys
import nbformat
from nbclient import NotebookClient
given, out, place = sys.argv[1:]
notebook = nbformat.read(given, 4)
NotebookClient(notebook, timeout=240, kernel_name="python3",
               resources={"metadata": {"path": place}}).execute()
nbformat.write(notebook, out)
"""
"""In a program of its own: a kernel's client warns of what is not ours."""


def outputs(path: Path) -> list[str]:
    """Return what the cells printed and returned, as text."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found: list[Any] = [out for cell in cells for out in cell.get("outputs", ())]
    texts = [out.get("text") or out.get("data", {}).get("text/plain") or "" for out in found]
    return ["".join(text) for text in texts]


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_runs_from_a_log_to_a_bundle_that_finds_the_scan(tmp_path: Path) -> None:
    for name in ("tensorflow", "nbclient", "ipykernel"):
        if find_spec(name) is None:
            pytest.skip(f"there is no {name}")
    out = tmp_path / "done.ipynb"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)}
    environment.pop("MPLBACKEND", None)  # the kernel draws into its cells
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), str(out), str(tmp_path)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    said = "\n".join(outputs(out))
    assert float(re.search(r"AUC ([\d.]+) on Tuesday", said)[1]) > 0.9  # type: ignore[index]
    assert float(re.search(r"over the line: ([\d.]+)%", said)[1]) > 50  # type: ignore[index]
    assert "HIGH" in said
    assert "Traceback" not in said
    plots = [
        output
        for cell in json.loads(out.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(plots) == 3


def test_what_is_kept_of_it_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 200_000
    for word in ("/tmp", "/home/", "/root", "/work", "/usr", "C:\\\\", "stderr"):
        assert word not in text
    for cell in json.loads(text)["cells"]:
        compile("".join(cell["source"]), cell["id"], "exec") if cell[
            "cell_type"
        ] == "code" else None
