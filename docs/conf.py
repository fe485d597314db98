"""How Sphinx builds the site: pages in Markdown, the reference from docstrings. `make docs`; nothing is fetched."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import personalab

project = "personalab"
author = copyright = "the personalab authors"  # noqa: A001
version = release = personalab.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
# The source folder is the project's, so that links between pages, READMEs and the changelog are the same here and on a forge.
include_patterns = ["docs/**", "README*.md", "CHANGELOG.md", "data/portraits/README.md"]
exclude_patterns = ["docs/_build", "docs/_templates"]
root_doc = "docs/index"
templates_path = [str(Path(__file__).with_name("_templates"))]
html_theme = "furo"
html_title = "personalab"
html_static_path: list[str] = []
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"

myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90

# A name in `backticks` is a link where the reference has it, else it is code: see `_as_code`.
default_role = "py:obj"
nitpicky = True

_LISTED = re.findall(
    r"^   personalab\.(\w+)$",
    "\n".join(page.read_text(encoding="utf-8") for page in Path(__file__).parent.glob("api/*.md")),
    re.MULTILINE,
)
nitpick_ignore_regex = [  # types in signatures that have no page: of others, of modules that nobody imports from, variables
    ("py:.*", rf"(?!personalab\.(?:{'|'.join(_LISTED)})\.).*"),
    ("py:class", r"personalab\.\w+\.(?:Asked|Function|Item|Result)"),
]


def _docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings set code off by four spaces, as in Markdown, and list errors; reStructuredText wants to be told."""
    text = raises(code_blocks("\n".join(lines)))
    # A dot in front would be taken for the role's own: `.env` is a file.
    lines[:] = re.sub(r"(?<![^\s(])`([.~!]\w[^`\n]*)`", r"``\1``", text).split("\n")


def raises(text: str) -> str:
    """A docstring with its `Raises:` as a list of fields."""
    return re.sub(
        r"^Raises:\n((?: {4}.*\n?)+)",
        lambda section: re.sub(r"^ {4}(?=\w+:)", ":raises ", section[1], flags=re.MULTILINE),
        text,
        flags=re.MULTILINE,
    )


def code_blocks(text: str) -> str:
    """A docstring with its code marked as such.

    Code is what is indented, what is Python (after one line of prose and nothing else Python takes the four spaces
    away), and what has lines drawn in it, as a tree has.
    """
    parts = text.split("\n\n")
    parts[1:] = [
        textwrap.indent(part, "    ") if "├" in part or _is_python(part) else part for part in parts[1:]
    ]
    return re.sub(r"(?<=\n\n)((?: {4,}.*\n|\n)* {4,}.*)(?=\n|\Z)", _marked, "\n\n".join(parts))


def _is_python(text: str) -> bool:
    """Whether it calls or assigns something at the margin; a sentence does not compile."""
    try:
        found = compile(text, "docstring", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(found))


def _marked(block: re.Match[str]) -> str:
    code = textwrap.dedent(block[1])
    return f".. code-block:: {'python' if _is_python(code) else 'text'}\n\n{textwrap.indent(code, '   ')}\n"


def _plain_signature(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Types without their validators, and a default that is a whole record (the seven stages, say) not spelt out."""
    if signature:
        signature = bare_types(signature)
        signature = re.sub(r" = \((?:~?[\w.]+\()+.*?\)(?=\)$)", " = ...", signature, flags=re.DOTALL)
        signature = signature.replace("<factory>", "...")
    return signature, returns


def bare_types(signature: str) -> str:
    """A signature with `Annotated[type, …]` as the type."""
    while (start := signature.find("Annotated[")) >= 0:
        begin = start + len("Annotated[")
        depth, end, comma = 1, begin, None
        while depth:
            mark = signature[end]
            depth += (mark in "[(") - (mark in "])")
            if mark == "," and depth == 1 and comma is None:
                comma = end
            end += 1
        before = signature[:start].removesuffix("~typing.").removesuffix("typing.")
        signature = before + signature[begin:comma] + signature[end:]
    return signature


def _as_code(app: Any, env: Any, node: Any, content: Any) -> Any:
    """What stands in backticks and is no name of the reference: code and no link."""
    return content if node.get("reftype") == "obj" else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _plain_signature)
    app.connect("missing-reference", _as_code)
