"""Notebooks are thin: a parameters cell, no functions, no outputs; papermill runs them with other parameters.

That each runs as it is, top to bottom, is nbmake's part (`make test`).
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS

from personalab.sweeps import plan_sweep

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    """The cells of a kind."""
    return [
        cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind
    ]


def source(cell: dict[str, Any]) -> str:
    """A cell's text."""
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path: Path) -> None:
    """One tagged parameters cell in front, few short cells, no functions or classes, no outputs, prose between."""
    code = cells(path)
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == code[:1]
    for cell in code:
        tree = compile(source(cell), path.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert not [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert len(source(cell).splitlines()) <= 15
    assert len(code) <= 16
    assert source(cells(path, "markdown")[0]).startswith(f"# {path.stem[:2]} · ")
    assert set(json.loads(path.read_text(encoding="utf-8"))["metadata"]) == {"kernelspec", "language_info"}


HAT, TIE = (str(PORTRAITS / f"{name}.png") for name in ("felt_hat", "red_tie"))
OTHERS = {
    "00_quickstart": {"image": HAT},
    "01_stages": {"image": HAT},
    "02_compare_prompts": {
        "images": [HAT, TIE],
        "stage": "social_network",
        "replicates": 1,
        "metric": "weighted_length",
    },
    "03_compare_temperatures": {"images": [HAT, TIE], "temperatures": [0.2, 1.4], "replicates": 2},
    "04_batch_personas": {"images": [HAT, TIE], "max_concurrent": 3},
    "05_calendar_and_tweets": {"images": [TIE], "month": "2027-02", "holidays": "CN", "count": 3},
    "06_sweep": {
        "notebook": str(NOTEBOOKS[0].with_name("03_compare_temperatures.ipynb")),
        "images": [HAT, TIE],
        "languages": ["中文", "English"],
        "replicates": 1,
    },
    "07_review_tweets": {"images": [HAT, TIE], "temperatures": [0.2, 1.4]},
    "08_talk": {"image": TIE, "user": "安"},
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_sweep_takes_them(path: Path) -> None:
    """Their parameters cells say what each parameter takes, well enough for the values they are run with."""
    assert len(plan_sweep(path, None, OTHERS[path.stem]).planned) == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_runs_them_with_other_parameters(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another image and language; the output notebook shows that they were used, and holds no key."""
    import papermill

    from personalab.engines import engine_name

    monkeypatch.setenv("PERSONALAB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("UNRELATED_API_KEY", "sk-MARKER-12345")
    parameters = {"language": "中文", **OTHERS[path.stem]}
    if path.stem.startswith(("00", "04")):
        parameters["out"] = str(tmp_path / "personas")
    executed = tmp_path / "executed.ipynb"
    papermill.execute_notebook(
        str(path), str(executed), parameters, engine_name=engine_name(), progress_bar=False
    )
    text = executed.read_text(encoding="utf-8")
    assert "MARKER" not in text
    shown = json.dumps([cell["outputs"] for cell in cells(executed)], ensure_ascii=False)
    assert any("\u4e00" <= mark <= "\u9fff" for mark in shown)
