"""Prompt templates: what a file has to hold, and errors that name the variable."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.errors import PromptError
from personalab.prompts import as_prompt, open_prompt, parse_prompt
from personalab.stages import STAGES

GOOD = '---\nvariables: language, core_persona\n---\n# system\nWrite $language for $$5, keep {{char}} and {"a": 1}.\n# user\n<p>$core_persona</p>\n'


def test_a_template_renders_both_parts() -> None:
    """Holes are filled, dollars, braces and macros stay."""
    system, user = parse_prompt(GOOD, "x").render({"language": "中文", "core_persona": "{$x}", "unused": ""})
    assert system.text == 'Write 中文 for $5, keep {{char}} and {"a": 1}.'
    assert user.text == "<p>{$x}</p>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "must begin with a block"),
        (GOOD.replace("# user\n", ""), "needs the headings"),
        (GOOD.replace("variables: language, core_persona", "author: me"), "unknown setting 'author'"),
        (GOOD.replace("variables: language, core_persona", ""), "must list its variables"),
        (
            GOOD.replace("$language", "$langauge"),
            r"\$langauge is used but not listed; .*did you mean 'language'",
        ),
        (GOOD.replace("$language", "it"), "'language' is listed but never used"),
        (GOOD.replace("$$5", "$5"), r"a '\$' stands alone"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    """Every fault of a file is an error that says what and where."""
    with pytest.raises(PromptError, match=said):
        parse_prompt(text, "mine.md")


def test_a_missing_value_is_named() -> None:
    """Rendering without a value names the variable and the nearest one there is."""
    with pytest.raises(
        PromptError, match=r"x: unknown variable 'core_persona': did you mean 'core_personas'"
    ):
        parse_prompt(GOOD, "x").render({"language": "", "core_personas": ""})


def test_files_texts_and_templates(tmp_path: Path) -> None:
    """A template may be given as a path, as text or as itself; a missing file is an error that names it."""
    (tmp_path / "a.md").write_text(GOOD, encoding="utf-8")
    assert (
        open_prompt(tmp_path / "a.md").sha256
        == as_prompt(GOOD).sha256
        == as_prompt(str(tmp_path / "a.md")).sha256
    )
    with pytest.raises(PromptError, match=r"missing\.md: cannot be read"):
        as_prompt("missing.md")


@given(st.text(), st.text())
def test_values_are_never_templates(language: str, persona: str) -> None:
    """Whatever a value holds, it comes out as it went in."""
    _, user = parse_prompt(GOOD, "x").render({"language": language, "core_persona": persona})
    assert user.text == f"<p>{persona}</p>".strip()


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a template or a PromptError."""
    with contextlib.suppress(PromptError):
        parse_prompt(text, "x")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_prompts_that_ship(stage: object) -> None:
    """Each takes the language and the researcher's instructions, and says that all is fiction and adult where people are made."""
    prompt = stage.prompt  # type: ignore[attr-defined]
    assert {"language", "instructions"} <= set(prompt.variables)
    assert "JSON" in prompt.system
    assert "fiction" in prompt.system
