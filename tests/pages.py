"""Pages of the documentation as a reader takes them: links to follow, files to write, commands and cells to run."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
DEMO = "personalab persona data/portraits/*.png"
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_NOT_RUN = re.compile(r"<!-- not run: .+ -->")
_NAMED = re.compile(r"`([\w.-]+)`:\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the file it is to be written to, and whether the page says that it is not run."""

    language: str
    text: str
    file: str | None = None
    run: bool = True

    @property
    def commands(self) -> list[str]:
        """Its lines of `personalab`, without comments, and what `make demo` runs."""
        lines = (line.split("  #")[0].strip() for line in self.text.splitlines())
        return [DEMO if line.startswith("make demo") else line for line in lines if line.startswith(("personalab ", "make demo"))]  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A page in Markdown."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def tokens(self) -> list[Token]:
        return _MARKDOWN.parse(self.text)

    def blocks(self) -> list[Block]:
        """Its fenced blocks, in order."""
        found, before = [], ""
        for token in self.tokens():
            if token.type == "fence":
                named = _NAMED.search(before)
                found.append(
                    Block(
                        language=token.info.strip(),
                        text=token.content,
                        file=named[1] if named and token.info.strip() == "markdown" else None,
                        run=not _NOT_RUN.search(before),
                    )
                )
            if token.type in ("inline", "html_block", "fence"):
                before = token.content
        return found

    def links(self) -> Iterator[str]:
        """Where its links and pictures lead, as written."""
        for token in self.tokens():
            for child in token.children or []:
                if target := child.attrs.get("href") or child.attrs.get("src"):
                    yield str(target)

    def anchors(self) -> set[str]:
        """The names of its headings, as GitHub and the site make them."""
        tokens = self.tokens()
        heads = [tokens[place + 1] for place, token in enumerate(tokens) if token.type == "heading_open"]
        names: set[str] = set()
        for head in heads:
            plain = "".join(
                child.content for child in head.children or [] if child.type in ("text", "code_inline")
            )
            name = anchor = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
            number = 0
            while anchor in names:
                number += 1
                anchor = f"{name}-{number}"
            names.add(anchor)
        return names

    async def play(self, folder: Path, names: dict[str, Any]) -> None:
        """Do what it says in a folder: write its files, run its commands and, as the cells of one notebook, its Python."""
        for block in self.blocks():
            if not block.run:
                continue
            if block.file:
                (folder / block.file).write_text(block.text, encoding="utf-8")
            for command in block.commands if block.language == "sh" else []:
                self._command(command, folder)
            if block.language == "python":
                code = compile(
                    block.text,
                    self.path.name,
                    "exec",
                    flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                    dont_inherit=True,
                )
                if (waiting := eval(code, names)) is not None:
                    await waiting

    def _command(self, command: str, folder: Path) -> None:
        words = [
            file
            for word in shlex.split(command)[1:]
            for file in (sorted(str(path) for path in folder.glob(word)) if "*" in word else [word])
        ]
        done = subprocess.run(
            [sys.executable, "-m", "personalab", *words],
            stdin=subprocess.DEVNULL,  # a chat would wait for somebody
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.path.name}: {command}: {done.stderr[-800:]}"


READMES = [Page(ROOT / "README.md"), Page(ROOT / "README.zh-CN.md")]
DOCS = [Page(path) for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
PAGES = [*READMES, Page(ROOT / "CHANGELOG.md"), Page(ROOT / "data" / "portraits" / "README.md"), *DOCS]
