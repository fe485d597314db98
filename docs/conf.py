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

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
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
napoleon_numpy_docstring = False

# A name in `backticks` is a link where the reference has it, else it is code: see `_as_code`.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!personalab\.).*")]  # types of other libraries and of Python

AWAITED = ("models.md", "errors.md", "clusters.md", "cards.md", "batch-requests.md")
"""Pages that are being written elsewhere. One that is here is checked like any other; once all are, these lines go."""
_missing = [name for name in AWAITED if not Path(__file__).with_name(name).exists()]
nitpick_ignore = [("myst", name) for name in _missing]
suppress_warnings = ["toc.not_readable"] if _missing else []


def _code_blocks(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings set code off by four spaces, as in Markdown; reStructuredText wants to be told."""
    lines[:] = code_blocks("\n".join(lines)).split("\n")


def code_blocks(text: str) -> str:
    """A docstring with its indented blocks marked as code; what belongs to `Raises:` and the like is left alone."""
    return re.sub(r"(?<=\n\n)((?: {4,}.*\n|\n)* {4,}.*)(?=\n|\Z)", _marked, text)


def _marked(block: re.Match[str]) -> str:
    code = textwrap.dedent(block[1])
    try:
        compile(code, "docstring", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        language = "python"
    except SyntaxError:
        language = "text"
    return f".. code-block:: {language}\n\n{textwrap.indent(code, '   ')}\n"


def _short_defaults(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A default that is a whole record (the seven stages, say) is not spelt out."""
    if signature and len(signature) > 1_500:
        signature = re.sub(r"(: [^=()]+?) = \(?\w+\(.*", r"\1 = …)", signature, flags=re.DOTALL)
    return signature, returns


def _as_code(app: Any, env: Any, node: Any, content: Any) -> Any:
    """What stands in backticks and is no name of the reference: code and no link."""
    return content if node.get("reftype") == "obj" else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _code_blocks, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _short_defaults)
    app.connect("missing-reference", _as_code)
