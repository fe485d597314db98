"""The house: layers, public names, what is loaded on import, one list of dependencies, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import personalab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "personalab"

# From the bottom up. A module imports only from lower rows; `__init__` and `__main__` stand on top of all.
LAYERS = [
    ["errors", "web_addresses", "memory", "warm_parent", "bell", "board"],
    [
        "power",
        "records",
        "tweet_text",
        "names",
        "tokens",
        "loops",
        "batch_rows",
        "allowance",
        "pace",
        "forked_kernels",
        "cluster_places",
        "place_book",
    ],
    ["dry"],
    [
        "agreement",
        "attributes",
        "config",
        "files",
        "prices",
        "schemas",
        "stats",
        "turns",
        "words",
        "rubrics",
        "parameters",
        "meters",
        "notebook_engines",
        "macros",
        "decorators",
    ],
    [
        "estimates",
        "quotas",
        "windows",
        "credentials",
        "recording",
        "notebooks",
        "reviews",
        "predictors",
        "connection_problems",
        "stores",
        "wave_files",
        "line_files",
    ],
    [
        "replies",
        "prompts",
        "cache",
        "claims",
        "budgets",
        "clients",
        "flights",
        "limits",
        "pauses",
        "tally",
        "dialect",
        "engines",
        "images",
        "card_format",
        "card_words",
        "rankings",
        "attribution",
        "diversity",
        "marked_words",
        "slop",
        "registry",
        "raters",
        "trial_grids",
        "exports",
        "decks",
    ],
    [
        "transport",
        "gate",
        "offline",
        "card_structure",
        "questions",
        "row_metrics",
        "set_metrics",
        "preferences",
        "grids",
        "contradictions",
        "trials",
        "sittings",
        "lorebooks",
        "lorebook_formats",
    ],
    ["batch_routes"],
    ["waves"],
    [
        "trial_frames",
        "trial_runs",
        "card_png",
        "charx",
        "card_lint",
        "metrics",
        "comparison_checks",
        "endpoints",
        "pairs",
        "browser",
    ],
    ["fleet", "review", "trial_stores", "cluster_plugins"],
    ["card_checks", "cards", "pool", "stages", "clusters"],
    [
        "personas",
        "views",
        "contrasts",
        "cache_folder",
        "embeddings",
        "chat_prompts",
        "transcripts",
        "endpoint_checks",
    ],
    ["calendars", "conversations", "runs", "progress", "comparison_views"],
    ["sweep_progress", "comparison", "batches", "tweets", "calendar_files", "judge"],
    ["pipeline", "planner", "tweet_files"],
    ["designs", "jobs"],
    ["experiment_plans"],
    ["experiments"],
    ["frames"],
    ["charts", "side_by_side", "tables", "persona_frames", "chat_frames"],
    ["widgets", "sweeps", "chat"],
    ["sweep_reports", "dry_sweeps"],
    ["commands"],
    ["cli"],
    ["__init__", "__main__"],
]
LEVEL = {module: level for level, row in enumerate(LAYERS) for module in row}


def imports(path: Path) -> set[str]:
    """The personalab modules a file imports, anywhere in it, by their first name below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("personalab."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "personalab":
            found |= {
                alias.name if (PACKAGE / f"{alias.name}.py").exists() else "__init__" for alias in node.names
            }
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    """No module imports from its own row or a higher one, not even inside a function."""
    inside = path.relative_to(PACKAGE).parts[0]
    name = inside.removesuffix(".py")
    for other in imports(path) - ({name} if inside == name else set()):
        if other == "__init__":
            assert name in ("cli",), f"{name} imports from the package itself"
        else:
            assert LEVEL[other] < LEVEL[name], f"{name} imports {other}, which is not below it"


def test_every_module_has_its_layer() -> None:
    """The list above is whole, and holds nothing that is gone."""
    there = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert there == set(LEVEL)


def test_public_names() -> None:
    """About a dozen, and each can be had."""
    assert personalab.__all__ == [
        "STAGES", "CharacterCard", "LLMPool", "PersonalabError", "Pipeline", "Run", "allow_nested", "find_runs",
        "load_run", "read_card", "run", "stage",
    ]  # fmt: skip
    for name in personalab.__all__:
        assert getattr(personalab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        personalab.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import personalab",
            ["pandas", "openai", "papermill", "ipywidgets", "pydantic", "PIL", "altair", "aiohttp"],
        ),
        (
            "from personalab import Pipeline",
            ["pandas", "openai", "papermill", "ipywidgets", "PIL", "altair", "aiohttp", "IPython"],
        ),
        ("import personalab.cli", ["pandas", "openai", "pydantic_settings", "PIL", "altair", "aiohttp"]),
    ],
)
def test_what_an_import_loads(statement: str, absent: list[str]) -> None:
    """Heavy libraries are loaded by the function that needs them."""
    code = f"import sys; {statement}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(absent) & set(loaded)


def test_asyncio_is_not_patched_on_import() -> None:
    """Neither import nor `run` applies nest-asyncio."""
    code = "import asyncio, sys, personalab; from personalab import run; run(asyncio.sleep(0)); sys.exit('nest_asyncio' in sys.modules or hasattr(asyncio, '_nest_patched'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_list_of_dependencies() -> None:
    """environment.yml brings Python and pip and installs pyproject's `all`; the Pythons agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert [part for part in conda if isinstance(part, str)] == [f"python{project['requires-python']}", "pip"]
    assert conda[-1] == {"pip": ["-e .[all]"]}
    assert set(project["optional-dependencies"]) == {
        "notebook", "prices", "cluster", "docs", "test", "all",
    }  # fmt: skip
    assert project["optional-dependencies"]["all"] == ["personalab[notebook,prices,cluster,docs,test]"]


def test_everything_imported_is_declared() -> None:
    """Each library that the package imports is in pyproject.toml, the optional ones too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["dependencies"] + [
        line for extra in project["optional-dependencies"].values() for line in extra
    ]
    declared = {re.split(r"[\[<>=~ ]", line)[0].lower().replace("-", "_") for line in listed}
    names = {
        "pil": "pillow",
        "dotenv": "python_dotenv",
        "vl_convert": "vl_convert_python",
        "ipython": "jupyterlab",
        "jupyter_client": "papermill",
        "nbclient": "papermill",
        "nbformat": "papermill",
        "yaml": "pyyaml",
    }
    used = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                used.add((node.module or "").split(".")[0])
    foreign = {name.lower() for name in used if name not in sys.stdlib_module_names and name != "personalab"}
    assert {names.get(name, name) for name in foreign} <= declared


def test_modules_stay_small() -> None:
    """At most 450 lines a module: split it or delete something."""
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > 450} == {}
