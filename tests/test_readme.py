"""What the README shows is run: its commands one by one, its Python blocks one after the other."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from conftest import PORTRAITS

from personalab.offline.server import OfflineServer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("  #")[0].strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
            for line in block.splitlines() if line.startswith("personalab ") and "offline" not in line]  # fmt: skip
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place with two of the portraits, and a provider that knows any model."""
    portraits = tmp_path / "data" / "portraits"
    portraits.mkdir(parents=True)
    for name in ("teal_turban", "silver_bun"):
        shutil.copy(PORTRAITS / f"{name}.png", portraits)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "pyproject.toml").touch()  # where results go: the folder of the project
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONALAB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("PERSONALAB_MODEL", "any")
    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield tmp_path


@pytest.mark.slow
def test_commands(folder: Path) -> None:
    """Each of them succeeds, in the order in which they stand."""
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        # Prices of a model called "any" are unknown, so a ceiling on cost is refused.
        words = [word.replace("5usd", "1000requests") for word in shlex.split(command)]
        files = [
            str(path) for word in words[1:] for path in (sorted(folder.glob(word)) if "*" in word else [word])
        ]
        done = subprocess.run(
            [sys.executable, "-m", "personalab", *files],
            stdin=subprocess.DEVNULL,  # a chat would wait for somebody
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-800:]}"


@pytest.mark.slow
def test_blocks(folder: Path) -> None:
    """They run as the cells of one notebook would."""
    names: dict[str, Any] = {"__name__": "readme"}

    async def cells() -> None:
        for block in BLOCKS:
            if "EndpointSettings" in block:  # servers that nobody has
                block = block.split("pipeline =")[0]
            code: CodeType = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if (waiting := eval(code, names)) is not None:
                await waiting

    assert len(BLOCKS) >= 5
    asyncio.run(cells())
    assert set(names["texts"]["image"]) == {"teal_turban", "silver_bun"}
    assert names["scores"]["score"].notna().all()
    assert (folder / "outputs" / "personas" / "teal_turban_persona.png").is_file()
    assert list((folder / "outputs" / "tweets").glob("*.json"))
